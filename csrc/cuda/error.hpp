// Errors of CUDA calls, in one place.
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace elir::cuda {

// "call: what CUDA says (its name of the error)".
std::string describe(const char* call, cudaError_t error);

// Throws std::runtime_error if a call failed. The error is then no longer the thread's last one: the next
// launch is not blamed for it.
void check(cudaError_t error, const char* call);

// Around launches, whose error is the thread's last one: what others left there is not ours.
inline void forget_errors() {
  static_cast<void>(cudaGetLastError());
}
void check_launch(const char* kernel);

// For destructors, which must not throw: a line on stderr. At the end of a process the driver may be gone
// before us; that is no error.
void log(cudaError_t error, const char* call) noexcept;

}  // namespace elir::cuda

#define ELIR_CUDA(call) ::elir::cuda::check((call), #call)
#define ELIR_CUDA_LOG(call) ::elir::cuda::log((call), #call)
