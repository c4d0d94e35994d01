#include "still.hpp"

#include <algorithm>

#include "ranges.hpp"

namespace elir::cuda {

StillView KeptInputs::view() const {
  return {
      parts_.get(), static_cast<int>(plan_.tiles.size()), plan_.planes, plan_.word, most_words_, most_blocks_,
      kept_.get()};
}

void KeptInputs::prepare(const Transfers& transfers, const StillPlan& plan) {
  plan_ = plan;
  std::vector<PlaneInput> parts;
  most_words_ = most_blocks_ = 0;
  for (const TileInput& tile : plan.tiles) {
    for (const PlaneInput& part : tile) {
      parts.push_back(part);
      if (part.block == 0) continue;
      const int columns = (part.words + part.block - 1) / part.block;
      const int rows = (part.rows + kStillBlock - 1) / kStillBlock;
      most_words_ = std::max(most_words_, std::int64_t(part.rows) * part.words);
      most_blocks_ = std::max(most_blocks_, std::int64_t(rows) * columns);
    }
  }
  parts_ = transfers.array(parts);
  kept_ = transfers.allocate_zeros(std::size_t(plan.words) * std::size_t(plan.word));
  changed_ = allocate_pinned<int>(ordinal_, plan.tiles.size());
  wanted_ = allocate_pinned<int>(ordinal_, plan.tiles.size());
}

void KeptInputs::compare(cudaStream_t stream, const DevicePlanes& frame, std::uint8_t* changed) {
  const Range range("compare");
  const std::size_t tiles = plan_.tiles.size();
  std::fill(changed_.get(), changed_.get() + tiles, 0);
  launch_compare_inputs(stream, view(), frame, plan_.tolerance256, device_address(changed_.get()));
  compared_.record(stream);
  compared_.wait();
  for (std::size_t tile = 0; tile < tiles; ++tile) changed[tile] = changed_.get()[tile] != 0 ? 1 : 0;
}

void KeptInputs::keep(cudaStream_t stream, const DevicePlanes& frame, const std::vector<bool>& tiles) {
  const Range range("keep");
  // What was kept of the frame before was done when this frame had been compared.
  for (std::size_t tile = 0; tile < tiles.size(); ++tile) wanted_.get()[tile] = tiles[tile] ? 1 : 0;
  launch_keep_inputs(stream, view(), frame, device_address(wanted_.get()));
}

}  // namespace elir::cuda
