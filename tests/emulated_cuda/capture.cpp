// What CUDA allows while a stream records, and what it refuses (CUDA's programming guide, "Creating a graph
// using stream capture", and the reference of cudaThreadExchangeStreamCaptureMode).
#include <algorithm>

#include "runtime.hpp"

namespace emulated_cuda {

cudaStreamCaptureMode& thread_mode() {
  thread_local cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  return mode;
}

bool Runtime::any_capture() const {
  bool found = false;
  streams.each([&](const Stream& stream) { found = found || stream.capture != nullptr; });
  return found;
}

cudaError_t Runtime::refuse_unsafe() {
  if (thread_mode() == cudaStreamCaptureModeRelaxed) return cudaSuccess;
  bool refused = false;
  streams.each([&](Stream& stream) {
    if (!stream.capture || stream.capture->mode == cudaStreamCaptureModeRelaxed) return;
    const bool own = stream.capture->thread == std::this_thread::get_id();
    const bool of_all =
        stream.capture->mode == cudaStreamCaptureModeGlobal && thread_mode() == cudaStreamCaptureModeGlobal;
    if (!own && !of_all) return;
    invalidate(*stream.capture);
    refused = true;
  });
  return refused ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

cudaError_t Runtime::begin_capture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  const std::shared_ptr<Stream> from = stream(handle);
  if (!from) return cudaErrorInvalidResourceHandle;
  if (from == legacy_) return cudaErrorStreamCaptureUnsupported;
  if (from->capture) return cudaErrorInvalidValue;
  from->capture = std::make_shared<Capture>();
  from->capture->mode = mode;
  from->capture->thread = std::this_thread::get_id();
  from->capture->origin = reinterpret_cast<std::uintptr_t>(handle);
  from->tail.clear();
  return cudaSuccess;
}

cudaError_t Runtime::end_capture(cudaStream_t handle, std::unique_ptr<Graph>& graph) {
  const std::shared_ptr<Stream> from = stream(handle);
  if (!from) return cudaErrorInvalidResourceHandle;
  if (!from->capture) return cudaErrorInvalidValue;
  const std::shared_ptr<Capture> capture = from->capture;
  if (capture->origin != reinterpret_cast<std::uintptr_t>(handle)) return cudaErrorStreamCaptureUnmatched;
  if (capture->thread != std::this_thread::get_id() && capture->mode != cudaStreamCaptureModeRelaxed) {
    return cudaErrorStreamCaptureWrongThread;
  }
  // Every node must come before the origin's tail, or a forked stream was never joined.
  std::vector<char> joined(capture->nodes.size(), 0);
  for (const std::size_t index : from->tail) joined[index] = 1;
  for (std::size_t i = capture->nodes.size(); i-- > 0;) {
    if (joined[i] == 0) continue;
    for (const std::size_t before : capture->nodes[i].after) joined[before] = 1;
  }
  const bool whole = std::find(joined.begin(), joined.end(), char(0)) == joined.end();
  streams.each([&](Stream& stream) {
    if (stream.capture != capture) return;
    stream.capture.reset();
    stream.tail.clear();
  });
  if (capture->invalidated) return cudaErrorStreamCaptureInvalidated;
  if (!whole) {
    invalidate(*capture);
    return cudaErrorStreamCaptureUnjoined;
  }
  graph = std::make_unique<Graph>();
  graph->nodes = std::move(capture->nodes);
  return cudaSuccess;
}

}  // namespace emulated_cuda
