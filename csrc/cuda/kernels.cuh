// The stages as kernels. What is computed per element is in kernels.hpp; here is who computes which.
//
// Threads take four neighbours of a row where the addresses allow 16 (or 8, or 4) bytes at once, else one at
// a time; every index is checked against the size.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "../geometry.hpp"

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

// What changes from frame to frame; a recording reads it from memory.
struct Told {
  const std::uint8_t* frame;
  std::uint8_t* restored;
  std::int64_t pitch;
  std::uint32_t number;  // of the frame, for its noise
};

// Pixels of a frame to planar numbers in [0, 1]. One thread per four pixels of a row. `source` lacks what
// `told` has.
template <typename T, Format format>
__global__ void load_frame(const Told* __restrict__ told, Source source, DeviceTaps rows, DeviceTaps columns,
                           int height, int width, T* __restrict__ image) {
  const int x0 = kWide * static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int y = static_cast<int>(blockIdx.y);
  if (x0 >= width || y >= height) return;
  source.data = told->frame;
  source.pitch = static_cast<std::ptrdiff_t>(told->pitch);
  const int count = min(kWide, width - x0);
  const int top = rows.first[y];
  float found[3][kWide] = {};
  bool swapped = false;  // blue is found first
  if (rows.count == 1 && columns.count == 1) {
    const int first = columns.first[x0];
    const std::uint8_t* pixels = source.data + top * source.pitch + std::ptrdiff_t(first) * 3;
    const bool together =
        format == Format::rgb && count == kWide && columns.first[x0 + kWide - 1] == first + kWide - 1 &&
        columns.first[x0 + 1] == first + 1 && reinterpret_cast<std::uintptr_t>(pixels) % 4 == 0;
    if (together) {
      swapped = source.red != 0;
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
#pragma unroll
      for (int i = 0; i < kWide; ++i) {
        if (i >= count) break;
        const Rgb pixel = fetch<format>(source, top, columns.first[x0 + i]);
#pragma unroll
        for (int c = 0; c < 3; ++c) found[c][i] = from_uint8(pixel.v[c]);
      }
    }
  } else {
    // Rows first, then columns, skipping weights of zero as the host does: the same sums in the same order.
    const float* down = rows.weight + std::ptrdiff_t(y) * rows.count;
#pragma unroll
    for (int i = 0; i < kWide; ++i) {
      if (i >= count) break;
      const float* along = columns.weight + std::ptrdiff_t(x0 + i) * columns.count;
      const int left = columns.first[x0 + i];
      float sum[3] = {};
      for (int j = 0; j < columns.count; ++j) {
        float mixed[3] = {};
        for (int k = 0; k < rows.count; ++k) {
          if (down[k] == 0.0F) continue;
          const Rgb pixel = fetch<format>(source, top + k, left + j);
#pragma unroll
          for (int c = 0; c < 3; ++c) mixed[c] += down[k] * from_uint8(pixel.v[c]);
        }
#pragma unroll
        for (int c = 0; c < 3; ++c) sum[c] += along[j] * mixed[c];
      }
#pragma unroll
      for (int c = 0; c < 3; ++c) found[c][i] = clip_unit(sum[c]);
    }
  }
  const std::ptrdiff_t plane = std::ptrdiff_t(height) * width;
  T* out = image + std::ptrdiff_t(y) * width + x0;
  write_row(found[0], count, out + (swapped ? 2 * plane : 0));
  write_row(found[1], count, out + plane);
  write_row(found[2], count, out + (swapped ? 0 : 2 * plane));
}

// One thread per cell and group of four channels. `told` null: noise that stays.
static __global__ void draw_noise(std::uint64_t seed, const Told* told, int channels, int height, int width,
                                  float* field) {
  const int x = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int y = static_cast<int>(blockIdx.y);
  const int group = static_cast<int>(blockIdx.z);
  if (x >= width || y >= height) return;
  const std::uint32_t number = told == nullptr ? 0U : told->number;
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

// Planar numbers of a tile to packed pixels, in `packed` or, where that is null, the frame's own memory. One
// thread per four pixels of a row. With `sum`, pixels are added up there instead. `broken` becomes 1 where a
// value is not finite.
template <typename T>
__global__ void store_frame(const Told* __restrict__ told, const T* __restrict__ decoded, int height,
                            int width, int engine_height, int engine_width, int top, int left,
                            int frame_width, bool blue_first, std::uint8_t* __restrict__ packed,
                            float* __restrict__ sum, int* broken) {
  const int x0 = kWide * static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int y = static_cast<int>(blockIdx.y);
  if (x0 >= width || y >= height) return;
  const int count = min(kWide, width - x0);
  const std::ptrdiff_t plane = std::ptrdiff_t(engine_height) * engine_width;
  const T* from = decoded + std::ptrdiff_t(y) * engine_width + x0;
  float found[3][kWide];
  read_row(from + (blue_first ? 2 * plane : 0), count, found[0]);
  read_row(from + plane, count, found[1]);
  read_row(from + (blue_first ? 0 : 2 * plane), count, found[2]);
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
  std::uint8_t* to = (packed == nullptr ? told->restored : packed) + at;
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
static __global__ void finish_tiles(const Told* __restrict__ told, const float* __restrict__ share,
                                    std::int64_t pixels, float* __restrict__ sum,
                                    std::uint8_t* __restrict__ packed) {
  const std::int64_t i = std::int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= pixels) return;
  std::uint8_t* frame = packed == nullptr ? told->restored : packed;
  for (int c = 0; c < 3; ++c) {
    frame[3 * i + c] = to_uint8(sum[3 * i + c] * share[i]);
    sum[3 * i + c] = 0.0F;
  }
}

// Packed pixels, red first, to how the restored frame is stored; one thread per pixel.
static __global__ void repack_frame(const Told* __restrict__ told, const std::uint8_t* __restrict__ packed,
                                    Target target) {
  const int x = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int y = static_cast<int>(blockIdx.y);
  if (x >= target.width || y >= target.height) return;
  target.data = told->restored;
  repack(packed, y, x, target);
}

}  // namespace elir::cuda
