// Stage temporal: restored frames averaged with those before where nothing but noise changed.
#include "error.hpp"
#include "launches.hpp"
#include "numbers.cuh"

namespace elir::cuda {

namespace {

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
  const std::ptrdiff_t image = of_tile(3 * shape.plane());
  const TemporalBlock block =
      temporal_block(images + image, decoded + image,
                     state + of_tile(static_cast<std::ptrdiff_t>(kTemporalPlanes) * shape.plane()), shape,
                     at / shape.columns, at % shape.columns, [](T value) { return widen(value); });
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
  T* value = decoded + of_tile(3 * plane) + std::ptrdiff_t(y) * shape.width + x;
  const float found[3] = {widen(value[0]), widen(value[plane]), widen(value[2 * plane])};
  float pixel[3] = {clip_unit(found[0]), clip_unit(found[1]), clip_unit(found[2])};
  temporal_pixel(maps + of_tile(static_cast<std::ptrdiff_t>(kTemporalMaps) * blocks) + 4 * blocks, shape, y,
                 x, pixel, state + of_tile(static_cast<std::ptrdiff_t>(kTemporalPlanes) * plane));
#pragma unroll
  for (int c = 0; c < 3; ++c) {
    if (is_finite(found[c])) value[c * plane] = narrow<T>(pixel[c]);
  }
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
