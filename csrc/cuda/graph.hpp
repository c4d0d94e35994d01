// Owners of CUDA graphs.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <functional>
#include <utility>

#include "capture.hpp"
#include "error.hpp"

namespace elir::cuda {

// What a stream recorded.
class CudaGraph {
 public:
  // Records what `enqueue` queues on the stream, and nothing of it runs. Throws what `enqueue` throws, or why
  // CUDA could not record it; the stream records no more either way.
  CudaGraph(cudaStream_t stream, const std::function<void()>& enqueue) {
    const Recording recording;
    ELIR_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    try {
      enqueue();
    } catch (...) {
      // The recording ends with an error of its own where it was broken; what is thrown says why.
      if (cudaStreamEndCapture(stream, &graph_) != cudaSuccess) static_cast<void>(cudaGetLastError());
      destroy();
      throw;
    }
    ELIR_CUDA(cudaStreamEndCapture(stream, &graph_));
  }
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;
  ~CudaGraph() { destroy(); }

  cudaGraph_t get() const { return graph_; }

 private:
  void destroy() noexcept {
    if (graph_ != nullptr) ELIR_CUDA_LOG(cudaGraphDestroy(graph_));
    graph_ = nullptr;
  }

  cudaGraph_t graph_ = nullptr;
};

// A graph that is ready to be launched.
class CudaGraphExec {
 public:
  explicit CudaGraphExec(const CudaGraph& graph) { ELIR_CUDA(cudaGraphInstantiate(&exec_, graph.get(), 0)); }
  CudaGraphExec(CudaGraphExec&& other) noexcept : exec_(std::exchange(other.exec_, nullptr)) {}
  CudaGraphExec& operator=(CudaGraphExec&& other) noexcept {
    std::swap(exec_, other.exec_);
    return *this;
  }
  ~CudaGraphExec() {
    if (exec_ != nullptr) ELIR_CUDA_LOG(cudaGraphExecDestroy(exec_));
  }

  void launch(cudaStream_t stream) const { ELIR_CUDA(cudaGraphLaunch(exec_, stream)); }

 private:
  cudaGraphExec_t exec_ = nullptr;
};

}  // namespace elir::cuda
