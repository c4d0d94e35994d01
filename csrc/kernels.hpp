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

// How the bytes of a frame are to be read: rows `pitch` bytes apart. Of `nv12`, the luma rows are followed by
// half as many rows of interleaved chroma, each sample of it standing for two by two pixels.
enum class Format { rgb, rgba, gray, nv12 };

// Between 8-bit RGB and 8-bit Y'CbCr (ITU-T H.273, 8.3): what MatrixCoefficients 1 (BT.709) and 6 (BT.601)
// say, of limited or full range. Made by `make_ycc`.
struct Ycc {
  float offset, scale;  // luma: 255 * (Y - offset) / range
  float cr_r, cb_g, cr_g, cb_b;
  float y_r, y_g, y_b, cb, cr;  // and back
};

struct Source {
  const std::uint8_t* data;
  std::ptrdiff_t pitch;
  int height;
  int red;  // byte of a pixel that holds red: 0, or 2
  Ycc ycc;
};

struct Rgb {
  std::uint8_t v[3];
};

// Clip to [0, 255] and round half to even.
ELIR_HOST_DEVICE std::uint8_t round_uint8(float value) {
  constexpr float magic = 12582912.0F;
  const float clipped = value < 0.0F ? 0.0F : (value > 255.0F ? 255.0F : value);
  return static_cast<std::uint8_t>(static_cast<int>((clipped + magic) - magic));
}

ELIR_HOST_DEVICE Rgb ycc_to_rgb(std::uint8_t y, std::uint8_t cb, std::uint8_t cr, const Ycc& ycc) {
  const float luma = (static_cast<float>(y) - ycc.offset) * ycc.scale;
  const float u = static_cast<float>(cb) - 128.0F;
  const float v = static_cast<float>(cr) - 128.0F;
  return {{round_uint8(luma + ycc.cr_r * v), round_uint8(luma - ycc.cb_g * u - ycc.cr_g * v),
           round_uint8(luma + ycc.cb_b * u)}};
}

ELIR_HOST_DEVICE float luma_of(float r, float g, float b, const Ycc& ycc) {
  return ycc.y_r * r + ycc.y_g * g + ycc.y_b * b;
}

ELIR_HOST_DEVICE std::uint8_t rgb_to_luma(Rgb pixel, const Ycc& ycc) {
  return round_uint8(luma_of(pixel.v[0], pixel.v[1], pixel.v[2], ycc) / ycc.scale + ycc.offset);
}

// Cb and Cr of the mean of four pixels.
ELIR_HOST_DEVICE void rgb_to_chroma(const Rgb (&pixels)[4], const Ycc& ycc, std::uint8_t (&chroma)[2]) {
  float mean[3];
  for (int c = 0; c < 3; ++c) {
    mean[c] = 0.25F * static_cast<float>(pixels[0].v[c] + pixels[1].v[c] + pixels[2].v[c] + pixels[3].v[c]);
  }
  const float luma = luma_of(mean[0], mean[1], mean[2], ycc);
  chroma[0] = round_uint8((mean[2] - luma) * ycc.cb + 128.0F);
  chroma[1] = round_uint8((mean[0] - luma) * ycc.cr + 128.0F);
}

// The pixel at (y, x) as red, green, blue.
template <Format format>
ELIR_HOST_DEVICE Rgb fetch(const Source& from, int y, int x) {
  const std::uint8_t* row = from.data + y * from.pitch;
  if (format == Format::gray) return {{row[x], row[x], row[x]}};
  if (format == Format::nv12) {
    const std::uint8_t* chroma = from.data + (from.height + y / 2) * from.pitch + (x & ~1);
    return ycc_to_rgb(row[x], chroma[0], chroma[1], from.ycc);
  }
  const std::uint8_t* pixel = row + std::ptrdiff_t(x) * (format == Format::rgba ? 4 : 3);
  return {{pixel[from.red], pixel[1], pixel[2 - from.red]}};
}

// Where a restored frame goes that is not three bytes a pixel; rows have no gaps.
struct Target {
  std::uint8_t* data;
  Format format;
  int height, width;
  int red;
  Ycc ycc;
};

// Write the pixel at (y, x) of `packed`, red first. Gray is luma of full range; alpha is opaque.
ELIR_HOST_DEVICE void repack(const std::uint8_t* packed, int y, int x, const Target& to) {
  const std::ptrdiff_t width = to.width;
  const std::ptrdiff_t at = y * width + x;
  const auto pixel = [&](std::ptrdiff_t i) {
    return Rgb{{packed[3 * i], packed[3 * i + 1], packed[3 * i + 2]}};
  };
  const Rgb rgb = pixel(at);
  if (to.format == Format::gray) {
    to.data[at] = round_uint8(luma_of(rgb.v[0], rgb.v[1], rgb.v[2], to.ycc));
  } else if (to.format == Format::nv12) {
    to.data[at] = rgb_to_luma(rgb, to.ycc);
    if (y % 2 == 0 && x % 2 == 0) {
      const Rgb block[4] = {rgb, pixel(at + 1), pixel(at + width), pixel(at + width + 1)};
      std::uint8_t chroma[2];
      rgb_to_chroma(block, to.ycc, chroma);
      std::uint8_t* out = to.data + (to.height + y / 2) * width + x;
      out[0] = chroma[0];
      out[1] = chroma[1];
    }
  } else {
    std::uint8_t* out = to.data + 4 * at;
    out[to.red] = rgb.v[0];
    out[1] = rgb.v[1];
    out[2 - to.red] = rgb.v[2];
    out[3] = 255;
  }
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
