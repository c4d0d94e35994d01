#include "memory.hpp"

#include <algorithm>
#include <cstring>

#include "capture.hpp"
#include "device_guard.hpp"
#include "error.hpp"

namespace elir::cuda {

std::shared_ptr<void> allocate_device(int ordinal, std::size_t bytes) {
  const DeviceGuard device(ordinal);
  const RelaxedCapture relaxed;
  void* memory = nullptr;
  ELIR_CUDA(cudaMalloc(&memory, std::max<std::size_t>(bytes, 1)));
  return {memory, [ordinal](void* p) {
            const DeviceGuard its_device(ordinal);
            const RelaxedCapture while_others_record;
            ELIR_CUDA_LOG(cudaFree(p));
          }};
}

std::shared_ptr<void> allocate_pinned(int ordinal, std::size_t bytes) {
  const DeviceGuard device(ordinal);
  const RelaxedCapture relaxed;
  void* memory = nullptr;
  const std::size_t size = std::max<std::size_t>(bytes, 1);
  ELIR_CUDA(cudaHostAlloc(&memory, size, cudaHostAllocPortable | cudaHostAllocMapped));
  std::memset(memory, 0, size);
  return {memory, [ordinal](void* p) {
            const DeviceGuard its_device(ordinal);
            const RelaxedCapture while_others_record;
            ELIR_CUDA_LOG(cudaFreeHost(p));
          }};
}

}  // namespace elir::cuda
