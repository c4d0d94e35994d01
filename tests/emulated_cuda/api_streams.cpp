// CUDA's calls, over the emulated GPU: errors, streams, events and graphs.
#include "call.hpp"

using namespace emulated_cuda;

namespace {

template <typename Handle>
Handle as_handle(std::uintptr_t number) {
  return reinterpret_cast<Handle>(number);
}

// Destroying is allowed while someone records.
template <typename Handle, typename T>
cudaError_t destroy(const char* name, Handles<T> Runtime::* handles, Handle handle) {
  return call(name, [&](Runtime& runtime) {
    return (runtime.*handles).remove(handle) ? cudaSuccess : cudaErrorInvalidResourceHandle;
  });
}

cudaError_t create_stream(const char* name, cudaStream_t* stream, unsigned flags) {
  return call(name, [&](Runtime& runtime) {
    auto made = std::make_shared<Stream>();
    made->blocking = (flags & cudaStreamNonBlocking) == 0;
    *stream = as_handle<cudaStream_t>(runtime.streams.add(std::move(made)));
    return cudaSuccess;
  });
}

// The error of asking about a stream that records, which ends the recording.
cudaError_t refuse_capturing(const Stream& stream) {
  if (!stream.capture) return cudaSuccess;
  stream.capture->invalidated = true;
  return cudaErrorStreamCaptureUnsupported;
}

cudaError_t refuse_captured(const Event& event) {
  if (!event.capture) return cudaSuccess;
  event.capture->invalidated = true;
  return cudaErrorCapturedEvent;
}

struct Name {
  cudaError_t error;
  const char *name, *text;
};
constexpr Name kNames[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureMerge, "cudaErrorStreamCaptureMerge",
     "operation would result in a merge of separate capture sequences"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
     "capture was not ended in the same stream as it began"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {cudaErrorCapturedEvent, "cudaErrorCapturedEvent",
     "operation not permitted on an event last recorded in a capturing stream"},
    {cudaErrorStreamCaptureWrongThread, "cudaErrorStreamCaptureWrongThread",
     "attempt to terminate a thread-local capture sequence from another thread"},
};

const Name* find_name(cudaError_t error) {
  for (const Name& name : kNames) {
    if (name.error == error) return &name;
  }
  return nullptr;
}

}  // namespace

cudaError_t cudaGetLastError() {
  const std::lock_guard<std::mutex> lock(Runtime::get().mutex());
  ++Runtime::get().calls["cudaGetLastError"];
  const cudaError_t error = last_error();
  last_error() = Runtime::get().sticky;
  return error;
}

cudaError_t cudaPeekAtLastError() {
  return last_error();
}

const char* cudaGetErrorString(cudaError_t error) {
  const Name* name = find_name(error);
  return name == nullptr ? "unknown error" : name->text;
}

const char* cudaGetErrorName(cudaError_t error) {
  const Name* name = find_name(error);
  return name == nullptr ? "cudaErrorUnknown" : name->name;
}

cudaError_t cudaDeviceSynchronize() {
  return call_unsafe("cudaDeviceSynchronize", [&](Runtime& runtime) {
    cudaError_t refused = cudaSuccess;
    runtime.streams.each([&](const Stream& stream) {
      const cudaError_t error = refuse_capturing(stream);
      if (error != cudaSuccess) refused = error;
    });
    if (refused != cudaSuccess) return refused;
    runtime.finish_all();
    return runtime.sticky;
  });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return create_stream("cudaStreamCreateWithFlags", stream, flags);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return create_stream("cudaStreamCreateWithPriority", stream, flags);
}

// Returns at once; what is queued is still executed.
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return destroy("cudaStreamDestroy", &Runtime::streams, stream);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return call_unsafe("cudaStreamSynchronize", [&](Runtime& runtime) {
    const std::shared_ptr<Stream> found = runtime.stream(stream);
    if (!found) return cudaErrorInvalidResourceHandle;
    const cudaError_t refused = refuse_capturing(*found);
    if (refused != cudaSuccess) return refused;
    runtime.finish(found->last);
    return runtime.sticky;
  });
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return call_unsafe("cudaStreamQuery", [&](Runtime& runtime) {
    const std::shared_ptr<Stream> found = runtime.stream(stream);
    if (!found) return cudaErrorInvalidResourceHandle;
    const cudaError_t refused = refuse_capturing(*found);
    if (refused != cudaSuccess) return refused;
    return !found->last || found->last->done ? cudaSuccess : cudaErrorNotReady;
  });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  return call("cudaStreamWaitEvent", [&](Runtime& runtime) {
    const std::shared_ptr<Event> found = runtime.events.find(event);
    return found ? runtime.wait(stream, *found) : cudaErrorInvalidResourceHandle;
  });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* argument) {
  return call("cudaLaunchHostFunc", [&](Runtime& runtime) {
    return runtime.enqueue(stream, Kind::host_function, "host function", [=] { function(argument); });
  });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return call("cudaEventCreateWithFlags", [&](Runtime& runtime) {
    *event = as_handle<cudaEvent_t>(runtime.events.add(std::make_shared<Event>()));
    return cudaSuccess;
  });
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return destroy("cudaEventDestroy", &Runtime::events, event);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return call("cudaEventRecord", [&](Runtime& runtime) {
    const std::shared_ptr<Event> found = runtime.events.find(event);
    return found ? runtime.record(*found, stream) : cudaErrorInvalidResourceHandle;
  });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return call_unsafe("cudaEventSynchronize", [&](Runtime& runtime) {
    const std::shared_ptr<Event> found = runtime.events.find(event);
    if (!found) return cudaErrorInvalidResourceHandle;
    const cudaError_t refused = refuse_captured(*found);
    if (refused != cudaSuccess) return refused;
    runtime.finish(found->recorded);
    return runtime.sticky;
  });
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  return call_unsafe("cudaEventQuery", [&](Runtime& runtime) {
    const std::shared_ptr<Event> found = runtime.events.find(event);
    if (!found) return cudaErrorInvalidResourceHandle;
    const cudaError_t refused = refuse_captured(*found);
    if (refused != cudaSuccess) return refused;
    return !found->recorded || found->recorded->done ? cudaSuccess : cudaErrorNotReady;
  });
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  return call("cudaThreadExchangeStreamCaptureMode", [&](Runtime&) {
    std::swap(thread_mode(), *mode);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  return call("cudaStreamIsCapturing", [&](Runtime& runtime) {
    const std::shared_ptr<Stream> found = runtime.stream(stream);
    if (!found) return cudaErrorInvalidResourceHandle;
    *status = !found->capture               ? cudaStreamCaptureStatusNone
              : found->capture->invalidated ? cudaStreamCaptureStatusInvalidated
                                            : cudaStreamCaptureStatusActive;
    return cudaSuccess;
  });
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  return call("cudaStreamBeginCapture",
              [&](Runtime& runtime) { return runtime.begin_capture(stream, mode); });
}

// However it fails, the stream records no more.
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  Runtime& runtime = Runtime::get();
  const std::lock_guard<std::mutex> lock(runtime.mutex());
  std::unique_ptr<Graph> found;
  const cudaError_t ended = runtime.end_capture(stream, found);
  const cudaError_t ordered = runtime.enter("cudaStreamEndCapture");
  if (ordered != cudaSuccess) return ordered;
  if (found) *graph = as_handle<cudaGraph_t>(runtime.graphs.add(std::move(found)));
  return runtime.fail(ended);
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, std::size_t* count) {
  return call("cudaGraphGetNodes", [&](Runtime& runtime) {
    const std::shared_ptr<Graph> found = runtime.graphs.find(graph);
    if (!found || nodes != nullptr) return cudaErrorInvalidValue;
    *count = found->nodes.size();
    return cudaSuccess;
  });
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  return call("cudaGraphInstantiate", [&](Runtime& runtime) {
    const std::shared_ptr<Graph> found = runtime.graphs.find(graph);
    if (!found) return cudaErrorInvalidValue;
    auto made = std::make_shared<GraphExec>();
    made->nodes = found->nodes;
    runtime.nodes_instantiated += made->nodes.size();
    *exec = as_handle<cudaGraphExec_t>(runtime.execs.add(std::move(made)));
    return cudaSuccess;
  });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  return call("cudaGraphLaunch", [&](Runtime& runtime) {
    const std::shared_ptr<GraphExec> found = runtime.execs.find(exec);
    return found ? runtime.launch(*found, stream) : cudaErrorInvalidValue;
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return destroy("cudaGraphDestroy", &Runtime::graphs, graph);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  return destroy("cudaGraphExecDestroy", &Runtime::execs, exec);
}
