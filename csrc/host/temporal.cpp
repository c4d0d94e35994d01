#include "temporal.hpp"

#include <algorithm>
#include <cstddef>

namespace elir::host {

void TemporalAverage::tile(const TemporalShape& shape, const float* image, float* decoded, float* last,
                           float* maps) {
  const auto count = static_cast<std::size_t>(shape.blocks());
  const auto width = static_cast<std::size_t>(shape.width);
  float* levels = maps + 4 * count;
  ratio_.resize(width);
  flicker_.resize(width);
  for (int row = 0; row < shape.rows; ++row) {
    const int top = row * kTemporalBlock, bottom = std::min(top + kTemporalBlock, shape.height);
    for (std::vector<float>* sums : {&change_, &drift_, &noise_, &activity_}) sums->assign(width, 0.0F);
    for (int y = top; y < bottom; ++y) add_row(shape, y, image, decoded, last);
    for (int column = 0; column < shape.columns; ++column) {
      const int left = column * kTemporalBlock, right = std::min(left + kTemporalBlock, shape.width);
      TemporalBlock sum{0.0F, 0.0F, 0.0F, 0.0F};
      for (auto x = static_cast<std::size_t>(left); x < static_cast<std::size_t>(right); ++x) {
        sum.change += change_[x];
        sum.drift += drift_[x];
        sum.noise += noise_[x];
        sum.activity += activity_[x];
      }
      const TemporalBlock block = temporal_means(sum, (bottom - top) * (right - left));
      float* to = maps + std::ptrdiff_t(row) * shape.columns + column;
      to[0] = block.change;
      to[count] = block.drift;
      to[2 * count] = block.noise;
      to[3 * count] = block.activity;
    }
  }
  for (int row = 0; row < shape.rows; ++row) {
    for (int column = 0; column < shape.columns; ++column) {
      const TemporalLevel level = temporal_level(maps, shape, row, column);
      float* to = levels + std::ptrdiff_t(row) * shape.columns + column;
      to[0] = level.change;
      to[count] = level.flicker;
    }
  }
  for (int y = 0; y < shape.height; ++y) {
    spread_row(shape, y, levels);
    average_row(shape, y, decoded, last);
  }
}

void TemporalAverage::add_row(const TemporalShape& shape, int y, const float* image, const float* decoded,
                              const float* last) {
  const std::ptrdiff_t plane = shape.plane();
  const std::ptrdiff_t row = std::ptrdiff_t(y) * shape.width;
  const std::ptrdiff_t down = y + 1 < shape.height ? shape.width : 0;
  float* __restrict change = change_.data();
  float* __restrict drift = drift_.data();
  float* __restrict noise = noise_.data();
  float* __restrict activity = activity_.data();
  const auto add = [&](int x, std::ptrdiff_t across) {
    const float* before = last + row + x;
    const float taken[3] = {image[row + x], image[row + x + plane], image[row + x + 2 * plane]};
    const float restored[3] = {clip_unit(decoded[row + x]), clip_unit(decoded[row + x + plane]),
                               clip_unit(decoded[row + x + 2 * plane])};
    const float own[3] = {before[0], before[plane], before[2 * plane]};
    const float grey = own[0] + own[1] + own[2];
    const auto next = [&](std::ptrdiff_t by) {
      return before[by] + before[by + plane] + before[by + 2 * plane] - grey;
    };
    const TemporalBlock sum = temporal_sums(taken, restored, own, next(across), next(down));
    change[x] += sum.change;
    drift[x] += sum.drift;
    noise[x] += sum.noise;
    activity[x] += sum.activity;
  };
  for (int x = 0; x + 1 < shape.width; ++x) add(x, 1);
  add(shape.width - 1, 0);
}

void TemporalAverage::spread_row(const TemporalShape& shape, int y, const float* levels) {
  const BetweenBlocks v(y);
  const std::ptrdiff_t above = std::ptrdiff_t(temporal::clamped(v.first, shape.rows)) * shape.columns;
  const std::ptrdiff_t below = std::ptrdiff_t(temporal::clamped(v.first + 1, shape.rows)) * shape.columns;
  mixed_.resize(static_cast<std::size_t>(shape.columns));
  const auto spread = [&](const float* map, std::vector<float>& to) {
    for (int column = 0; column < shape.columns; ++column) {
      mixed_[static_cast<std::size_t>(column)] =
          map[above + column] + (map[below + column] - map[above + column]) * v.part;
    }
    // Pixels between the centres of two blocks, from half a block before the first to half a one after the
    // last.
    for (int column = -1; column < shape.columns; ++column) {
      const float first = mixed_[static_cast<std::size_t>(temporal::clamped(column, shape.columns))];
      const float step =
          mixed_[static_cast<std::size_t>(temporal::clamped(column + 1, shape.columns))] - first;
      const int left = column * kTemporalBlock + kTemporalBlock / 2;
      const int end = std::min(left + kTemporalBlock, shape.width);
      for (int x = std::max(left, 0); x < end; ++x) {
        const float part = (static_cast<float>(x - left) + 0.5F) * (1.0F / kTemporalBlock);
        to[static_cast<std::size_t>(x)] = first + step * part;
      }
    }
  };
  spread(levels, ratio_);
  spread(levels + shape.blocks(), flicker_);
}

void TemporalAverage::average_row(const TemporalShape& shape, int y, float* decoded, float* last) const {
  const std::ptrdiff_t plane = shape.plane();
  const std::ptrdiff_t row = std::ptrdiff_t(y) * shape.width;
  float* __restrict red = decoded + row;
  float* __restrict green = red + plane;
  float* __restrict blue = green + plane;
  float* __restrict last_red = last + row;
  float* __restrict last_green = last_red + plane;
  float* __restrict last_blue = last_green + plane;
  float* __restrict count = last_blue + plane;
  const float* __restrict ratio = ratio_.data();
  const float* __restrict flicker = flicker_.data();
  for (int x = 0; x < shape.width; ++x) {
    const float r = clip_unit(red[x]), g = clip_unit(green[x]), b = clip_unit(blue[x]);
    const float dr = r - last_red[x], dg = g - last_green[x], db = b - last_blue[x];
    const float two = dr * dr > dg * dg ? dr * dr : dg * dg;
    const float largest = two > db * db ? two : db * db;
    const float frames = temporal_frames(ratio[x], flicker[x], largest, count[x]);
    const float part = 1.0F / (frames + 1.0F);
    count[x] = frames + 1.0F;
    // As it is where there is no past: that may be no number.
    last_red[x] = part < 1.0F ? last_red[x] + part * dr : r;
    last_green[x] = part < 1.0F ? last_green[x] + part * dg : g;
    last_blue[x] = part < 1.0F ? last_blue[x] + part * db : b;
    red[x] = is_finite(red[x]) ? last_red[x] : red[x];
    green[x] = is_finite(green[x]) ? last_green[x] : green[x];
    blue[x] = is_finite(blue[x]) ? last_blue[x] : blue[x];
  }
}

}  // namespace elir::host
