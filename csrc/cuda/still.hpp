// What is kept of frames on the device, to be compared: see ../still.hpp.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "../still.hpp"
#include "event.hpp"
#include "transfers.hpp"

namespace elir::cuda {

// Where the planes of a frame are, as the device sees them.
struct DevicePlanes {
  const std::uint8_t* data[kMaxPlanes];
  std::int64_t pitch[kMaxPlanes];
};

// The kernels, in still.cu: `parts` are kMaxPlanes of each tile, of which one has so many words and blocks at
// most.
struct StillView {
  const PlaneInput* parts;
  int tiles, planes, word;
  std::int64_t most_words, most_blocks;
  void* kept;
};

class KeptInputs {
 public:
  explicit KeptInputs(int ordinal) : ordinal_(ordinal) {}

  void prepare(const Transfers& transfers, const StillPlan& plan);
  // Queued on `stream`, on which all of these are; waits for the answer.
  void compare(cudaStream_t stream, const DevicePlanes& frame, std::uint8_t* changed);
  void keep(cudaStream_t stream, const DevicePlanes& frame, const std::vector<bool>& tiles);

 private:
  StillView view() const;

  const int ordinal_;
  StillPlan plan_;
  std::int64_t most_words_ = 0, most_blocks_ = 0;  // of a tile's part of a plane
  std::shared_ptr<PlaneInput> parts_;              // kMaxPlanes of each tile
  std::shared_ptr<void> kept_;
  std::shared_ptr<int> changed_, wanted_;  // of each tile; memory of the CPU
  CudaEvent compared_;
};

// Of a frame's input: sets `changed` of the tiles that are.
void launch_compare_inputs(cudaStream_t stream, const StillView& view, const DevicePlanes& frame,
                           std::int64_t tolerance256, int* changed);
// Of the tiles that are `wanted`.
void launch_keep_inputs(cudaStream_t stream, const StillView& view, const DevicePlanes& frame,
                        const int* wanted);

}  // namespace elir::cuda
