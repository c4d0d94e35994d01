// Still regions: which tiles' input changed, and what is kept of it.
#include "error.hpp"
#include "numbers.cuh"
#include "still.hpp"

namespace elir::cuda {

namespace {

template <typename Word>
__device__ inline const Word* row_of(const DevicePlanes& frame, int plane, int y) {
  return reinterpret_cast<const Word*>(frame.data[plane] + y * frame.pitch[plane]);
}

// One thread per block of 8x8 pixels; blockIdx.y is the plane, blockIdx.z the tile.
template <typename Word>
__global__ void compare_inputs(const PlaneInput* parts, DevicePlanes frame, const Word* kept,
                               std::int64_t tolerance256, int* changed) {
  const int plane = static_cast<int>(blockIdx.y), tile = static_cast<int>(blockIdx.z);
  const PlaneInput part = parts[tile * kMaxPlanes + plane];
  const int columns = (part.words + part.block - 1) / part.block;
  const int rows = (part.rows + kStillBlock - 1) / kStillBlock;
  const int at = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (at >= columns * rows) return;
  const int top = at / columns * kStillBlock, left = at % columns * part.block;
  const int bottom = min(top + kStillBlock, part.rows), right = min(left + part.block, part.words);
  std::int64_t sum = 0;
  for (int y = top; y < bottom; ++y) {
    const Word* now = row_of<Word>(frame, plane, part.top + y) + part.left;
    const Word* before = kept + part.kept + std::int64_t(y) * part.words;
    for (int x = left; x < right; ++x) {
      const int difference = static_cast<int>(now[x]) - static_cast<int>(before[x]);
      sum += difference < 0 ? -difference : difference;
    }
  }
  if (is_changed(sum, std::int64_t(bottom - top) * (right - left), tolerance256)) changed[tile] = 1;
}

// One thread per word.
template <typename Word>
__global__ void keep_inputs(const PlaneInput* parts, DevicePlanes frame, Word* kept, const int* wanted) {
  const int plane = static_cast<int>(blockIdx.y), tile = static_cast<int>(blockIdx.z);
  if (wanted[tile] == 0) return;
  const PlaneInput part = parts[tile * kMaxPlanes + plane];
  const std::int64_t at = std::int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= std::int64_t(part.rows) * part.words) return;
  const int y = static_cast<int>(at / part.words), x = static_cast<int>(at % part.words);
  kept[part.kept + at] = row_of<Word>(frame, plane, part.top + y)[part.left + x];
}

dim3 grid_of(const StillView& view, std::int64_t threads) {
  return {blocks(threads), static_cast<unsigned>(view.planes), static_cast<unsigned>(view.tiles)};
}

}  // namespace

void launch_compare_inputs(cudaStream_t stream, const StillView& view, const DevicePlanes& frame,
                           std::int64_t tolerance256, int* changed) {
  const dim3 grid = grid_of(view, view.most_blocks);
  forget_errors();
  if (view.word == 1) {
    compare_inputs<<<grid, kThreads, 0, stream>>>(
        view.parts, frame, static_cast<const std::uint8_t*>(view.kept), tolerance256, changed);
  } else {
    compare_inputs<<<grid, kThreads, 0, stream>>>(
        view.parts, frame, static_cast<const std::uint16_t*>(view.kept), tolerance256, changed);
  }
  check_launch("compare_inputs");
}

void launch_keep_inputs(cudaStream_t stream, const StillView& view, const DevicePlanes& frame,
                        const int* wanted) {
  const dim3 grid = grid_of(view, view.most_words);
  forget_errors();
  if (view.word == 1) {
    keep_inputs<<<grid, kThreads, 0, stream>>>(view.parts, frame, static_cast<std::uint8_t*>(view.kept),
                                               wanted);
  } else {
    keep_inputs<<<grid, kThreads, 0, stream>>>(view.parts, frame, static_cast<std::uint16_t*>(view.kept),
                                               wanted);
  }
  check_launch("keep_inputs");
}

}  // namespace elir::cuda
