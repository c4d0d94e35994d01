// Owner of a CUDA event.
#pragma once

#include <cuda_runtime.h>

#include <utility>

#include "capture.hpp"
#include "error.hpp"

namespace elir::cuda {

class CudaEvent {
 public:
  CudaEvent() { ELIR_CUDA(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming)); }
  CudaEvent(CudaEvent&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  CudaEvent& operator=(CudaEvent&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }
  ~CudaEvent() {
    if (event_ != nullptr) ELIR_CUDA_LOG(cudaEventDestroy(event_));
  }

  // Stands for what is queued on the stream so far.
  void record(cudaStream_t stream) const { ELIR_CUDA(cudaEventRecord(event_, stream)); }
  // What is queued on the stream from here on comes after what this stands for.
  void make_stream_wait(cudaStream_t stream) const { ELIR_CUDA(cudaStreamWaitEvent(stream, event_, 0)); }
  void wait() const {
    const RelaxedCapture relaxed;
    ELIR_CUDA(cudaEventSynchronize(event_));
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace elir::cuda
