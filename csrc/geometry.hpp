// How a frame lies on what the network takes; computed in Python (elir_trt/geometry.py), checked here.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "formats.hpp"

namespace elir {

struct Tile {
  int y;
  int x;
};

// An empty place among tiles.
constexpr std::size_t kNoTile = static_cast<std::size_t>(-1);

// Tiles side by side in the parts' tensors: their numbers, some of which may be kNoTile.
struct TileRun {
  const std::size_t* tiles = nullptr;
  std::size_t count = 0;

  // Calls `run(place, tile)` for each.
  template <typename Run>
  void each(Run&& run) const {
    for (std::size_t place = 0; place < count; ++place) {
      if (tiles[place] != kNoTile) run(place, tiles[place]);
    }
  }
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
