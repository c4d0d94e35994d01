// Owner of a CUDA stream.
#pragma once

#include <cuda_runtime.h>

#include "capture.hpp"
#include "error.hpp"

namespace elir::cuda {

// Not ordered with the default stream. `urgent`: its kernels go before those of other streams.
class CudaStream {
 public:
  explicit CudaStream(bool urgent = false) {
    int least = 0, greatest = 0;
    ELIR_CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    ELIR_CUDA(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, urgent ? greatest : least));
  }
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;
  // What is queued must be done: nothing may run in memory that goes next.
  ~CudaStream() {
    const RelaxedCapture relaxed;
    ELIR_CUDA_LOG(cudaStreamSynchronize(stream_));
    ELIR_CUDA_LOG(cudaStreamDestroy(stream_));
  }

  cudaStream_t get() const { return stream_; }
  void synchronize() const {
    const RelaxedCapture relaxed;
    ELIR_CUDA(cudaStreamSynchronize(stream_));
  }

 private:
  cudaStream_t stream_ = nullptr;
};

}  // namespace elir::cuda
