// Stand-in for CUDA's header: IEEE binary16, converted with rounding to nearest, ties to even.
#pragma once

#include <cstdint>
#include <cstring>

struct __half_raw {
  unsigned short x;
};

struct __half {
  unsigned short x;
  __half() = default;
  explicit __half(const __half_raw& raw) : x(raw.x) {}
};

inline __half __float2half_rn(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const std::uint32_t sign = (bits >> 16) & 0x8000U;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  std::uint32_t half = 0;
  if (magnitude > 0x7F800000U) {
    half = 0x7FFFU;  // NaN, as CUDA makes it
    return __half(__half_raw{static_cast<unsigned short>(half)});
  }
  if (magnitude >= 0x477FF000U) {  // 65520 and more round to infinity
    half = 0x7C00U;
  } else if (magnitude >= 0x38800000U) {  // normal: 2^-14 and more
    const std::uint32_t rebased = magnitude - (112U << 23);
    half = (rebased + 0xFFFU + ((rebased >> 13) & 1U)) >> 13;
  } else if (magnitude > 0x33000000U) {  // more than half of the smallest subnormal
    const std::uint32_t exponent = magnitude >> 23;
    const std::uint32_t significand = (magnitude & 0x7FFFFFU) | 0x800000U;
    const std::uint32_t shift = 126U - exponent;
    const std::uint32_t rest = significand & ((1U << shift) - 1U);
    const std::uint32_t middle = 1U << (shift - 1U);
    half = significand >> shift;
    if (rest > middle || (rest == middle && (half & 1U) != 0)) ++half;
  }
  return __half(__half_raw{static_cast<unsigned short>(sign | half)});
}

inline float __half2float(__half value) {
  const std::uint32_t sign = (std::uint32_t(value.x) & 0x8000U) << 16;
  const std::uint32_t exponent = (value.x >> 10) & 0x1FU;
  const std::uint32_t significand = value.x & 0x3FFU;
  std::uint32_t bits = sign;
  if (exponent == 0x1FU) {
    bits |= 0x7F800000U | (significand << 13);
  } else if (exponent != 0) {
    bits |= ((exponent + 112U) << 23) | (significand << 13);
  } else {
    const float small = static_cast<float>(significand) * (1.0F / 16777216.0F);
    std::uint32_t magnitude;
    std::memcpy(&magnitude, &small, sizeof(magnitude));
    bits |= magnitude;
  }
  float found;
  std::memcpy(&found, &bits, sizeof(found));
  return found;
}
