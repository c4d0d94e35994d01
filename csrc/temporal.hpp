// The temporal stage: restored frames averaged with those before where nothing but noise changed.
//
// What a restorer leaves of fresh noise flickers, and a still scene averages it away. Blocks of 8x8 pixels
// say how much the frame differs from the last one that was given out, and how much of that noise may
// explain. The noise is what the restorer took away; of it, flat places let through little, busy ones more.
// Where the difference is larger, in the mean or in the sum of squares, or at a pixel, something moved, and
// the frame is taken as it is. A pixel that has been still for n frames is the mean of the last n + 1, at
// most 13.
#pragma once

#include <cstddef>

#include "kernels.hpp"

namespace elir {

// What is kept of every tile: the last frame that was given out, three planes, and one of how many frames
// each pixel is the mean of. All zeros: there is no last frame.
constexpr std::size_t kTemporalPlanes = 4;
constexpr int kTemporalBlock = 8;
// Of every block: its four sums, and the two levels that are made of them.
constexpr std::size_t kTemporalMaps = 6;

// Rows and columns of blocks of a tile.
struct TemporalShape {
  int height, width;  // of the tile
  int rows, columns;

  TemporalShape(int tile_height, int tile_width)
      : height(tile_height),
        width(tile_width),
        rows((tile_height + kTemporalBlock - 1) / kTemporalBlock),
        columns((tile_width + kTemporalBlock - 1) / kTemporalBlock) {}

  ELIR_HOST_DEVICE std::ptrdiff_t blocks() const { return std::ptrdiff_t(rows) * columns; }
  ELIR_HOST_DEVICE std::ptrdiff_t plane() const { return std::ptrdiff_t(height) * width; }
};

// Means over a block, of values in [0, 1]: squared differences from the last frame, differences, squares of
// what the restorer took away, and squared differences of neighbours in the last frame.
struct TemporalBlock {
  float change, drift, noise, activity;
};

// What changed, 1 and more: something moved; and the variance that noise may explain.
struct TemporalLevel {
  float change, flicker;
};

namespace temporal {

constexpr float kLevel2 = 1.0F / (255.0F * 255.0F);  // the square of a level of 8 bits
// Found on restored clips, still and moving, of noise of 0, 10 and 25 levels; see docs/temporal.md.
constexpr float kKept = 9.0F * kLevel2;        // squares that a restorer takes away without noise
constexpr float kMostFlicker = 0.4F * 0.4F;    // of the noise, where a frame is busy
constexpr float kFlatFlicker = 0.13F * 0.13F;  // of the noise, where it is flat
constexpr float kBusyFlicker = 0.5F;           // of the activity
constexpr float kLeastFlicker = 0.09F * kLevel2;
constexpr float kFlickerCap = 400.0F * kLevel2;
constexpr float kBlockRatio = 1.0F / 2.0F, kDriftRatio = 1.0F / 0.4F, kPixelRatio = 1.0F / 14.0F;
constexpr float kMostFrames = 12.0F;

// How much of a difference is a change: 0 up to 1, 1 from 2 on, and for what is not a number.
ELIR_HOST_DEVICE float changed(float ratio) {
  const float over = ratio - 1.0F;
  return !(over < 1.0F) ? 1.0F : (over > 0.0F ? over : 0.0F);
}

ELIR_HOST_DEVICE int clamped(int i, int n) {
  return i < 0 ? 0 : (i < n ? i : n - 1);
}

ELIR_HOST_DEVICE float flicker_of(float noise, float activity) {
  const float taken = noise > kKept ? noise - kKept : 0.0F;
  const float most = kMostFlicker * taken;
  const float likely = kFlatFlicker * taken + kBusyFlicker * activity;
  const float flicker = (likely < most ? likely : most) + kLeastFlicker;
  return flicker < kFlickerCap ? flicker : kFlickerCap;
}

}  // namespace temporal

// The block at (row, column) of a tile. `Widen` makes float of T.
template <typename T, typename Widen>
ELIR_HOST_DEVICE TemporalBlock temporal_block(const T* image, const T* decoded, const float* last,
                                              const TemporalShape& shape, int row, int column, Widen widen) {
  TemporalBlock sum{0.0F, 0.0F, 0.0F, 0.0F};
  const std::ptrdiff_t plane = shape.plane();
  const int top = row * kTemporalBlock, left = column * kTemporalBlock;
  const int bottom = top + kTemporalBlock < shape.height ? top + kTemporalBlock : shape.height;
  const int right = left + kTemporalBlock < shape.width ? left + kTemporalBlock : shape.width;
  for (int y = top; y < bottom; ++y) {
    const std::ptrdiff_t below = y + 1 < shape.height ? shape.width : 0;
    for (int x = left; x < right; ++x) {
      const std::ptrdiff_t at = std::ptrdiff_t(y) * shape.width + x;
      const std::ptrdiff_t next = x + 1 < shape.width ? 1 : 0;
      float across = 0.0F, down = 0.0F;
      for (int c = 0; c < 3; ++c) {
        const std::ptrdiff_t i = at + c * plane;
        const float restored = clip_unit(widen(decoded[i]));
        const float difference = restored - last[i];
        const float taken = widen(image[i]) - restored;
        sum.change += difference * difference;
        sum.drift += difference;
        sum.noise += taken * taken;
        across += last[i + next] - last[i];
        down += last[i + below] - last[i];
      }
      sum.activity += (across * across + down * down) * (1.0F / 9.0F);
    }
  }
  const float pixels = static_cast<float>((bottom - top) * (right - left));
  return {sum.change / (3.0F * pixels), sum.drift / (3.0F * pixels), sum.noise / (3.0F * pixels),
          sum.activity / pixels};
}

// `maps` are four planes of blocks, in the order of TemporalBlock.
ELIR_HOST_DEVICE float temporal_flicker(const float* maps, const TemporalShape& shape, int row, int column) {
  float noise = 0.0F, activity = 0.0F;
  for (int i = -1; i <= 1; ++i) {
    for (int j = -1; j <= 1; ++j) {
      const std::ptrdiff_t at = std::ptrdiff_t(temporal::clamped(row + i, shape.rows)) * shape.columns +
                                temporal::clamped(column + j, shape.columns);
      noise += maps[2 * shape.blocks() + at];
      activity += maps[3 * shape.blocks() + at];
    }
  }
  return temporal::flicker_of(noise * (1.0F / 9.0F), activity * (1.0F / 9.0F));
}

// The level of a block: the most change of it and its neighbours, each measured by its own flicker.
ELIR_HOST_DEVICE TemporalLevel temporal_level(const float* maps, const TemporalShape& shape, int row,
                                              int column) {
  float most = 0.0F, own = 0.0F;
  for (int i = -1; i <= 1; ++i) {
    for (int j = -1; j <= 1; ++j) {
      const int y = temporal::clamped(row + i, shape.rows), x = temporal::clamped(column + j, shape.columns);
      const float flicker = temporal_flicker(maps, shape, y, x);
      if (i == 0 && j == 0) own = flicker;
      const std::ptrdiff_t at = std::ptrdiff_t(y) * shape.columns + x;
      const float drift = maps[shape.blocks() + at];
      const float change = maps[at] * temporal::kBlockRatio, drifted = drift * drift * temporal::kDriftRatio;
      // A frame before that failed leaves what is not a number, and then a sum that is none.
      float ratio = (change < drifted ? drifted : change) / flicker;
      if (!(ratio < 2.0F)) ratio = 2.0F;
      if (ratio > most) most = ratio;
    }
  }
  return {most, own};
}

// The pixel at (y, x): `pixel` are its three restored values, which become those that are given out. `levels`
// are two planes of blocks, in the order of TemporalLevel.
ELIR_HOST_DEVICE void temporal_pixel(const float* levels, const TemporalShape& shape, int y, int x,
                                     float (&pixel)[3], float* last) {
  constexpr float kPerBlock = 1.0F / kTemporalBlock;
  const float v = (static_cast<float>(y) + 0.5F) * kPerBlock - 0.5F;
  const float u = (static_cast<float>(x) + 0.5F) * kPerBlock - 0.5F;
  const int row = static_cast<int>(v + 1.0F) - 1, column = static_cast<int>(u + 1.0F) - 1;
  const float fv = v - static_cast<float>(row), fu = u - static_cast<float>(column);
  const std::ptrdiff_t above = std::ptrdiff_t(temporal::clamped(row, shape.rows)) * shape.columns;
  const std::ptrdiff_t below = std::ptrdiff_t(temporal::clamped(row + 1, shape.rows)) * shape.columns;
  const int left = temporal::clamped(column, shape.columns);
  const int right = temporal::clamped(column + 1, shape.columns);
  const auto between = [&](const float* map) {
    const float upper = map[above + left] + (map[above + right] - map[above + left]) * fu;
    const float lower = map[below + left] + (map[below + right] - map[below + left]) * fu;
    return upper + (lower - upper) * fv;
  };
  const float block = temporal::changed(between(levels));
  const float flicker = between(levels + shape.blocks());
  const std::ptrdiff_t plane = shape.plane();
  float* at = last + std::ptrdiff_t(y) * shape.width + x;
  float largest = 0.0F;
  float difference[3];
  for (int c = 0; c < 3; ++c) {
    difference[c] = pixel[c] - at[c * plane];
    const float square = difference[c] * difference[c];
    if (!(square <= largest)) largest = square;
  }
  const float own = temporal::changed(largest * temporal::kPixelRatio / flicker);
  const float frames = (at[3 * plane] < temporal::kMostFrames ? at[3 * plane] : temporal::kMostFrames) *
                       (1.0F - (block > own ? block : own));
  const float part = 1.0F / (frames + 1.0F);
  for (int c = 0; c < 3; ++c) {
    if (part < 1.0F) pixel[c] = at[c * plane] + part * difference[c];
    at[c * plane] = pixel[c];
  }
  at[3 * plane] = frames + 1.0F;
}

}  // namespace elir
