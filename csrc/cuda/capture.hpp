// What must be so while a stream records a graph, and what may be done then.
#pragma once

#include <cuda_runtime.h>

#include <mutex>

#include "error.hpp"

namespace elir::cuda {

// While this lives the thread may allocate, free and wait even if it, or another thread, records: what it
// does so is no part of a recording, and must not end one.
class RelaxedCapture {
 public:
  RelaxedCapture() { ELIR_CUDA_LOG(cudaThreadExchangeStreamCaptureMode(&mode_)); }
  ~RelaxedCapture() { ELIR_CUDA_LOG(cudaThreadExchangeStreamCaptureMode(&mode_)); }
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

// Held while one of our streams records, and by who waits for the whole device, which nobody may while a
// stream of it records. Who waits for this must not hold Python's lock: parts that are recorded may take it.
inline std::mutex& recording_mutex() {
  static std::mutex mutex;
  return mutex;
}

// This thread records while this lives.
class Recording {
 public:
  Recording() : alone_(recording_mutex()) { here() = true; }
  ~Recording() { here() = false; }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  static bool in_this_thread() { return here(); }

 private:
  static bool& here() {
    thread_local bool recording = false;
    return recording;
  }

  std::lock_guard<std::mutex> alone_;
};

}  // namespace elir::cuda
