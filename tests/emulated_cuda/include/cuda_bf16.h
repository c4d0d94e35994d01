// Stand-in for CUDA's header: bfloat16, converted with rounding to nearest, ties to even.
#pragma once

#include <cstdint>
#include <cstring>

struct __nv_bfloat16_raw {
  unsigned short x;
};

struct __nv_bfloat16 {
  unsigned short x;
  __nv_bfloat16() = default;
  explicit __nv_bfloat16(const __nv_bfloat16_raw& raw) : x(raw.x) {}
};

inline __nv_bfloat16 __float2bfloat16_rn(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return __nv_bfloat16(__nv_bfloat16_raw{0x7FFFU});
  bits += 0x7FFFU + ((bits >> 16) & 1U);
  return __nv_bfloat16(__nv_bfloat16_raw{static_cast<unsigned short>(bits >> 16)});
}

inline float __bfloat162float(__nv_bfloat16 value) {
  const std::uint32_t bits = std::uint32_t(value.x) << 16;
  float found;
  std::memcpy(&found, &bits, sizeof(found));
  return found;
}
