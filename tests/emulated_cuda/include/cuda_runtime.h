// Stand-in for CUDA's header: what csrc/cuda uses of the runtime, on the CPU. See ../README.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__

#define EMULATED_CUDA_API extern "C" __attribute__((visibility("default")))

// Numbers as in CUDA 13's driver_types.h.
enum cudaError {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInitializationError = 3,
  cudaErrorCudartUnloading = 4,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInvalidMemcpyDirection = 21,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorInvalidResourceHandle = 400,
  cudaErrorNotReady = 600,
  cudaErrorIllegalAddress = 700,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
  cudaErrorStreamCaptureMerge = 902,
  cudaErrorStreamCaptureUnmatched = 903,
  cudaErrorStreamCaptureUnjoined = 904,
  cudaErrorStreamCaptureIsolation = 905,
  cudaErrorStreamCaptureImplicit = 906,
  cudaErrorCapturedEvent = 907,
  cudaErrorStreamCaptureWrongThread = 908,
  cudaErrorUnknown = 999
};
using cudaError_t = cudaError;

struct CUstream_st;
struct CUevent_st;
struct CUgraph_st;
struct CUgraphExec_st;
struct CUgraphNode_st;
using cudaStream_t = CUstream_st*;
using cudaEvent_t = CUevent_st*;
using cudaGraph_t = CUgraph_st*;
using cudaGraphExec_t = CUgraphExec_st*;
using cudaGraphNode_t = CUgraphNode_st*;
using cudaHostFn_t = void (*)(void*);

#define cudaStreamLegacy (reinterpret_cast<cudaStream_t>(std::uintptr_t{1}))
#define cudaStreamPerThread (reinterpret_cast<cudaStream_t>(std::uintptr_t{2}))

constexpr unsigned cudaStreamDefault = 0, cudaStreamNonBlocking = 1;
constexpr unsigned cudaEventDefault = 0, cudaEventBlockingSync = 1, cudaEventDisableTiming = 2;
constexpr unsigned cudaHostAllocDefault = 0, cudaHostAllocPortable = 1, cudaHostAllocMapped = 2,
                   cudaHostAllocWriteCombined = 4;

enum cudaMemcpyKind {
  cudaMemcpyHostToHost = 0,
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3,
  cudaMemcpyDefault = 4
};
enum cudaMemoryType {
  cudaMemoryTypeUnregistered = 0,
  cudaMemoryTypeHost = 1,
  cudaMemoryTypeDevice = 2,
  cudaMemoryTypeManaged = 3
};
enum cudaStreamCaptureMode {
  cudaStreamCaptureModeGlobal = 0,
  cudaStreamCaptureModeThreadLocal = 1,
  cudaStreamCaptureModeRelaxed = 2
};
enum cudaStreamCaptureStatus {
  cudaStreamCaptureStatusNone = 0,
  cudaStreamCaptureStatusActive = 1,
  cudaStreamCaptureStatusInvalidated = 2
};
enum cudaDeviceAttr { cudaDevAttrIntegrated = 18 };

struct cudaPointerAttributes {
  cudaMemoryType type;
  int device;
  void* devicePointer;
  void* hostPointer;
};

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned in_x = 1, unsigned in_y = 1, unsigned in_z = 1) : x(in_x), y(in_y), z(in_z) {}
};

inline thread_local dim3 gridDim, blockDim, blockIdx, threadIdx;

template <typename T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}
inline int atomicOr(int* address, int value) {
  const int before = *address;
  *address = before | value;
  return before;
}

EMULATED_CUDA_API cudaError_t cudaGetLastError();
EMULATED_CUDA_API cudaError_t cudaPeekAtLastError();
EMULATED_CUDA_API const char* cudaGetErrorString(cudaError_t error);
EMULATED_CUDA_API const char* cudaGetErrorName(cudaError_t error);

EMULATED_CUDA_API cudaError_t cudaDriverGetVersion(int* version);
EMULATED_CUDA_API cudaError_t cudaGetDeviceCount(int* count);
EMULATED_CUDA_API cudaError_t cudaSetDevice(int device);
EMULATED_CUDA_API cudaError_t cudaGetDevice(int* device);
EMULATED_CUDA_API cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
EMULATED_CUDA_API cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest);
EMULATED_CUDA_API cudaError_t cudaDeviceSynchronize();

EMULATED_CUDA_API cudaError_t cudaMalloc(void** memory, std::size_t bytes);
EMULATED_CUDA_API cudaError_t cudaFree(void* memory);
EMULATED_CUDA_API cudaError_t cudaHostAlloc(void** memory, std::size_t bytes, unsigned flags);
EMULATED_CUDA_API cudaError_t cudaFreeHost(void* memory);
EMULATED_CUDA_API cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned flags);
EMULATED_CUDA_API cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* found, const void* memory);
EMULATED_CUDA_API cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total);
template <typename T>
cudaError_t cudaMalloc(T** memory, std::size_t bytes) {
  return cudaMalloc(reinterpret_cast<void**>(memory), bytes);
}

EMULATED_CUDA_API cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind);
EMULATED_CUDA_API cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes,
                                              cudaMemcpyKind kind, cudaStream_t stream = nullptr);
EMULATED_CUDA_API cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from,
                                                std::size_t from_pitch, std::size_t width, std::size_t height,
                                                cudaMemcpyKind kind, cudaStream_t stream = nullptr);
EMULATED_CUDA_API cudaError_t cudaMemset(void* memory, int value, std::size_t bytes);
EMULATED_CUDA_API cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes,
                                              cudaStream_t stream = nullptr);

EMULATED_CUDA_API cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
EMULATED_CUDA_API cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags,
                                                           int priority);
EMULATED_CUDA_API cudaError_t cudaStreamDestroy(cudaStream_t stream);
EMULATED_CUDA_API cudaError_t cudaStreamSynchronize(cudaStream_t stream);
EMULATED_CUDA_API cudaError_t cudaStreamQuery(cudaStream_t stream);
EMULATED_CUDA_API cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
EMULATED_CUDA_API cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* argument);

EMULATED_CUDA_API cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
EMULATED_CUDA_API cudaError_t cudaEventDestroy(cudaEvent_t event);
EMULATED_CUDA_API cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
EMULATED_CUDA_API cudaError_t cudaEventSynchronize(cudaEvent_t event);
EMULATED_CUDA_API cudaError_t cudaEventQuery(cudaEvent_t event);

EMULATED_CUDA_API cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode);
EMULATED_CUDA_API cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status);
EMULATED_CUDA_API cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
EMULATED_CUDA_API cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
EMULATED_CUDA_API cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes,
                                                std::size_t* count);
EMULATED_CUDA_API cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph,
                                                   unsigned long long flags = 0);
EMULATED_CUDA_API cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
EMULATED_CUDA_API cudaError_t cudaGraphDestroy(cudaGraph_t graph);
EMULATED_CUDA_API cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);

namespace emulated_cuda {

// Queues a grid of `thread` calls on a stream; its error is the thread's last one.
void launch_kernel(const char* name, dim3 grid, dim3 block, cudaStream_t stream,
                   std::function<void()> thread);
// Ends the process if a kernel is given an address that a GPU could not read.
void check_kernel_pointer(const char* kernel, const void* address);

// What `kernel<<<grid, block, shared, stream>>>(arguments)` becomes.
struct Launch {
  const char* name;
  dim3 grid, block;
  std::size_t shared = 0;
  cudaStream_t stream = nullptr;

  template <typename Kernel, typename... Arguments>
  void operator()(Kernel kernel, Arguments... arguments) const {
    const auto check = [this](const auto& argument) {
      if constexpr (std::is_pointer_v<std::decay_t<decltype(argument)>>) {
        check_kernel_pointer(name, static_cast<const void*>(argument));
      }
    };
    (check(arguments), ...);
    launch_kernel(name, grid, block, stream, [=] { kernel(arguments...); });
  }
};

}  // namespace emulated_cuda
