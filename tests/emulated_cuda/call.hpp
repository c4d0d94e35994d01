// What every emulated call does around its own work: the lock, the count, ordered failures, the last error.
#pragma once

#include "runtime.hpp"

namespace emulated_cuda {

template <typename Work>
cudaError_t call(const char* name, Work&& work) {
  Runtime& runtime = Runtime::get();
  const std::lock_guard<std::mutex> lock(runtime.mutex());
  const cudaError_t ordered = runtime.enter(name);
  return ordered != cudaSuccess ? ordered : runtime.fail(work(runtime));
}

// A call that CUDA refuses while someone records; it ends that recording.
template <typename Work>
cudaError_t call_unsafe(const char* name, Work&& work) {
  return call(name, [&](Runtime& runtime) {
    const cudaError_t refused = runtime.refuse_unsafe();
    return refused != cudaSuccess ? refused : work(runtime);
  });
}

}  // namespace emulated_cuda
