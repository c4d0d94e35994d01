// The temporal stage as loops over rows: see ../temporal.hpp.
#pragma once

#include <vector>

#include "../temporal.hpp"

namespace elir::host {

class TemporalAverage {
 public:
  // `last` is the state of this tile; `maps` has room for its blocks.
  void tile(const TemporalShape& shape, const float* image, float* decoded, float* last, float* maps);

 private:
  // Sums over the rows of a row of blocks, by column of pixels.
  void add_row(const TemporalShape& shape, int y, const float* image, const float* decoded,
               const float* last);
  // The levels at the pixels of a row.
  void spread_row(const TemporalShape& shape, int y, const float* levels);
  void average_row(const TemporalShape& shape, int y, float* decoded, float* last) const;

  std::vector<float> change_, drift_, noise_, activity_;
  std::vector<float> mixed_, ratio_, flicker_;
};

}  // namespace elir::host
