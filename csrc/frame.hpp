// What is decided for one frame, and where that frame is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "formats.hpp"

namespace elir {

// What is decided for one frame: the seam for whoever decides frame by frame.
struct FrameParams {
  int steps = 0;                   // Euler steps; 0: the coarse estimate alone, without noise
  std::uint32_t noise_number = 0;  // of the noise that is drawn for the frame; 0: noise that stays
  // By tile: whether it is taken from the last frame instead of restored again. Empty: none is.
  std::vector<bool> reused;

  bool reuses(std::size_t tile) const { return !reused.empty() && reused[tile]; }

  // Frames of equal keys run the same stages with the same numbers: one recording serves them all. What is
  // not in the key is read from memory when a recording is replayed.
  using RecordingKey = std::pair<int, std::vector<bool>>;
  RecordingKey recording_key() const { return {steps, reused}; }
};

// A frame on its way: what is to be done, where it is, and where the restored one goes.
struct FrameJob {
  std::uint64_t index = 0;
  FrameParams params;
  Planes frame;
  bool frame_on_device = false;
  std::uint8_t* restored = nullptr;
  bool restored_on_device = false;
  std::shared_ptr<void> owner;  // keeps a frame that is not the slot's own alive
};

}  // namespace elir
