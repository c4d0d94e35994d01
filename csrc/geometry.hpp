// How a frame lies on what the network takes; computed in Python (elir_trt/geometry.py), checked here.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "kernels.hpp"

namespace elir {

// How a frame's pixels are stored.
struct Pixels {
  Format format = Format::rgb;
  bool blue_first = false;
  bool bt601 = false;       // else BT.709; of nv12
  bool full_range = false;  // else 16 to 235; of nv12

  std::size_t bytes(int height, int width) const { return rows(height) * row_bytes(width); }
  // Rows of bytes, and bytes in each.
  std::size_t rows(int height) const {
    return static_cast<std::size_t>(format == Format::nv12 ? height + height / 2 : height);
  }
  std::size_t row_bytes(int width) const {
    return static_cast<std::size_t>(width) *
           (format == Format::rgb ? 3U : (format == Format::rgba ? 4U : 1U));
  }
  // Throws std::invalid_argument if frames of this size cannot be stored so.
  void check(const char* name, int height, int width) const;
  Source source(const std::uint8_t* data, int height, int width) const;
  Target target(std::uint8_t* data, int height, int width) const;
};

Ycc make_ycc(bool bt601, bool full_range);

struct Tile {
  int y;
  int x;
};

// Tiles that go through the engines together: `count` of them from `first` on.
struct TileRun {
  std::size_t first = 0;
  std::size_t count = 1;
};

struct Geometry {
  int frame_height, frame_width;    // of submitted frames
  int engine_height, engine_width;  // of what the encoder takes
  int scaled_height, scaled_width;  // of the scaled, and so of the restored frame
  double scale_y, scale_x;          // scaled / frame
  bool nearest;                     // nearest-exact instead of bicubic
  std::vector<Tile> tiles;          // top left corners in the scaled frame
  int downscale;
  int latent_channels;

  int latent_height() const { return engine_height / downscale; }
  int latent_width() const { return engine_width / downscale; }
  bool scaled() const { return scale_y != 1.0 || scale_x != 1.0; }
  // Numbers of the restored frame: three for each pixel.
  std::size_t scaled_size() const { return std::size_t(scaled_height) * std::size_t(scaled_width) * 3; }
  std::size_t image_size() const { return std::size_t(engine_height) * std::size_t(engine_width) * 3; }
  std::size_t latent_size() const {
    return std::size_t(latent_channels) * std::size_t(latent_height()) * std::size_t(latent_width());
  }
  // Size of the latent of the whole frame, all tiles together.
  int field_height() const;
  int field_width() const;

  // Throws std::invalid_argument that names the field, what was found and what is allowed.
  void check() const;
};

// Which source pixels make each engine pixel along one axis, and with which weights.
struct Taps {
  int count = 1;              // per output
  std::vector<int> first;     // of each output
  std::vector<float> weight;  // count for each output
};

// Taps for the tile that starts at `start`, with reflection beyond the scaled frame.
Taps make_taps(int start, int engine, int scaled, int frame, double scale, bool nearest);

// How a tile counts along one axis where others lie over it: it rises as a raised cosine (Hann's window) over
// what it shares with the tile before it, and falls over what it shares with the next one; never zero.
struct BlendRamps {
  std::vector<float> rows, columns;  // of the part of the tile inside the scaled frame
};
BlendRamps blend_ramps(const Geometry& geometry, const Tile& tile);

// For each pixel of the scaled frame, 1 / the sum of what the tiles over it count: with it, weights sum to 1.
std::vector<float> blend_weights(const Geometry& geometry);

}  // namespace elir
