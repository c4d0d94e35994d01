// Stages of the latent: its noise, its start, and its steps.
#include "error.hpp"
#include "launches.hpp"
#include "numbers.cuh"

namespace elir::cuda {

namespace {

// One thread per cell and group of four channels. `params` null: noise that stays.
__global__ void draw_noise(std::uint64_t seed, const DeviceFrameParams* params, int channels, int height,
                           int width, float* field) {
  const int x = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int y = static_cast<int>(blockIdx.y);
  const int group = static_cast<int>(blockIdx.z);
  if (x >= width || y >= height) return;
  const std::uint32_t number = params == nullptr ? 0U : params->number;
  const Normals drawn = normals(seed, static_cast<std::uint32_t>(x), static_cast<std::uint32_t>(y),
                                static_cast<std::uint32_t>(group), number);
  const std::ptrdiff_t plane = std::ptrdiff_t(height) * width;
  float* out = field + 4 * group * plane + std::ptrdiff_t(y) * width + x;
  const int used = min(4, channels - 4 * group);
  for (int k = 0; k < used; ++k) out[k * plane] = drawn.v[k];
}

// The row that the next step's velocity reads, by the first threads of so many: there is no copy of its own.
__device__ inline void copy_row(const ConditionRow& row, std::int64_t thread, std::int64_t threads) {
  const auto* from = static_cast<const std::uint16_t*>(row.from);
  auto* to = static_cast<std::uint16_t*>(row.to);
  const std::int64_t halves = static_cast<std::int64_t>(row.bytes / 2);
  for (std::int64_t i = thread; i < halves; i += threads) to[i] = from[i];
}

// One thread per four cells of a row of the tile's latent; blockIdx.z is the channel.
template <typename T>
__global__ void start_latent(const T* __restrict__ coarse, float sigma, NoiseView noise, LatentShape shape,
                             float* __restrict__ latent_fp32, T* __restrict__ latent, ConditionRow next) {
  const std::int64_t block = (std::int64_t(blockIdx.z) * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  copy_row(next, block * blockDim.x + threadIdx.x,
           std::int64_t(gridDim.x) * gridDim.y * gridDim.z * blockDim.x);
  const int x = kWide * static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int y = static_cast<int>(blockIdx.y);
  const int channel = static_cast<int>(blockIdx.z);
  if (x >= shape.width || y >= shape.height) return;
  const int count = min(kWide, shape.width - x);
  const std::ptrdiff_t at = (std::ptrdiff_t(channel) * shape.height + y) * shape.width + x;
  float value[kWide];
  read_row(coarse + at, count, value);
  if (noise.field != nullptr) {
    float drawn[kWide];
    const std::ptrdiff_t row = std::ptrdiff_t(channel) * noise.height + noise.top + y;
    read_row(noise.field + row * noise.width + noise.left + x, count, drawn);
#pragma unroll
    for (int i = 0; i < kWide; ++i) value[i] = value[i] + sigma * drawn[i];
  }
  write_row(value, count, latent_fp32 + at);
  if (latent != nullptr) write_row(value, count, latent + at);
}

// One thread per four numbers. `latent` null: the float32 latent itself is what the engine reads.
template <typename T>
__global__ void step_latent(const T* __restrict__ velocity, float step, std::int64_t size,
                            float* __restrict__ latent_fp32, T* __restrict__ latent, ConditionRow next) {
  const std::int64_t thread = std::int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  copy_row(next, thread, std::int64_t(gridDim.x) * blockDim.x);
  const std::int64_t at = kWide * thread;
  if (at >= size) return;
  const int count = static_cast<int>(min(std::int64_t(kWide), size - at));
  float value[kWide], slope[kWide];
  read_row(latent_fp32 + at, count, value);
  read_row(velocity + at, count, slope);
#pragma unroll
  for (int i = 0; i < kWide; ++i) value[i] = euler_step(value[i], slope[i], step);
  write_row(value, count, latent_fp32 + at);
  if (latent != nullptr) write_row(value, count, latent + at);
}

}  // namespace

void launch_draw_noise(cudaStream_t stream, std::uint64_t seed, const DeviceFrameParams* params, int channels,
                       int height, int width, float* field) {
  const dim3 grid{blocks(width), static_cast<unsigned>(height), static_cast<unsigned>((channels + 3) / 4)};
  forget_errors();
  draw_noise<<<grid, kThreads, 0, stream>>>(seed, params, channels, height, width, field);
  check_launch("draw_noise");
}

void launch_start(cudaStream_t stream, Element element, const void* coarse, float sigma,
                  const NoiseView& noise, LatentShape shape, float* latent_fp32, void* latent,
                  const ConditionRow& next) {
  const dim3 grid = rows_of_four(shape.width, shape.height, shape.channels);
  forget_errors();
  with_type(element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    start_latent<<<grid, kThreads, 0, stream>>>(static_cast<const T*>(coarse), sigma, noise, shape,
                                                latent_fp32, static_cast<T*>(latent), next);
  });
  check_launch("start_latent");
}

void launch_step(cudaStream_t stream, Element element, const void* velocity, float step, std::int64_t size,
                 float* latent_fp32, void* latent, const ConditionRow& next) {
  const unsigned grid = blocks((size + kWide - 1) / kWide);
  forget_errors();
  with_type(element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    step_latent<<<grid, kThreads, 0, stream>>>(static_cast<const T*>(velocity), step, size, latent_fp32,
                                               static_cast<T*>(latent), next);
  });
  check_launch("step_latent");
}

}  // namespace elir::cuda
