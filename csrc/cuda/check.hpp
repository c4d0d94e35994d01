// Errors of CUDA calls, in one place, and owners of what they give.
#pragma once

#include <cuda_runtime.h>
#include <dlfcn.h>

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

// Work on a device while this lives; the thread's own context, of whoever made it, is current again
// afterwards.
class Using {
 public:
  explicit Using(int ordinal) {
    const Driver& driver = Driver::get();
    if (driver.get_current != nullptr) static_cast<void>(driver.get_current(&context_));
    cuda_log(cudaSetDevice(ordinal), "cudaSetDevice");
  }
  Using(const Using&) = delete;
  Using& operator=(const Using&) = delete;
  ~Using() {
    const Driver& driver = Driver::get();
    if (context_ != nullptr && driver.set_current != nullptr) static_cast<void>(driver.set_current(context_));
  }

 private:
  // The two calls of the driver that the runtime does not have.
  struct Driver {
    int (*get_current)(void**) = nullptr;
    int (*set_current)(void*) = nullptr;
    static const Driver& get() {
      static const Driver driver = [] {
        Driver found;
        void* library = dlopen("libcuda.so.1", RTLD_NOW);
        if (library != nullptr) {
          found.get_current = reinterpret_cast<int (*)(void**)>(dlsym(library, "cuCtxGetCurrent"));
          found.set_current = reinterpret_cast<int (*)(void*)>(dlsym(library, "cuCtxSetCurrent"));
        }
        return found;
      }();
      return driver;
    }
  };
  void* context_ = nullptr;
};

class CudaEvent {
 public:
  CudaEvent() { ELIR_CUDA(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming)); }
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;
  ~CudaEvent() { ELIR_CUDA_LOG(cudaEventDestroy(event_)); }
  void record(cudaStream_t stream) const { ELIR_CUDA(cudaEventRecord(event_, stream)); }
  void hold_back(cudaStream_t stream) const { ELIR_CUDA(cudaStreamWaitEvent(stream, event_, 0)); }
  void wait() const { ELIR_CUDA(cudaEventSynchronize(event_)); }

 private:
  cudaEvent_t event_ = nullptr;
};

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
