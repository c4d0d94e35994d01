// Copies that are done when their call returns, on a stream of their own: they neither wait for the default
// stream nor for what other streams do.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <memory>
#include <vector>

#include "../device.hpp"
#include "memory.hpp"
#include "stream.hpp"

namespace elir::cuda {

class Transfers {
 public:
  explicit Transfers(int ordinal) : ordinal_(ordinal) {}

  cudaStream_t stream() const { return stream_.get(); }

  // Memory of the device, all zeros.
  std::shared_ptr<void> allocate_zeros(std::size_t bytes) const;
  void upload(const void* from, std::size_t bytes, void* to) const;
  void download(const void* from, std::size_t bytes, void* to) const;

  // A copy on the device.
  template <typename T>
  std::shared_ptr<T> array(const std::vector<T>& from) const {
    auto memory = allocate_device<T>(ordinal_, from.size());
    upload(from.data(), from.size() * sizeof(T), memory.get());
    return memory;
  }

  // The same, converted between the CPU's float and `element`.
  void write(const float* from, std::size_t count, Element element, void* to) const;
  void read(const void* from, std::size_t count, Element element, float* to) const;

 private:
  const int ordinal_;
  CudaStream stream_;
};

}  // namespace elir::cuda
