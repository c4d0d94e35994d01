#include "still.hpp"

#include <algorithm>
#include <cmath>

namespace elir {

namespace {

// From the first to the last pixel of the frame that one side of a tile is made of.
struct Span {
  int first, count;
};

Span span_of(const Taps& taps) {
  const auto [least, most] = std::minmax_element(taps.first.begin(), taps.first.end());
  return {*least, *most + taps.count - *least};
}

// The same of a plane that has a sample for 2^log2 pixels.
Span subsampled(Span span, int log2) {
  const int last = (span.first + span.count - 1) >> log2;
  const int first = span.first >> log2;
  return {first, last - first + 1};
}

}  // namespace

StillPlan::StillPlan(const Geometry& geometry, const Pixels& pixels, float tolerance) {
  const PixelFormat& format = pixels.format;
  planes = format.planes();
  word = format.word();
  // A level of 8 bits is 256 of 16, to which fewer are shifted up.
  tolerance256 = std::llround(256.0 * double(tolerance) * (word == 1 ? 1.0 : 256.0));
  for (const Tile& tile : geometry.tiles) {
    const Span rows = span_of(make_taps(tile.y, geometry.engine_height, geometry.scaled_height,
                                        geometry.frame_height, geometry.scale_y, geometry.nearest));
    const Span columns = span_of(make_taps(tile.x, geometry.engine_width, geometry.scaled_width,
                                           geometry.frame_width, geometry.scale_x, geometry.nearest));
    TileInput input{};
    for (int plane = 0; plane < planes; ++plane) {
      const bool chroma = plane > 0;
      const Span down = subsampled(rows, chroma ? format.log2_height : 0);
      const Span across = subsampled(columns, chroma ? format.log2_width : 0);
      // Words side by side that belong to a pixel.
      const int wide =
          chroma ? (format.layout == Layout::semi_planar ? 2 : 1) : std::max(1, format.channels());
      input[std::size_t(plane)] = {down.first,          down.count,         across.first * wide,
                                   across.count * wide, kStillBlock * wide, words};
      words += std::int64_t(down.count) * across.count * wide;
    }
    tiles.push_back(input);
  }
}

bool StillTiles::reuses(std::size_t tile, int steps) const {
  if (changed_[tile] != 0 || steps_[tile] == kNever) return false;
  if (equal_ ? steps_[tile] != steps : steps_[tile] < steps) return false;
  if (!ages_) return true;
  const auto turn = static_cast<std::uint64_t>(tile * std::size_t(kMostAge) / steps_.size());
  const bool due = age_[tile] > 0 && frames_ % kMostAge == turn;
  return !due && age_[tile] + 1 < kMostAge;
}

}  // namespace elir
