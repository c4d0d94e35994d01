// Stage temporal: restored frames averaged with those before where nothing but noise changed.
#include "error.hpp"
#include "launches.hpp"
#include "numbers.cuh"

namespace elir::cuda {

namespace {

template <typename T>
__device__ inline void read_pixel(const T* plane, std::ptrdiff_t size, float (&to)[3]) {
#pragma unroll
  for (int c = 0; c < 3; ++c) to[c] = widen(plane[c * size]);
}

__device__ inline void clip(float (&pixel)[3]) {
#pragma unroll
  for (float& value : pixel) value = clip_unit(value);
}

// What belongs to the tile of this row of blocks of threads.
__device__ inline std::ptrdiff_t of_tile(std::ptrdiff_t size) {
  return static_cast<std::ptrdiff_t>(blockIdx.z) * size;
}

// The four sums of every block of 8x8 pixels; one thread for each.
template <typename T>
__global__ void temporal_blocks(const T* __restrict__ images, const T* __restrict__ decoded,
                                const float* __restrict__ state, TemporalShape shape,
                                float* __restrict__ maps) {
  const int at = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int blocks = static_cast<int>(shape.blocks());
  if (at >= blocks) return;
  const std::ptrdiff_t plane = shape.plane();
  const T* image = images + of_tile(3 * plane);
  const T* output = decoded + of_tile(3 * plane);
  const float* last = state + of_tile(static_cast<std::ptrdiff_t>(kTemporalPlanes) * plane);
  const int top = at / shape.columns * kTemporalBlock, left = at % shape.columns * kTemporalBlock;
  const int bottom = min(top + kTemporalBlock, shape.height), right = min(left + kTemporalBlock, shape.width);
  TemporalBlock sum{0.0F, 0.0F, 0.0F, 0.0F};
  for (int y = top; y < bottom; ++y) {
    const std::ptrdiff_t down = y + 1 < shape.height ? shape.width : 0;
    for (int x = left; x < right; ++x) {
      const std::ptrdiff_t pixel = std::ptrdiff_t(y) * shape.width + x;
      const std::ptrdiff_t across = x + 1 < shape.width ? 1 : 0;
      float taken[3], restored[3], before[3], beside[3], below[3];
      read_pixel(image + pixel, plane, taken);
      read_pixel(output + pixel, plane, restored);
      read_pixel(last + pixel, plane, before);
      read_pixel(last + pixel + across, plane, beside);
      read_pixel(last + pixel + down, plane, below);
      clip(restored);
      const float grey = before[0] + before[1] + before[2];
      const TemporalBlock more =
          temporal_sums(taken, restored, before, beside[0] + beside[1] + beside[2] - grey,
                        below[0] + below[1] + below[2] - grey);
      sum.change += more.change;
      sum.drift += more.drift;
      sum.noise += more.noise;
      sum.activity += more.activity;
    }
  }
  const TemporalBlock block = temporal_means(sum, (bottom - top) * (right - left));
  float* to = maps + of_tile(static_cast<std::ptrdiff_t>(kTemporalMaps) * blocks) + at;
  to[0] = block.change;
  to[blocks] = block.drift;
  to[2 * blocks] = block.noise;
  to[3 * blocks] = block.activity;
}

// The two levels of every block, behind its sums; one thread for each.
__global__ void temporal_levels(TemporalShape shape, float* __restrict__ maps) {
  const int at = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int blocks = static_cast<int>(shape.blocks());
  if (at >= blocks) return;
  float* own = maps + of_tile(static_cast<std::ptrdiff_t>(kTemporalMaps) * blocks);
  const TemporalLevel level = temporal_level(own, shape, at / shape.columns, at % shape.columns);
  own[4 * blocks + at] = level.change;
  own[5 * blocks + at] = level.flicker;
}

// One thread for each pixel.
template <typename T>
__global__ void temporal_average(const float* __restrict__ maps, TemporalShape shape, T* __restrict__ decoded,
                                 float* __restrict__ state) {
  const int x = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int y = static_cast<int>(blockIdx.y);
  if (x >= shape.width || y >= shape.height) return;
  const std::ptrdiff_t plane = shape.plane();
  const std::ptrdiff_t blocks = shape.blocks();
  const float* levels = maps + of_tile(static_cast<std::ptrdiff_t>(kTemporalMaps) * blocks) + 4 * blocks;
  const BetweenBlocks v(y), u(x);
  const std::ptrdiff_t above = std::ptrdiff_t(temporal::clamped(v.first, shape.rows)) * shape.columns;
  const std::ptrdiff_t below = std::ptrdiff_t(temporal::clamped(v.first + 1, shape.rows)) * shape.columns;
  const int left = temporal::clamped(u.first, shape.columns);
  const int right = temporal::clamped(u.first + 1, shape.columns);
  const auto between = [&](const float* map) {
    const float first = map[above + left] + (map[below + left] - map[above + left]) * v.part;
    const float next = map[above + right] + (map[below + right] - map[above + right]) * v.part;
    return first + (next - first) * u.part;
  };
  T* value = decoded + of_tile(3 * plane) + std::ptrdiff_t(y) * shape.width + x;
  float* last = state + of_tile(static_cast<std::ptrdiff_t>(kTemporalPlanes) * plane) +
                std::ptrdiff_t(y) * shape.width + x;
  float found[3], pixel[3], difference[3];
  read_pixel(value, plane, found);
  float largest = 0.0F;
#pragma unroll
  for (int c = 0; c < 3; ++c) {
    pixel[c] = clip_unit(found[c]);
    difference[c] = pixel[c] - last[c * plane];
    largest = max(largest, difference[c] * difference[c]);
  }
  const float frames = temporal_frames(between(levels), between(levels + blocks), largest, last[3 * plane]);
  const float part = 1.0F / (frames + 1.0F);
#pragma unroll
  for (int c = 0; c < 3; ++c) {
    if (part < 1.0F) pixel[c] = last[c * plane] + part * difference[c];
    last[c * plane] = pixel[c];
    if (is_finite(found[c])) value[c * plane] = narrow<T>(pixel[c]);
  }
  last[3 * plane] = frames + 1.0F;
}

}  // namespace

void launch_average_over_time(cudaStream_t stream, Element element, const TemporalShape& shape,
                              std::size_t tiles, const void* images, void* decoded, float* state,
                              float* maps) {
  const auto depth = static_cast<unsigned>(tiles);
  const dim3 grid{blocks(shape.blocks()), 1, depth};
  const dim3 pixels{blocks(shape.width), static_cast<unsigned>(shape.height), depth};
  forget_errors();
  with_type(element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    temporal_blocks<<<grid, kThreads, 0, stream>>>(static_cast<const T*>(images),
                                                   static_cast<const T*>(decoded),
                                                   static_cast<const float*>(state), shape, maps);
  });
  check_launch("temporal_blocks");
  temporal_levels<<<grid, kThreads, 0, stream>>>(shape, maps);
  check_launch("temporal_levels");
  with_type(element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    temporal_average<<<pixels, kThreads, 0, stream>>>(static_cast<const float*>(maps), shape,
                                                      static_cast<T*>(decoded), state);
  });
  check_launch("temporal_average");
}

}  // namespace elir::cuda
