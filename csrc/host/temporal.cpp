#include "temporal.hpp"

#include <cstddef>

namespace elir::host {

void TemporalAverage::tile(const TemporalShape& shape, const float* image, float* decoded, float* last) {
  const std::ptrdiff_t count = shape.blocks();
  blocks_.resize(static_cast<std::size_t>(4 * count));
  levels_.resize(static_cast<std::size_t>(2 * count));
  std::ptrdiff_t at = 0;
  for (int row = 0; row < shape.rows; ++row) {
    for (int column = 0; column < shape.columns; ++column, ++at) {
      const TemporalBlock block =
          temporal_block(image, decoded, last, shape, row, column, [](float value) { return value; });
      blocks_[static_cast<std::size_t>(at)] = block.change;
      blocks_[static_cast<std::size_t>(at + count)] = block.drift;
      blocks_[static_cast<std::size_t>(at + 2 * count)] = block.noise;
      blocks_[static_cast<std::size_t>(at + 3 * count)] = block.activity;
    }
  }
  at = 0;
  for (int row = 0; row < shape.rows; ++row) {
    for (int column = 0; column < shape.columns; ++column, ++at) {
      const TemporalLevel level = temporal_level(blocks_.data(), shape, row, column);
      levels_[static_cast<std::size_t>(at)] = level.change;
      levels_[static_cast<std::size_t>(at + count)] = level.flicker;
    }
  }
  const std::ptrdiff_t plane = shape.plane();
  for (int y = 0; y < shape.height; ++y) {
    for (int x = 0; x < shape.width; ++x) {
      float* value = decoded + std::ptrdiff_t(y) * shape.width + x;
      float pixel[3] = {clip_unit(value[0]), clip_unit(value[plane]), clip_unit(value[2 * plane])};
      temporal_pixel(levels_.data(), shape, y, x, pixel, last);
      for (int c = 0; c < 3; ++c) {
        if (is_finite(value[c * plane])) value[c * plane] = pixel[c];
      }
    }
  }
}

}  // namespace elir::host
