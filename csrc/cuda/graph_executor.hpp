// How frames run on the device: uploaded, computed and downloaded on a stream each, two frames in flight, and
// what is computed recorded once and replayed with one launch.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "../device.hpp"
#include "event.hpp"
#include "graph.hpp"
#include "launches.hpp"
#include "still.hpp"
#include "stream.hpp"

namespace elir::cuda {

class GraphExecutor {
 public:
  struct Options {
    int ordinal = 0;
    bool graphs = true;  // else frames are always called
    std::size_t slots = 1;
    bool mapped = false;  // frames in memory of the CPU are read and written where they are
  };

  explicit GraphExecutor(const Options& options);
  // Waits for everything that is queued.
  ~GraphExecutor();
  GraphExecutor(const GraphExecutor&) = delete;
  GraphExecutor& operator=(const GraphExecutor&) = delete;

  std::size_t max_in_flight() const { return frames_.size(); }
  // Frames begin after what is queued on this stream, and nothing records it.
  cudaStream_t input_stream() const { return upload_.get(); }
  cudaStream_t compute_stream() const { return compute_.get(); }
  // What changes from frame to frame, for the frame that is computed.
  const DeviceFrameParams* params() const { return params_.get(); }

  // Frames of these sizes from here on; what was recorded is forgotten. Frames that are not `read_once` are
  // copied before they are read, also where they could be read where they are.
  void set_frame_sizes(std::size_t frame_bytes, std::size_t restored_bytes, bool read_once);

  // Let the next frame begin after what is queued on this stream.
  void wait_on_producer(cudaStream_t producer);
  // Let a stream come after the frames that have begun.
  void make_stream_wait(cudaStream_t stream) const;
  // Wait for what is queued on every stream, also where this thread records.
  void wait_for_all() noexcept;

  // Copies the next frame to the device, if it is to be copied and was not; where it is there. `begin` does
  // so by itself.
  DevicePlanes upload(const FrameJob& job);
  void begin(const FrameJob& job, const std::function<void()>& stages);
  bool finish();
  std::string execution_mode() const;

 private:
  static constexpr std::size_t kMostInFlight = 2;

  // Most recordings of a frame in flight; which tiles are reused makes more of them than memory is good for.
  static constexpr std::size_t kMostRecordings = 16;

  using Key = FrameParams::RecordingKey;
  struct Recording {
    CudaGraphExec graph;
    std::size_t used;  // by which frame, counted from the first
  };
  using Recordings = std::map<Key, Recording>;

  // What a frame in flight has to itself.
  struct InFlightFrame {
    std::shared_ptr<std::uint8_t> frame, restored;  // on the device, where frames are copied
    std::shared_ptr<DeviceFrameParams> params;      // in memory of the CPU, as the flag is
    std::shared_ptr<int> nonfinite_flag;
    int* nonfinite_address = nullptr;  // where the device sees the flag
    Recordings recorded;
    CudaEvent uploaded, computed, done;
  };

  void compute(InFlightFrame& frame, const Key& key, const std::function<void()>& stages);
  // Everything of a frame that the compute stream does.
  void enqueue(const InFlightFrame& frame, const std::function<void()>& stages);
  void note_failed_recording(const std::string& problem);

  const Options options_;
  CudaStream upload_, compute_, download_;
  std::vector<InFlightFrame> frames_;
  std::shared_ptr<DeviceFrameParams> params_;
  std::size_t frame_bytes_ = 0, restored_bytes_ = 0;
  bool copies_in_ = true;
  std::optional<std::uint64_t> uploaded_;  // the index of the frame that was
  std::size_t begun_ = 0, finished_ = 0;
  std::mutex producer_mutex_;
  CudaEvent produced_;
  std::set<Key> called_;  // of frames that have been called once
  int failed_in_a_row_ = 0;
  mutable std::mutex problem_mutex_;  // the mode is asked for by other threads
  std::string problem_;
};

}  // namespace elir::cuda
