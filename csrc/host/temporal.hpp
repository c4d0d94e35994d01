// The temporal stage as loops: see ../temporal.hpp.
#pragma once

#include <vector>

#include "../temporal.hpp"

namespace elir::host {

class TemporalAverage {
 public:
  // `last` is the state of this tile.
  void tile(const TemporalShape& shape, const float* image, float* decoded, float* last);

 private:
  std::vector<float> blocks_, levels_;
};

}  // namespace elir::host
