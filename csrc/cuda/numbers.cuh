// Numbers of the three types in kernels: threads take four neighbours of a row where the addresses allow 16
// (or 8) bytes at once, else one at a time.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "../device.hpp"

namespace elir::cuda {

constexpr int kThreads = 256;  // of a block
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

// Blocks for so many threads.
inline unsigned blocks(std::int64_t threads) {
  return static_cast<unsigned>((threads + kThreads - 1) / kThreads);
}

// One thread for four numbers along a row of `width`, a row of blocks for each of `height`.
inline dim3 rows_of_four(int width, int height, int depth = 1) {
  return {blocks((width + kWide - 1) / kWide), static_cast<unsigned>(height), static_cast<unsigned>(depth)};
}

// Calls `run` with a null pointer to the type that stands for `element`.
template <typename Run>
void with_type(Element element, Run&& run) {
  switch (element) {
    case Element::float32:
      return run(static_cast<float*>(nullptr));
    case Element::float16:
      return run(static_cast<__half*>(nullptr));
    case Element::bfloat16:
      return run(static_cast<__nv_bfloat16*>(nullptr));
  }
}

}  // namespace elir::cuda
