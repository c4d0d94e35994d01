// Errors of CUDA calls, in one place, and owners of what they give.
#pragma once

#include <cuda_runtime.h>

#include <cstdio>
#include <stdexcept>
#include <string>

namespace elir {

inline std::string cuda_message(const char* call, cudaError_t error) {
  return std::string(call) + ": " + cudaGetErrorString(error) + " (" + cudaGetErrorName(error) + ")";
}

inline void cuda_check(cudaError_t error, const char* call) {
  if (error != cudaSuccess) throw std::runtime_error(cuda_message(call, error));
}

// For destructors, which must not throw. At the end of a process the driver may be gone before us.
inline void cuda_log(cudaError_t error, const char* call) noexcept {
  if (error == cudaSuccess || error == cudaErrorCudartUnloading) return;
  std::fprintf(stderr, "elir_trt: %s: %s\n", call, cudaGetErrorString(error));
}

}  // namespace elir

#define ELIR_CUDA(call) ::elir::cuda_check((call), #call)
#define ELIR_CUDA_LOG(call) ::elir::cuda_log((call), #call)

namespace elir {

class CudaStream {
 public:
  CudaStream() { ELIR_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;
  ~CudaStream() { ELIR_CUDA_LOG(cudaStreamDestroy(stream_)); }
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// A recorded frame, ready to be launched; empty until `instantiate`.
class CudaGraph {
 public:
  CudaGraph() = default;
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;
  ~CudaGraph() {
    if (graph_ != nullptr) ELIR_CUDA_LOG(cudaGraphExecDestroy(graph_));
  }
  explicit operator bool() const { return graph_ != nullptr; }
  void instantiate(cudaGraph_t recorded) { ELIR_CUDA(cudaGraphInstantiate(&graph_, recorded, 0)); }
  void launch(cudaStream_t stream) const { ELIR_CUDA(cudaGraphLaunch(graph_, stream)); }

 private:
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace elir
