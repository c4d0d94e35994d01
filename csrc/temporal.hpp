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
  const float most = over < 1.0F ? over : 1.0F;
  return most > 0.0F ? most : 0.0F;
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

// What a pixel adds to the sums of its block: `image`, `restored` (clipped) and `last` are its three numbers,
// `across` and `down` the sums of the last frame's three differences to the next pixels.
ELIR_HOST_DEVICE TemporalBlock temporal_sums(const float (&image)[3], const float (&restored)[3],
                                             const float (&last)[3], float across, float down) {
  TemporalBlock sum{0.0F, 0.0F, 0.0F, (across * across + down * down) * (1.0F / 9.0F)};
  for (int c = 0; c < 3; ++c) {
    const float difference = restored[c] - last[c];
    const float taken = image[c] - restored[c];
    sum.change += difference * difference;
    sum.drift += difference;
    sum.noise += taken * taken;
  }
  return sum;
}

// The means of a block of so many pixels.
ELIR_HOST_DEVICE TemporalBlock temporal_means(const TemporalBlock& sum, int pixels) {
  const float each = 1.0F / static_cast<float>(pixels);
  return {sum.change * each * (1.0F / 3.0F), sum.drift * each * (1.0F / 3.0F),
          sum.noise * each * (1.0F / 3.0F), sum.activity * each};
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

// Where a pixel lies between blocks, along one axis: from the centre of the block `first` (which may be -1),
// `part` of the way to the next one.
struct BetweenBlocks {
  int first;
  float part;

  ELIR_HOST_DEVICE explicit BetweenBlocks(int pixel) {
    const float at = (static_cast<float>(pixel) + 0.5F) * (1.0F / kTemporalBlock) + 0.5F;
    first = static_cast<int>(at) - 1;
    part = at - static_cast<float>(first + 1);
  }
};

// Of how many frames before a pixel stays the mean, which was that of `frames`. `ratio` and `flicker` are the
// levels at the pixel, `largest` is the largest squared difference of its numbers from the last frame's.
ELIR_HOST_DEVICE float temporal_frames(float ratio, float flicker, float largest, float frames) {
  const float block = temporal::changed(ratio);
  const float own = temporal::changed(largest * temporal::kPixelRatio / flicker);
  return (frames < temporal::kMostFrames ? frames : temporal::kMostFrames) *
         (1.0F - (block > own ? block : own));
}

}  // namespace elir
