// Still regions: tiles whose input did not change are taken from their last restoration.
//
// A tile's input is all that the engines see of it, what it shares with its neighbours included: if that is
// the same, so is what becomes of it. With a tolerance a tile is the same where no block of 8x8 pixels
// differs by more in the mean, from the input that the kept tile was restored from, not from the last frame:
// what accumulates is no more than the tolerance. And each tile is restored again after kMostAge frames at
// most, one after the other.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "formats.hpp"
#include "geometry.hpp"
#include "kernels.hpp"

namespace elir {

constexpr int kStillBlock = 8;
// Frames that a tile is taken from an input that was not exactly this one.
constexpr int kMostAge = 120;
// Most levels of 8 bits that a tolerance may have.
constexpr float kMostTolerance = 64.0F;

// The part of a plane of frames that a tile is made of, in words, and where it is kept.
struct PlaneInput {
  int top = 0, rows = 0;
  int left = 0, words = 0;  // of a row
  int block = 0;            // words of a row of a block: those of eight pixels
  std::int64_t kept = 0;    // words before it
};
using TileInput = std::array<PlaneInput, kMaxPlanes>;

// What a device needs to compare frames with what it keeps of them.
struct StillPlan {
  int planes = 1;
  int word = 1;                   // bytes
  std::int64_t tolerance256 = 0;  // mean difference of words, times 256
  std::vector<TileInput> tiles;
  std::int64_t words = 0;  // of all that is kept

  StillPlan() = default;
  // `tolerance` is in levels of 8 bits; 0: not a bit.
  StillPlan(const Geometry& geometry, const Pixels& pixels, float tolerance);
};

// Whether a block of so many words, whose differences have this sum, is another.
ELIR_HOST_DEVICE bool is_changed(std::int64_t sum, std::int64_t words, std::int64_t tolerance256) {
  return sum * 256 > tolerance256 * words;
}

// Which tiles there are restorations of, and what of.
class StillTiles {
 public:
  // `equal_steps`: a tile is not taken from a restoration with more steps than are asked for.
  StillTiles(std::size_t tiles, float tolerance, bool equal_steps)
      : steps_(tiles, kNever),
        age_(tiles, 0),
        changed_(tiles, 1),
        ages_(tolerance > 0.0F),
        equal_(equal_steps) {}

  // A frame begins: for each tile whether its input changed.
  std::uint8_t* changed() { return changed_.data(); }
  void count_frame() { ++frames_; }

  // Whether a tile of a frame of so many steps is taken from its last restoration.
  bool reuses(std::size_t tile, int steps) const;
  // The frame that is restored now takes it from there, or is about to restore it.
  void taken(std::size_t tile) { ++age_[tile]; }
  void begun(std::size_t tile) { steps_[tile] = kNever; }
  void restored(std::size_t tile, int steps) {
    steps_[tile] = steps;
    age_[tile] = 0;
  }
  // A frame failed, and with it nobody knows which tiles.
  void forget() { steps_.assign(steps_.size(), kNever); }

 private:
  static constexpr int kNever = -1;
  std::vector<int> steps_;  // that each tile was restored with
  std::vector<int> age_;    // how often it was taken since
  std::vector<std::uint8_t> changed_;
  std::uint64_t frames_ = 0;
  bool ages_, equal_;
};

}  // namespace elir
