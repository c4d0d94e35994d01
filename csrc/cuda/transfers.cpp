#include "transfers.hpp"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "device_guard.hpp"

namespace elir::cuda {

namespace {

std::uint16_t narrow(float value, Element element) {
  std::uint16_t bits = 0;
  if (element == Element::float16) {
    const __half half = __float2half_rn(value);
    std::memcpy(&bits, &half, sizeof(bits));
  } else {
    const __nv_bfloat16 half = __float2bfloat16_rn(value);
    std::memcpy(&bits, &half, sizeof(bits));
  }
  return bits;
}

float widen(std::uint16_t bits, Element element) {
  if (element == Element::float16) {
    __half_raw raw;
    raw.x = bits;
    return __half2float(__half(raw));
  }
  __nv_bfloat16_raw raw;
  raw.x = bits;
  return __bfloat162float(__nv_bfloat16(raw));
}

}  // namespace

std::shared_ptr<void> Transfers::allocate_zeros(std::size_t bytes) const {
  const DeviceGuard device(ordinal_);
  std::shared_ptr<void> memory = allocate_device(ordinal_, bytes);
  ELIR_CUDA(cudaMemsetAsync(memory.get(), 0, std::max<std::size_t>(bytes, 1), stream_.get()));
  stream_.synchronize();
  return memory;
}

void Transfers::upload(const void* from, std::size_t bytes, void* to) const {
  const DeviceGuard device(ordinal_);
  ELIR_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_.get()));
  stream_.synchronize();
}

void Transfers::download(const void* from, std::size_t bytes, void* to) const {
  const DeviceGuard device(ordinal_);
  ELIR_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_.get()));
  stream_.synchronize();
}

void Transfers::write(const float* from, std::size_t count, Element element, void* to) const {
  if (element == Element::float32) return upload(from, count * sizeof(float), to);
  std::vector<std::uint16_t> bits(count);
  std::transform(from, from + count, bits.begin(), [&](float value) { return narrow(value, element); });
  upload(bits.data(), count * sizeof(std::uint16_t), to);
}

void Transfers::read(const void* from, std::size_t count, Element element, float* to) const {
  if (element == Element::float32) return download(from, count * sizeof(float), to);
  std::vector<std::uint16_t> bits(count);
  download(from, count * sizeof(std::uint16_t), bits.data());
  std::transform(bits.begin(), bits.end(), to, [&](std::uint16_t value) { return widen(value, element); });
}

}  // namespace elir::cuda
