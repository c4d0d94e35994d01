// The per-element arithmetic of the stages, written once for every device.
//
// Nothing here allocates or branches on the device; a host loop and a CUDA kernel call the same functions, so
// that what the host tests prove holds for both.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "formats.hpp"

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

ELIR_HOST_DEVICE float clip_unit(float value) {
  return value < 0.0F ? 0.0F : (value > 1.0F ? 1.0F : value);
}

// False for NaN and infinity.
ELIR_HOST_DEVICE bool is_finite(float value) {
  return value - value == 0.0F;
}

ELIR_HOST_DEVICE float euler_step(float latent, float velocity, float step) {
  return latent + velocity * step;
}

// Between RGB of whole numbers up to `rgb_max` and Y'CbCr of so many bits (ITU-T H.273, 8.3): what
// MatrixCoefficients 1 (BT.709) and 6 (BT.601) say, of limited or full range. Made by `make_ycc`.
struct Ycc {
  float offset, scale;  // luma: rgb_max * (Y - offset) / range
  float centre, most;   // of chroma; the largest number of both
  float cr_r, cb_g, cr_g, cb_b;
  float y_r, y_g, y_b, cb, cr;  // and back
};

// Red, green and blue in words that they fill: what is computed with between a frame and planar numbers.
template <typename Word>
struct Rgb {
  Word v[3];
};

template <typename Word>
inline constexpr float kLargest = sizeof(Word) == 1 ? 255.0F : 65535.0F;

// Clip to [0, most] and round half to even. Adding 1.5 * 2^23 leaves the rounded integer in the low bits of
// the significand; unlike a call to rint, it vectorizes everywhere.
template <typename Word>
ELIR_HOST_DEVICE Word round_clipped(float value, float most) {
  constexpr float magic = 12582912.0F;
  const float clipped = value < 0.0F ? 0.0F : (value > most ? most : value);
  return static_cast<Word>(static_cast<int>((clipped + magic) - magic));
}

// Between words that are filled and [0, 1].
template <typename Word>
ELIR_HOST_DEVICE float from_word(Word value) {
  return static_cast<float>(value) * (1.0F / kLargest<Word>);
}
template <typename Word>
ELIR_HOST_DEVICE Word to_word(float value) {
  constexpr float magic = 12582912.0F;
  const float rounded = (clip_unit(value) * kLargest<Word> + magic) - magic;
  return static_cast<Word>(static_cast<int>(rounded));
}

template <typename Word>
ELIR_HOST_DEVICE Rgb<Word> ycc_to_rgb(int y, int cb, int cr, const Ycc& ycc) {
  constexpr float most = kLargest<Word>;
  const float luma = (static_cast<float>(y) - ycc.offset) * ycc.scale;
  const float u = static_cast<float>(cb) - ycc.centre;
  const float v = static_cast<float>(cr) - ycc.centre;
  return {{round_clipped<Word>(luma + ycc.cr_r * v, most),
           round_clipped<Word>(luma - ycc.cb_g * u - ycc.cr_g * v, most),
           round_clipped<Word>(luma + ycc.cb_b * u, most)}};
}

ELIR_HOST_DEVICE float luma_of(float r, float g, float b, const Ycc& ycc) {
  return ycc.y_r * r + ycc.y_g * g + ycc.y_b * b;
}

template <typename Word>
ELIR_HOST_DEVICE float luma_of(Rgb<Word> pixel, const Ycc& ycc) {
  return luma_of(pixel.v[0], pixel.v[1], pixel.v[2], ycc);
}

// Where a frame's pixels are, and how they are to be read. Made by `make_source`.
struct Source {
  const std::uint8_t* data[kMaxPlanes];
  std::ptrdiff_t pitch[kMaxPlanes];
  int red;    // component of a pixel that is red: 0, or 2
  int shift;  // bits below a component in its word
  int log2_height, log2_width;
  Ycc ycc;

  template <typename Word>
  ELIR_HOST_DEVICE const Word* row(int plane, int y) const {
    return reinterpret_cast<const Word*>(data[plane] + y * pitch[plane]);
  }
};

// The pixel at (y, x) as red, green, blue.
template <Layout layout, typename Word>
ELIR_HOST_DEVICE Rgb<Word> fetch(const Source& from, int y, int x) {
  const Word* row = from.row<Word>(0, y);
  if constexpr (layout == Layout::gray) {
    return {{row[x], row[x], row[x]}};
  } else if constexpr (layout == Layout::semi_planar) {
    const Word* chroma =
        from.row<Word>(1, y >> from.log2_height) + (std::ptrdiff_t(x) >> from.log2_width) * 2;
    return ycc_to_rgb<Word>(row[x] >> from.shift, chroma[0] >> from.shift, chroma[1] >> from.shift, from.ycc);
  } else if constexpr (layout == Layout::planar) {
    const int down = y >> from.log2_height;
    const int across = x >> from.log2_width;
    return ycc_to_rgb<Word>(row[x] >> from.shift, from.row<Word>(1, down)[across] >> from.shift,
                            from.row<Word>(2, down)[across] >> from.shift, from.ycc);
  } else {
    const Word* pixel = row + std::ptrdiff_t(x) * (layout == Layout::rgba ? 4 : 3);
    return {{pixel[from.red], pixel[1], pixel[2 - from.red]}};
  }
}

// Where a restored frame goes that is not red, green and blue side by side: its planes follow one another,
// rows have no gaps. Made by `make_target`.
struct Target {
  std::uint8_t* data;
  std::ptrdiff_t offset[kMaxPlanes], pitch[kMaxPlanes];
  int height, width;
  int red, shift;
  int log2_height, log2_width;
  Ycc ycc;

  template <typename Word>
  ELIR_HOST_DEVICE Word* row(int plane, int y) const {
    return reinterpret_cast<Word*>(data + offset[plane] + y * pitch[plane]);
  }
};

template <typename Word>
ELIR_HOST_DEVICE Word gray_of(Rgb<Word> pixel, const Ycc& ycc) {
  return round_clipped<Word>(luma_of(pixel, ycc), kLargest<Word>);
}

// Luma of a pixel, and Cb and Cr of the mean of so many, as words of the target.
template <typename Word>
ELIR_HOST_DEVICE Word ycc_word(float value, const Target& to) {
  return static_cast<Word>(round_clipped<Word>(value, to.ycc.most) << to.shift);
}
template <typename Word>
ELIR_HOST_DEVICE Word luma_word(Rgb<Word> pixel, const Target& to) {
  return ycc_word<Word>(luma_of(pixel, to.ycc) / to.ycc.scale + to.ycc.offset, to);
}
template <typename Word>
ELIR_HOST_DEVICE void chroma_words(const int (&sum)[3], int pixels, const Target& to, Word (&chroma)[2]) {
  float mean[3];
  for (int c = 0; c < 3; ++c) {
    mean[c] = static_cast<float>(sum[c]) * (1.0F / static_cast<float>(pixels));
  }
  const float luma = luma_of(mean[0], mean[1], mean[2], to.ycc);
  chroma[0] = ycc_word<Word>((mean[2] - luma) * to.ycc.cb + to.ycc.centre, to);
  chroma[1] = ycc_word<Word>((mean[0] - luma) * to.ycc.cr + to.ycc.centre, to);
}

// Write the pixel at (y, x) of `packed`, red first. Gray is luma of full range; alpha is opaque. Chroma is
// that of the mean of the pixels that it stands for, written with the first of them.
template <Layout layout, typename Word>
ELIR_HOST_DEVICE void repack(const Word* packed, int y, int x, const Target& to) {
  const auto pixel = [&](int row, int column) {
    const Word* at = packed + (std::ptrdiff_t(row) * to.width + column) * 3;
    return Rgb<Word>{{at[0], at[1], at[2]}};
  };
  const Rgb<Word> rgb = pixel(y, x);
  Word* row = to.row<Word>(0, y);
  if constexpr (layout == Layout::gray) {
    row[x] = gray_of(rgb, to.ycc);
  } else if constexpr (layout == Layout::rgb || layout == Layout::rgba) {
    Word* out = row + std::ptrdiff_t(x) * (layout == Layout::rgba ? 4 : 3);
    out[to.red] = rgb.v[0];
    out[1] = rgb.v[1];
    out[2 - to.red] = rgb.v[2];
    if constexpr (layout == Layout::rgba) out[3] = static_cast<Word>(kLargest<Word>);
  } else {
    row[x] = luma_word(rgb, to);
    const int rows = 1 << to.log2_height;
    const int columns = 1 << to.log2_width;
    if (y % rows != 0 || x % columns != 0) return;
    int sum[3] = {};
    for (int i = 0; i < rows; ++i) {
      for (int j = 0; j < columns; ++j) {
        const Rgb<Word> one = pixel(y + i, x + j);
        for (int c = 0; c < 3; ++c) sum[c] += one.v[c];
      }
    }
    Word chroma[2];
    chroma_words(sum, rows * columns, to, chroma);
    const int down = y >> to.log2_height;
    const std::ptrdiff_t across = x >> to.log2_width;
    if constexpr (layout == Layout::semi_planar) {
      Word* out = to.row<Word>(1, down) + 2 * across;
      out[0] = chroma[0];
      out[1] = chroma[1];
    } else {
      to.row<Word>(1, down)[across] = chroma[0];
      to.row<Word>(2, down)[across] = chroma[1];
    }
  }
}

// What the two need to know of a format; on the host.
Source make_source(const Pixels& pixels, const Planes& planes);
Target make_target(const Pixels& pixels, std::uint8_t* data, int height, int width);

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
