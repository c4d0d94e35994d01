// What is kept of frames on the host, to be compared: see ../still.hpp.
#pragma once

#include <cstdint>
#include <vector>

#include "../still.hpp"

namespace elir::host {

class KeptInputs {
 public:
  void prepare(const StillPlan& plan);
  // Writes for each tile whether the frame's part of it differs from what is kept.
  void compare(const Planes& frame, std::uint8_t* changed) const;
  void keep(const Planes& frame, const std::vector<bool>& tiles);

 private:
  template <typename Word>
  bool differs(const Planes& frame, const TileInput& input) const;

  StillPlan plan_;
  std::vector<std::uint8_t> memory_;
  mutable std::vector<std::uint32_t> sums_;  // of the blocks of a row
};

}  // namespace elir::host
