// Owners of memory: of the device, and of the CPU where the device can read and write it.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <memory>
#include <type_traits>

#include "error.hpp"

namespace elir::cuda {

// Memory of the device. Contents are left as they are; at least one byte, so that every owner has an address.
std::shared_ptr<void> allocate_device(int ordinal, std::size_t bytes);

// Page-locked memory of the CPU, all zeros, seen by every device.
std::shared_ptr<void> allocate_pinned(int ordinal, std::size_t bytes);

template <typename T>
std::shared_ptr<T> allocate_device(int ordinal, std::size_t count) {
  return std::static_pointer_cast<T>(allocate_device(ordinal, count * sizeof(T)));
}

template <typename T>
std::shared_ptr<T> allocate_pinned(int ordinal, std::size_t count) {
  return std::static_pointer_cast<T>(allocate_pinned(ordinal, count * sizeof(T)));
}

// Where the device sees page-locked memory of the CPU.
template <typename T>
T* device_address(T* pinned) {
  void* address = nullptr;
  ELIR_CUDA(cudaHostGetDevicePointer(&address, const_cast<std::remove_const_t<T>*>(pinned), 0));
  return static_cast<T*>(address);
}

}  // namespace elir::cuda
