// What tests say to the emulated GPU and ask of it, by C's conventions. Numbers are those of runtime.hpp.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdio>
#include <cstring>

#include "call.hpp"
#include "memory.hpp"
#include "traffic.hpp"

using namespace emulated_cuda;

namespace {

// Numbers of float32 (0), float16 (1) or bfloat16 (2).
float read_number(const void* from, std::size_t at, int element) {
  if (element == 0) return static_cast<const float*>(from)[at];
  if (element == 1) return __half2float(static_cast<const __half*>(from)[at]);
  return __bfloat162float(static_cast<const __nv_bfloat16*>(from)[at]);
}

void write_number(float value, void* to, std::size_t at, int element) {
  if (element == 0) {
    static_cast<float*>(to)[at] = value;
  } else if (element == 1) {
    static_cast<__half*>(to)[at] = __float2half_rn(value);
  } else {
    static_cast<__nv_bfloat16*>(to)[at] = __float2bfloat16_rn(value);
  }
}

void add(std::string& json, const char* name, const std::map<std::string, std::uint64_t>& counts) {
  json += (json.size() > 1 ? ", \"" : "\"") + std::string(name) + "\": {";
  const char* separator = "";
  for (const auto& [key, count] : counts) {
    json += separator + ("\"" + key + "\": " + std::to_string(count));
    separator = ", ";
  }
  json += "}";
}

}  // namespace

// A fresh adversary: every queued operation is executed, errors and orders are forgotten.
EMULATED_CUDA_API void emulated_reset(int schedule, std::uint64_t seed) {
  Runtime& runtime = Runtime::get();
  const std::lock_guard<std::mutex> lock(runtime.mutex());
  runtime.finish_all();
  runtime.streams.each([](Stream& stream) { stream.capture.reset(); });
  runtime.sticky = last_error() = cudaSuccess;
  runtime.forget_failures();
  runtime.settings = {};
  runtime.settings.schedule = static_cast<Schedule>(schedule);
  runtime.settings.backwards = seed % 2 == 1;
  runtime.seed(seed);
}

EMULATED_CUDA_API void emulated_device(int devices, int integrated, int problem) {
  Runtime& runtime = Runtime::get();
  const std::lock_guard<std::mutex> lock(runtime.mutex());
  runtime.settings.devices = devices;
  runtime.settings.integrated = integrated != 0;
  runtime.settings.problem = static_cast<cudaError_t>(problem);
}

// The nth call of that name from now on fails, and does nothing.
EMULATED_CUDA_API void emulated_fail(const char* call, int nth, int error) {
  Runtime& runtime = Runtime::get();
  const std::lock_guard<std::mutex> lock(runtime.mutex());
  runtime.order_failure(call, nth, static_cast<cudaError_t>(error));
}

// Whether a failure that was ordered has not come yet.
EMULATED_CUDA_API int emulated_failure_is_pending() {
  const std::lock_guard<std::mutex> lock(Runtime::get().mutex());
  return Runtime::get().failures_pending() ? 1 : 0;
}

// Everything fails from here on, as after a kernel that read a wrong address.
EMULATED_CUDA_API void emulated_break(int error) {
  const std::lock_guard<std::mutex> lock(Runtime::get().mutex());
  Runtime::get().sticky = static_cast<cudaError_t>(error);
}

// Counts since the last call with `clear`, as JSON; valid until the thread's next call.
EMULATED_CUDA_API const char* emulated_counts(int clear) {
  thread_local std::string json;
  Runtime& runtime = Runtime::get();
  const std::lock_guard<std::mutex> lock(runtime.mutex());
  json = "{";
  add(json, "calls", runtime.calls);
  add(json, "launches", runtime.launches);
  add(json, "executed", runtime.executed);
  add(json, "bytes", runtime.bytes);
  Traffic& traffic = Traffic::get();
  add(json, "read", traffic.read);
  add(json, "written", traffic.written);
  add(json, "loaded", traffic.loaded);
  add(json, "objects",
      {{"streams", runtime.streams.size()},
       {"events", runtime.events.size()},
       {"graphs", runtime.graphs.size()},
       {"execs", runtime.execs.size()},
       {"memory", Memory::get().live()},
       {"nodes", runtime.nodes_instantiated}});
  json += "}";
  if (clear != 0) {
    runtime.calls.clear();
    runtime.launches.clear();
    runtime.executed.clear();
    runtime.bytes.clear();
    runtime.nodes_instantiated = 0;
    traffic.read.clear();
    traffic.written.clear();
    traffic.loaded.clear();
  }
  return json.c_str();
}

// Names of the last operations that were executed, one a line.
EMULATED_CUDA_API const char* emulated_trace() {
  thread_local std::string lines;
  const std::lock_guard<std::mutex> lock(Runtime::get().mutex());
  lines.clear();
  for (const std::string& name : Runtime::get().trace) lines += name + "\n";
  return lines.c_str();
}

// An engine: to = factor * from + offset, number by number, when the stream comes to it.
EMULATED_CUDA_API int emulated_affine(std::uintptr_t stream, const void* from, void* to, std::size_t count,
                                      int element, float factor, float offset) {
  return call("engine", [&](Runtime& runtime) {
    return runtime.enqueue(reinterpret_cast<cudaStream_t>(stream), Kind::host_function, "engine", [=] {
      for (std::size_t i = 0; i < count; ++i) {
        write_number(factor * read_number(from, i, element) + offset, to, i, element);
      }
    });
  });
}

// A consumer: adds up bytes into a number of 64 bits.
EMULATED_CUDA_API int emulated_sum(std::uintptr_t stream, const void* from, void* to, std::size_t count) {
  return call("consumer", [&](Runtime& runtime) {
    return runtime.enqueue(reinterpret_cast<cudaStream_t>(stream), Kind::host_function, "consumer", [=] {
      std::uint64_t sum = 0;
      for (std::size_t i = 0; i < count; ++i) sum += static_cast<const std::uint8_t*>(from)[i];
      std::memcpy(to, &sum, sizeof(sum));
    });
  });
}

EMULATED_CUDA_API unsigned emulated_narrow(float value, int element) {
  std::uint16_t bits = 0;
  write_number(value, &bits, 0, element);
  return bits;
}

EMULATED_CUDA_API float emulated_widen(unsigned bits, int element) {
  const auto narrow = static_cast<std::uint16_t>(bits);
  return read_number(&narrow, 0, element);
}
