// What is decided for one frame, where it is, and the job that a device is given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "formats.hpp"
#include "pace.hpp"

namespace elir {

// Where a frame is, and where the restored one goes: in memory of the CPU, or on the device.
struct FramePlace {
  Planes frame;
  bool frame_on_device = false;
  std::uint8_t* restored = nullptr;
  bool restored_on_device = false;
};

// What is decided for one frame: the seam for whoever decides frame by frame.
struct FrameParams {
  int steps = 0;                   // Euler steps; 0: the coarse estimate alone, without noise
  std::uint32_t noise_number = 0;  // of the noise that is drawn for the frame; 0: noise that stays
  // By tile: whether it is taken from the last frame instead of restored again. Empty: none is.
  std::vector<bool> reused;
  bool unrestored = false;  // the frame as it came, where a deadline leaves no time for more
  // Without steps through encoder, coarse estimate and decoder, where there is one engine for all three: it
  // cannot be stopped on its way. Of devices whose frames are not recorded.
  bool by_parts = false;
  FramePlace place;

  bool reuses(std::size_t tile) const { return !reused.empty() && reused[tile]; }

  // Frames of equal keys run the same stages with the same numbers: one recording serves them all. What is
  // not in the key is read from memory when a recording is replayed.
  using RecordingKey = std::pair<int, std::vector<bool>>;
  RecordingKey recording_key() const { return {unrestored ? -1 : steps, reused}; }
};

// A frame on its way: which it is, what is to be done with it, and what keeps it alive.
struct FrameJob {
  std::uint64_t index = 0;
  FrameParams params;
  std::shared_ptr<void> owner;  // keeps a frame that is not the slot's own alive
  // Asked between the parts, of a device that is synchronous: the steps to go on with, or kUnrestored, and
  // the frame is given up. Empty: it is not.
  std::function<int(const Progress&)> guard;
  std::size_t runs = 0;    // of tiles, through the engines
  std::size_t reused = 0;  // tiles that were taken from a frame before
};

}  // namespace elir
