#include "error.hpp"

#include <cstdio>

namespace elir::cuda {

std::string describe(const char* call, cudaError_t error) {
  return std::string(call) + ": " + cudaGetErrorString(error) + " (" + cudaGetErrorName(error) + ")";
}

void check(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());
  throw std::runtime_error(describe(call, error));
}

void check_launch(const char* kernel) {
  check(cudaGetLastError(), kernel);
}

void log(cudaError_t error, const char* call) noexcept {
  if (error == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());
  if (error == cudaErrorCudartUnloading) return;
  std::fprintf(stderr, "elir_trt: %s: %s\n", call, cudaGetErrorString(error));
}

}  // namespace elir::cuda
