// The stages as kernels. What is computed per element is in kernels.hpp; here is who computes which.
//
// Threads take four neighbours of a row where the addresses allow 16 (or 8, or 4) bytes at once, else one at
// a time; every index is checked against the size.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "../kernels.hpp"

namespace elir::cuda {

constexpr int kThreads = 256;
constexpr int kWide = 4;

__device__ inline float widen(float value) {
  return value;
}
__device__ inline float widen(__half value) {
  return __half2float(value);
}
__device__ inline float widen(__nv_bfloat16 value) {
  return __bfloat162float(value);
}

template <typename T>
__device__ inline T narrow(float value);
template <>
__device__ inline float narrow<float>(float value) {
  return value;
}
template <>
__device__ inline __half narrow<__half>(float value) {
  return __float2half_rn(value);
}
template <>
__device__ inline __nv_bfloat16 narrow<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

template <typename T>
struct alignas(kWide * sizeof(T)) Four {
  T v[kWide];
};

template <typename T>
__device__ inline bool can_read_four(const T* address) {
  return reinterpret_cast<std::uintptr_t>(address) % (kWide * sizeof(T)) == 0;
}

// `count` (at most four) numbers from `from`, as float.
template <typename T>
__device__ inline void read_row(const T* from, int count, float (&to)[kWide]) {
  if (count == kWide && can_read_four(from)) {
    const Four<T> read = *reinterpret_cast<const Four<T>*>(from);
#pragma unroll
    for (int i = 0; i < kWide; ++i) to[i] = widen(read.v[i]);
    return;
  }
#pragma unroll
  for (int i = 0; i < kWide; ++i) to[i] = i < count ? widen(from[i]) : 0.0F;
}

template <typename T>
__device__ inline void write_row(const float (&from)[kWide], int count, T* to) {
  if (count == kWide && can_read_four(to)) {
    Four<T> written;
#pragma unroll
    for (int i = 0; i < kWide; ++i) written.v[i] = narrow<T>(from[i]);
    *reinterpret_cast<Four<T>*>(to) = written;
    return;
  }
#pragma unroll
  for (int i = 0; i < kWide; ++i) {
    if (i < count) to[i] = narrow<T>(from[i]);
  }
}

// Taps of one axis, in device memory; see Taps in geometry.hpp.
struct DeviceTaps {
  const int* first;
  const float* weight;
  int count;
};

// Packed pixels of a frame to planar numbers in [0, 1]. One thread per four pixels of a row.
template <typename T>
__global__ void load_frame(const std::uint8_t* __restrict__ frame, int frame_width, DeviceTaps rows,
                           DeviceTaps columns, int red, int height, int width, T* __restrict__ image) {
  const int x0 = kWide * static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int y = static_cast<int>(blockIdx.y);
  if (x0 >= width || y >= height) return;
  const int count = min(kWide, width - x0);
  const std::ptrdiff_t plane = std::ptrdiff_t(height) * width;
  const std::ptrdiff_t stride = std::ptrdiff_t(frame_width) * 3;
  const std::uint8_t* source = frame + rows.first[y] * stride;
  float found[3][kWide] = {};
  if (rows.count == 1 && columns.count == 1) {
    const int first = columns.first[x0];
    const std::uint8_t* pixels = source + std::ptrdiff_t(first) * 3;
    const bool together = count == kWide && columns.first[x0 + kWide - 1] == first + kWide - 1 &&
                          columns.first[x0 + 1] == first + 1 &&
                          reinterpret_cast<std::uintptr_t>(pixels) % 4 == 0;
    if (together) {
      const auto* words = reinterpret_cast<const std::uint32_t*>(pixels);
      const std::uint32_t read[3] = {words[0], words[1], words[2]};
#pragma unroll
      for (int i = 0; i < kWide; ++i) {
#pragma unroll
        for (int c = 0; c < 3; ++c) {
          const int byte = 3 * i + c;
          found[c][i] = from_uint8(static_cast<std::uint8_t>(read[byte / 4] >> (8 * (byte % 4))));
        }
      }
    } else {
      for (int i = 0; i < count; ++i) {
        const std::uint8_t* pixel = source + std::ptrdiff_t(columns.first[x0 + i]) * 3;
        for (int c = 0; c < 3; ++c) found[c][i] = from_uint8(pixel[c]);
      }
    }
  } else {
    // Rows first, then columns, skipping weights of zero as the host does: the same sums in the same order.
    const float* down = rows.weight + std::ptrdiff_t(y) * rows.count;
    for (int i = 0; i < count; ++i) {
      const float* along = columns.weight + std::ptrdiff_t(x0 + i) * columns.count;
      const std::uint8_t* corner = source + std::ptrdiff_t(columns.first[x0 + i]) * 3;
      for (int c = 0; c < 3; ++c) {
        float sum = 0.0F;
        for (int j = 0; j < columns.count; ++j) {
          float mixed = 0.0F;
          for (int k = 0; k < rows.count; ++k) {
            if (down[k] != 0.0F) mixed += down[k] * from_uint8(corner[k * stride + 3 * j + c]);
          }
          sum += along[j] * mixed;
        }
        found[c][i] = clip_unit(sum);
      }
    }
  }
  T* out = image + std::ptrdiff_t(y) * width + x0;
  write_row(found[red], count, out);
  write_row(found[1], count, out + plane);
  write_row(found[2 - red], count, out + 2 * plane);
}

// One thread per cell and group of four channels. `frame` is read from memory where a recording is replayed.
static __global__ void draw_noise(std::uint64_t seed, const std::uint32_t* frame, int channels, int height,
                                  int width, float* field) {
  const int x = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int y = static_cast<int>(blockIdx.y);
  const int group = static_cast<int>(blockIdx.z);
  if (x >= width || y >= height) return;
  const std::uint32_t number = frame == nullptr ? 0U : *frame;
  const Normals drawn = normals(seed, static_cast<std::uint32_t>(x), static_cast<std::uint32_t>(y),
                                static_cast<std::uint32_t>(group), number);
  const std::ptrdiff_t plane = std::ptrdiff_t(height) * width;
  float* out = field + 4 * group * plane + std::ptrdiff_t(y) * width + x;
  const int used = min(4, channels - 4 * group);
  for (int k = 0; k < used; ++k) out[k * plane] = drawn.v[k];
}

// One thread per four cells of a row of the tile's latent; blockIdx.z is the channel.
template <typename T>
__global__ void start_latent(const T* __restrict__ coarse, const float* __restrict__ field, float sigma,
                             int field_height, int field_width, int top, int left, int height, int width,
                             float* __restrict__ state, T* __restrict__ latent) {
  const int x = kWide * static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int y = static_cast<int>(blockIdx.y);
  const int channel = static_cast<int>(blockIdx.z);
  if (x >= width || y >= height) return;
  const int count = min(kWide, width - x);
  const std::ptrdiff_t at = (std::ptrdiff_t(channel) * height + y) * width + x;
  float value[kWide];
  read_row(coarse + at, count, value);
  if (field != nullptr) {
    float noise[kWide];
    read_row(field + (std::ptrdiff_t(channel) * field_height + top + y) * field_width + left + x, count,
             noise);
#pragma unroll
    for (int i = 0; i < kWide; ++i) value[i] = value[i] + sigma * noise[i];
  }
  write_row(value, count, state + at);
  if (latent != nullptr) write_row(value, count, latent + at);
}

// One thread per four numbers. `latent` null: the state itself is what the engine reads.
template <typename T>
__global__ void step_latent(const T* __restrict__ velocity, float step, std::int64_t size,
                            float* __restrict__ state, T* __restrict__ latent) {
  const std::int64_t at = kWide * (std::int64_t(blockIdx.x) * blockDim.x + threadIdx.x);
  if (at >= size) return;
  const int count = static_cast<int>(min(std::int64_t(kWide), size - at));
  float value[kWide], slope[kWide];
  read_row(state + at, count, value);
  read_row(velocity + at, count, slope);
#pragma unroll
  for (int i = 0; i < kWide; ++i) value[i] = euler_step(value[i], slope[i], step);
  write_row(value, count, state + at);
  if (latent != nullptr) write_row(value, count, latent + at);
}

// Planar numbers of a tile to packed pixels. One thread per four pixels of a row. With `sum`, pixels are
// added up there instead. `broken` becomes 1 where a value is not finite.
template <typename T>
__global__ void store_frame(const T* __restrict__ decoded, int height, int width, int engine_height,
                            int engine_width, int top, int left, int frame_width, int red,
                            std::uint8_t* __restrict__ frame, float* __restrict__ sum, int* broken) {
  const int x0 = kWide * static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int y = static_cast<int>(blockIdx.y);
  if (x0 >= width || y >= height) return;
  const int count = min(kWide, width - x0);
  const std::ptrdiff_t plane = std::ptrdiff_t(engine_height) * engine_width;
  const T* from = decoded + std::ptrdiff_t(y) * engine_width + x0;
  float found[3][kWide];
  read_row(from, count, found[red]);
  read_row(from + plane, count, found[1]);
  read_row(from + 2 * plane, count, found[2 - red]);
  bool finite = true;
#pragma unroll
  for (int c = 0; c < 3; ++c) {
#pragma unroll
    for (int i = 0; i < kWide; ++i) finite = finite && is_finite(found[c][i]);
  }
  if (!finite) atomicOr(broken, 1);
  const std::ptrdiff_t at = (std::ptrdiff_t(top + y) * frame_width + left + x0) * 3;
  if (sum != nullptr) {
    for (int i = 0; i < count; ++i) {
      for (int c = 0; c < 3; ++c) sum[at + 3 * i + c] += clip_unit(found[c][i]);
    }
    return;
  }
  std::uint8_t* to = frame + at;
  if (count == kWide && reinterpret_cast<std::uintptr_t>(to) % 4 == 0) {
    std::uint32_t words[3] = {};
#pragma unroll
    for (int byte = 0; byte < 12; ++byte) {
      words[byte / 4] |= std::uint32_t(to_uint8(found[byte % 3][byte / 3])) << (8 * (byte % 4));
    }
    auto* out = reinterpret_cast<std::uint32_t*>(to);
#pragma unroll
    for (int i = 0; i < 3; ++i) out[i] = words[i];
    return;
  }
  for (int i = 0; i < count; ++i) {
    for (int c = 0; c < 3; ++c) to[3 * i + c] = to_uint8(found[c][i]);
  }
}

// The mean of overlapping tiles, one thread per pixel; leaves the sums at zero.
static __global__ void finish_tiles(const float* __restrict__ share, std::int64_t pixels,
                                    float* __restrict__ sum, std::uint8_t* __restrict__ frame) {
  const std::int64_t i = std::int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= pixels) return;
  for (int c = 0; c < 3; ++c) {
    frame[3 * i + c] = to_uint8(sum[3 * i + c] * share[i]);
    sum[3 * i + c] = 0.0F;
  }
}

}  // namespace elir::cuda
