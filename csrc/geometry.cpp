#include "geometry.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "kernels.hpp"

namespace elir {

namespace {

// Sides beyond this are a mistake, and the products of three of them would overflow.
constexpr int kLongest = 1 << 15;

[[noreturn]] void refuse(const std::string& what, const std::string& found, const std::string& allowed) {
  throw std::invalid_argument(what + " is " + found + "; expected " + allowed);
}

void check_side(const char* name, int value) {
  if (value < 1 || value > kLongest) {
    refuse(name, std::to_string(value), "1 to " + std::to_string(kLongest));
  }
}

void check_scale(const char* name, double scale, int frame, int scaled) {
  if (!(scale > 0.0) || !std::isfinite(scale) || std::abs(frame * scale - scaled) > 0.51) {
    refuse(name, std::to_string(scale), std::to_string(scaled) + " / " + std::to_string(frame));
  }
}

}  // namespace

int Geometry::field_height() const {
  int last = 0;
  for (const Tile& tile : tiles) last = std::max(last, tile.y);
  return last / downscale + latent_height();
}

int Geometry::field_width() const {
  int last = 0;
  for (const Tile& tile : tiles) last = std::max(last, tile.x);
  return last / downscale + latent_width();
}

void Geometry::check() const {
  check_side("frame_height", frame_height);
  check_side("frame_width", frame_width);
  check_side("engine_height", engine_height);
  check_side("engine_width", engine_width);
  check_side("scaled_height", scaled_height);
  check_side("scaled_width", scaled_width);
  if (downscale < 1 || downscale > 256) refuse("downscale", std::to_string(downscale), "1 to 256");
  if (latent_channels < 1 || latent_channels > 4096) {
    refuse("latent_channels", std::to_string(latent_channels), "1 to 4096");
  }
  if (engine_height % downscale != 0 || engine_width % downscale != 0) {
    refuse("the engine's size", std::to_string(engine_width) + "x" + std::to_string(engine_height),
           "multiples of downscale " + std::to_string(downscale));
  }
  check_scale("scale_y", scale_y, frame_height, scaled_height);
  check_scale("scale_x", scale_x, frame_width, scaled_width);
  if (tiles.empty()) refuse("tiles", "empty", "at least one");
  std::vector<char> covered(std::size_t(scaled_height) * std::size_t(scaled_width), 0);
  for (const Tile& tile : tiles) {
    if (tile.y < 0 || tile.x < 0 || tile.y >= scaled_height || tile.x >= scaled_width ||
        tile.y % downscale != 0 || tile.x % downscale != 0) {
      refuse("a tile", "(" + std::to_string(tile.y) + ", " + std::to_string(tile.x) + ")",
             "a corner inside the scaled frame, on multiples of downscale");
    }
    const int bottom = std::min(scaled_height, tile.y + engine_height);
    const int right = std::min(scaled_width, tile.x + engine_width);
    for (int y = tile.y; y < bottom; ++y) {
      const auto row = covered.begin() + std::ptrdiff_t(y) * scaled_width;
      std::fill(row + tile.x, row + right, char(1));
    }
  }
  if (std::find(covered.begin(), covered.end(), char(0)) != covered.end()) {
    refuse("tiles", "a set with gaps", "tiles that cover the scaled frame");
  }
}

Taps make_taps(int start, int engine, int scaled, int frame, double scale, bool nearest) {
  Taps taps;
  taps.first.resize(std::size_t(engine));
  if (scale == 1.0 || nearest) {
    taps.weight.assign(std::size_t(engine), 1.0F);
    for (int i = 0; i < engine; ++i) {
      const int at = reflect(start + i, scaled);
      const int source = scale == 1.0 ? at : static_cast<int>((at + 0.5) / scale);
      taps.first[std::size_t(i)] = std::min(source, frame - 1);
    }
    return taps;
  }
  // As Pillow and torch (antialias=True) do it: the kernel is widened when the frame shrinks, taps beyond the
  // frame are left out, and the weights are normalized.
  const double stretch = std::max(1.0, 1.0 / scale);
  const double support = 2.0 * stretch;
  taps.count = std::min(frame, static_cast<int>(std::ceil(support)) * 2 + 1);
  taps.weight.assign(std::size_t(engine) * std::size_t(taps.count), 0.0F);
  std::vector<double> weights(std::size_t(taps.count));
  for (int i = 0; i < engine; ++i) {
    const double centre = (reflect(start + i, scaled) + 0.5) / scale;
    const int low = std::max(0, static_cast<int>(centre - support + 0.5));
    const int high = std::min(frame, static_cast<int>(centre + support + 0.5));
    const int first = std::max(0, std::min(low, frame - taps.count));
    double sum = 0.0;
    for (int k = 0; k < taps.count; ++k) {
      const int at = first + k;
      const bool inside = at >= low && at < high;
      weights[std::size_t(k)] = inside ? keys_cubic((at - centre + 0.5) / stretch) : 0.0;
      sum += weights[std::size_t(k)];
    }
    taps.first[std::size_t(i)] = first;
    for (int k = 0; k < taps.count; ++k) {
      taps.weight[std::size_t(i) * std::size_t(taps.count) + std::size_t(k)] =
          static_cast<float>(weights[std::size_t(k)] / sum);
    }
  }
  return taps;
}

namespace {

// One side of a tile from `start` to `end`; `others`: where tiles start along this axis, all as long as
// `length`.
std::vector<float> blend_ramp(int start, int end, const std::vector<int>& others, int length) {
  int before = -1, after = -1;  // the nearest neighbours' starts
  for (const int other : others) {
    if (other < start && other > before) before = other;
    if (other > start && (after < 0 || other < after)) after = other;
  }
  const int rising = before < 0 ? 0 : std::max(0, before + length - start);
  const int falling = after < 0 ? 0 : std::max(0, end - after);
  constexpr double pi = 3.14159265358979323846;
  const auto hann = [](int place, int over) { return 0.5 - 0.5 * std::cos(pi * (place + 0.5) / over); };
  std::vector<float> ramp(static_cast<std::size_t>(end - start));
  for (int i = 0; i < end - start; ++i) {
    double value = 1.0;
    if (i < rising) value *= hann(i, rising);
    if (end - start - 1 - i < falling) value *= hann(end - start - 1 - i, falling);
    ramp[static_cast<std::size_t>(i)] = static_cast<float>(value);
  }
  return ramp;
}

}  // namespace

BlendRamps blend_ramps(const Geometry& geometry, const Tile& tile) {
  std::vector<int> rows, columns;
  for (const Tile& other : geometry.tiles) {
    rows.push_back(other.y);
    columns.push_back(other.x);
  }
  return {blend_ramp(tile.y, std::min(tile.y + geometry.engine_height, geometry.scaled_height), rows,
                     geometry.engine_height),
          blend_ramp(tile.x, std::min(tile.x + geometry.engine_width, geometry.scaled_width), columns,
                     geometry.engine_width)};
}

std::vector<float> blend_weights(const Geometry& geometry) {
  const std::size_t width = std::size_t(geometry.scaled_width);
  std::vector<double> sum(std::size_t(geometry.scaled_height) * width, 0.0);
  for (const Tile& tile : geometry.tiles) {
    const BlendRamps ramps = blend_ramps(geometry, tile);
    for (std::size_t y = 0; y < ramps.rows.size(); ++y) {
      double* row = sum.data() + (std::size_t(tile.y) + y) * width + std::size_t(tile.x);
      for (std::size_t x = 0; x < ramps.columns.size(); ++x) {
        row[x] += double(ramps.rows[y] * ramps.columns[x]);
      }
    }
  }
  std::vector<float> weights(sum.size());
  for (std::size_t i = 0; i < sum.size(); ++i) weights[i] = static_cast<float>(1.0 / sum[i]);
  return weights;
}

}  // namespace elir
