// The per-element arithmetic of the stages, written once for every device.
//
// Nothing here allocates or branches on the device; a host loop and a CUDA kernel call the same functions, so
// that what the host tests prove holds for both.
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define ELIR_HOST_DEVICE __host__ __device__ inline
#else
#define ELIR_HOST_DEVICE inline
#endif

namespace elir {

// Index of the pixel that stands at `i` when a row of `n` pixels is continued by reflection, the edge not
// repeated, as often as needed.
ELIR_HOST_DEVICE int reflect(int i, int n) {
  if (n == 1) return 0;
  const int period = 2 * (n - 1);
  i %= period;
  if (i < 0) i += period;
  return i < n ? i : period - i;
}

// Keys' cubic convolution kernel with a = -0.5 (R. Keys, IEEE TASSP 1981).
ELIR_HOST_DEVICE double keys_cubic(double x) {
  constexpr double a = -0.5;
  x = x < 0.0 ? -x : x;
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
  if (x < 2.0) return ((x - 5.0) * x + 8.0) * x * a - 4.0 * a;
  return 0.0;
}

ELIR_HOST_DEVICE float from_uint8(std::uint8_t value) {
  return static_cast<float>(value) * (1.0F / 255.0F);
}

ELIR_HOST_DEVICE float clip_unit(float value) {
  return value < 0.0F ? 0.0F : (value > 1.0F ? 1.0F : value);
}

// Clip to [0, 1] and round half to even to 8 bits. Adding 1.5 * 2^23 leaves the rounded integer in the low
// bits of the significand; unlike a call to rint, it vectorizes everywhere.
ELIR_HOST_DEVICE std::uint8_t to_uint8(float value) {
  constexpr float magic = 12582912.0F;
  const float rounded = (clip_unit(value) * 255.0F + magic) - magic;
  return static_cast<std::uint8_t>(static_cast<int>(rounded));
}

// False for NaN and infinity.
ELIR_HOST_DEVICE bool is_finite(float value) {
  return value - value == 0.0F;
}

ELIR_HOST_DEVICE float euler_step(float latent, float velocity, float step) {
  return latent + velocity * step;
}

struct Words {
  std::uint32_t v[4];
};

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
ELIR_HOST_DEVICE Words philox(Words counter, std::uint32_t key0, std::uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53U} * counter.v[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57U} * counter.v[2];
    counter = {{static_cast<std::uint32_t>(b >> 32) ^ counter.v[1] ^ key0, static_cast<std::uint32_t>(b),
                static_cast<std::uint32_t>(a >> 32) ^ counter.v[3] ^ key1, static_cast<std::uint32_t>(a)}};
    key0 += 0x9E3779B9U;
    key1 += 0xBB67AE85U;
  }
  return counter;
}

struct Normals {
  float v[4];
};

// Four standard normal numbers for cell (x, y) of the latent and channels 4 * group .. 4 * group + 3. They
// depend on the cell's place in the whole frame, not on tiles or sizes. `frame` is 0 for noise that stays,
// else the frame's index + 1. By Box and Muller; devices differ by the last places of log, sin and cos.
ELIR_HOST_DEVICE Normals normals(std::uint64_t seed, std::uint32_t x, std::uint32_t y, std::uint32_t group,
                                 std::uint32_t frame) {
  const Words bits = philox({{x, y, group, frame}}, static_cast<std::uint32_t>(seed),
                            static_cast<std::uint32_t>(seed >> 32));
  Normals result{};
  for (int pair = 0; pair < 2; ++pair) {
    // 24 bits and a half: never 0 or 1.
    const float u = (static_cast<float>(bits.v[2 * pair] >> 8) + 0.5F) * (1.0F / 16777216.0F);
    const float w = (static_cast<float>(bits.v[2 * pair + 1] >> 8) + 0.5F) * (1.0F / 16777216.0F);
    const float radius = std::sqrt(-2.0F * std::log(u));
    const float angle = 6.28318530717958647692F * w;
    result.v[2 * pair] = radius * std::cos(angle);
    result.v[2 * pair + 1] = radius * std::sin(angle);
  }
  return result;
}

}  // namespace elir
