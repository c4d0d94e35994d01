#include "graph_executor.hpp"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "device_guard.hpp"
#include "memory.hpp"
#include "ranges.hpp"

namespace elir::cuda {

namespace {

// Keys that are remembered; what is forgotten is called once more before it is recorded.
constexpr std::size_t kMostCalled = 4096;

}  // namespace

GraphExecutor::GraphExecutor(const Options& options)
    : options_(options),
      compute_(true),
      frames_(std::min(std::max<std::size_t>(options.slots, 1), kMostInFlight)),
      params_(allocate_device<DeviceFrameParams>(options.ordinal, 1)) {
  for (InFlightFrame& frame : frames_) {
    frame.params = allocate_pinned<DeviceFrameParams>(options.ordinal, 1);
    frame.nonfinite_flag = allocate_pinned<int>(options.ordinal, 1);
    frame.nonfinite_address = device_address(frame.nonfinite_flag.get());
  }
}

GraphExecutor::~GraphExecutor() {
  wait_for_all();
}

void GraphExecutor::set_frame_sizes(std::size_t frame_bytes, std::size_t restored_bytes, bool read_once) {
  copies_in_ = !options_.mapped || !read_once;
  frame_bytes_ = frame_bytes;
  restored_bytes_ = restored_bytes;
  for (InFlightFrame& frame : frames_) {
    frame.recorded.clear();
    if (copies_in_) frame.frame = allocate_device<std::uint8_t>(options_.ordinal, frame_bytes);
    if (!options_.mapped) frame.restored = allocate_device<std::uint8_t>(options_.ordinal, restored_bytes);
  }
}

void GraphExecutor::wait_on_producer(cudaStream_t producer) {
  const std::lock_guard<std::mutex> lock(producer_mutex_);
  produced_.record(producer);
  produced_.make_stream_wait(upload_.get());
}

void GraphExecutor::make_stream_wait(cudaStream_t stream) const {
  for (const InFlightFrame& frame : frames_) frame.computed.make_stream_wait(stream);
}

DevicePlanes GraphExecutor::upload(const FrameJob& job) {
  InFlightFrame& frame = frames_[begun_ % frames_.size()];
  const FramePlace& place = job.params.place;
  const bool copy_in = !place.frame_on_device && copies_in_;
  const auto found = [&] {
    DevicePlanes planes{};
    for (std::size_t i = 0; i < kMaxPlanes; ++i) {
      planes.data[i] = frame.params->planes[i];
      planes.pitch[i] = frame.params->pitch[i];
    }
    return planes;
  };
  if (uploaded_ == job.index) return found();
  const bool copy_out = !place.restored_on_device && !options_.mapped;
  const auto address = [](auto* given, bool on_device, bool copied, std::uint8_t* own) -> decltype(given) {
    if (on_device) return given;
    return copied ? own : device_address(given);
  };
  *frame.nonfinite_flag = 0;
  *frame.params = {{},
                   {},
                   address(place.restored, place.restored_on_device, copy_out, frame.restored.get()),
                   job.params.noise_number,
                   frame.nonfinite_address};
  // Planes of one frame lie in one piece of memory, unless its producer's own are read.
  const std::uint8_t* first = address(place.frame.data[0], place.frame_on_device, copy_in, frame.frame.get());
  for (std::size_t i = 0; i < kMaxPlanes; ++i) {
    const std::uint8_t* plane = place.frame.data[i];
    frame.params->planes[i] =
        plane == nullptr || place.frame_on_device ? plane : first + (plane - place.frame.data[0]);
    frame.params->pitch[i] = place.frame.pitch[i];
  }
  if (copy_in) {
    ELIR_CUDA(cudaMemcpyAsync(frame.frame.get(), place.frame.data[0], frame_bytes_, cudaMemcpyHostToDevice,
                              upload_.get()));
  }
  uploaded_ = job.index;
  return found();
}

void GraphExecutor::begin(const FrameJob& job, const std::function<void()>& stages) {
  const Range range("frame");
  InFlightFrame& frame = frames_[begun_ % frames_.size()];
  const FramePlace& place = job.params.place;
  const bool copy_out = !place.restored_on_device && !options_.mapped;
  try {
    upload(job);
    uploaded_.reset();
    frame.uploaded.record(upload_.get());
    frame.uploaded.make_stream_wait(compute_.get());
    compute(frame, job.params.recording_key(), stages);
    frame.computed.record(compute_.get());
    if (copy_out) {
      frame.computed.make_stream_wait(download_.get());
      ELIR_CUDA(cudaMemcpyAsync(place.restored, frame.restored.get(), restored_bytes_, cudaMemcpyDeviceToHost,
                                download_.get()));
    }
    frame.done.record(copy_out ? download_.get() : compute_.get());
  } catch (...) {
    // Nothing of this frame may be under way when its memory is used again.
    wait_for_all();
    throw;
  }
  ++begun_;
}

bool GraphExecutor::finish() {
  const Range range("finish");
  InFlightFrame& frame = frames_[finished_ % frames_.size()];
  ++finished_;
  frame.done.wait();
  return *frame.nonfinite_flag == 0;
}

std::string GraphExecutor::execution_mode() const {
  if (!options_.graphs) return "eager";
  const std::lock_guard<std::mutex> lock(problem_mutex_);
  return problem_.empty() ? "graph" : "eager: " + problem_;
}

void GraphExecutor::compute(InFlightFrame& frame, const Key& key, const std::function<void()>& stages) {
  const auto found = frame.recorded.find(key);
  if (found != frame.recorded.end()) {
    found->second.used = begun_;
    return found->second.graph.launch(compute_.get());
  }
  // The first frame of a kind is called: engines may set themselves up, which cannot be recorded.
  if (!options_.graphs || !problem_.empty() || called_.count(key) == 0) {
    enqueue(frame, stages);
    if (called_.size() >= kMostCalled) called_.clear();
    called_.insert(key);
    return;
  }
  std::optional<CudaGraphExec> recorded;
  try {
    const Range range("record");
    recorded.emplace(CudaGraph(compute_.get(), [&] { enqueue(frame, stages); }));
  } catch (const std::exception& error) {
    // If it was a part that failed, and not the recording, it fails again, and the frame with it.
    enqueue(frame, stages);
    note_failed_recording(error.what());
    return;
  }
  failed_in_a_row_ = 0;
  if (frame.recorded.size() >= kMostRecordings) {
    // Nothing runs it: the frame that had this place before is finished.
    frame.recorded.erase(std::min_element(
        frame.recorded.begin(), frame.recorded.end(),
        [](const auto& one, const auto& other) { return one.second.used < other.second.used; }));
  }
  frame.recorded.emplace(key, Recording{std::move(*recorded), begun_})
      .first->second.graph.launch(compute_.get());
}

void GraphExecutor::enqueue(const InFlightFrame& frame, const std::function<void()>& stages) {
  ELIR_CUDA(cudaMemcpyAsync(params_.get(), frame.params.get(), sizeof(DeviceFrameParams),
                            cudaMemcpyHostToDevice, compute_.get()));
  stages();
}

void GraphExecutor::note_failed_recording(const std::string& problem) {
  // A recording may be broken by chance, by what another thread does: it is tried once more.
  if (++failed_in_a_row_ < 2) return;
  for (InFlightFrame& frame : frames_) frame.recorded.clear();
  std::fprintf(stderr, "elir_trt: frames are not replayed as graphs: %s\n", problem.c_str());
  const std::lock_guard<std::mutex> lock(problem_mutex_);
  problem_ = problem;
}

void GraphExecutor::wait_for_all() noexcept {
  const DeviceGuard device(options_.ordinal);
  const RelaxedCapture relaxed;
  for (const CudaStream* stream : {&upload_, &compute_, &download_}) {
    ELIR_CUDA_LOG(cudaStreamSynchronize(stream->get()));
  }
}

}  // namespace elir::cuda
