#include "result_pool.hpp"

#include <cstdio>
#include <exception>

#include "capture.hpp"
#include "device_guard.hpp"
#include "memory.hpp"

namespace elir::cuda {

namespace {

// So many results are kept before the device is waited for, so that it is seldom.
constexpr std::size_t kMostUnsettled = 8;

const std::uintptr_t kDefaultStream = reinterpret_cast<std::uintptr_t>(cudaStreamLegacy);

}  // namespace

ResultPool::~ResultPool() {
  // No memory goes while someone works in it.
  const DeviceGuard device(ordinal_);
  if (!unsettled_.empty()) settle();
  for (const Settled& free : settled_) {
    if (!free.used) continue;
    try {
      free.used->wait();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "elir_trt: %s\n", error.what());
    }
  }
}

std::shared_ptr<std::uint8_t> ResultPool::take(std::size_t bytes, cudaStream_t stream) {
  const DeviceGuard device(ordinal_);
  std::shared_ptr<void> memory;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    memory = reuse(stream);
  }
  if (!memory) memory = allocate_device(ordinal_, bytes);
  // The pool takes the memory back when the last owner lets go.
  auto* address = static_cast<std::uint8_t*>(memory.get());
  return {address, [self = shared_from_this(), memory](std::uint8_t*) { self->recycle(memory); }};
}

void ResultPool::note_consumer(const void* memory, std::uintptr_t stream) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto [found, is_first] = consumers_.emplace(memory, stream);
  // Several consumers on several streams are as one on a stream that nobody knows.
  if (!is_first && found->second != stream) found->second = 0;
}

std::shared_ptr<void> ResultPool::reuse(cudaStream_t stream) {
  if (settled_.empty() && unsettled_.size() >= kMostUnsettled) settle();
  if (settled_.empty()) return nullptr;
  Settled found = settled_.back();
  if (found.used) {
    found.used->make_stream_wait(stream);
    spare_events_.push_back(found.used);
  }
  settled_.pop_back();
  return found.memory;
}

void ResultPool::settle() {
  if (Recording::in_this_thread()) return;
  try {
    const std::lock_guard<std::mutex> nobody_records(recording_mutex());
    const RelaxedCapture relaxed;
    ELIR_CUDA(cudaDeviceSynchronize());
  } catch (const std::exception&) {
    return;  // Another library records on this device. There is other memory until that is over.
  }
  for (std::shared_ptr<void>& memory : unsettled_) settled_.push_back({std::move(memory), nullptr});
  unsettled_.clear();
}

void ResultPool::recycle(const std::shared_ptr<void>& memory) noexcept {
  const DeviceGuard device(ordinal_);
  const std::lock_guard<std::mutex> lock(mutex_);
  std::uintptr_t consumer = kDefaultStream;
  const auto found = consumers_.find(memory.get());
  if (found != consumers_.end()) {
    consumer = found->second;
    consumers_.erase(found);
  }
  if (consumer == kDefaultStream) {
    try {
      std::shared_ptr<CudaEvent> used;
      if (spare_events_.empty()) {
        used = std::make_shared<CudaEvent>();
      } else {
        used = spare_events_.back();
        spare_events_.pop_back();
      }
      used->record(cudaStreamLegacy);
      settled_.push_back({memory, std::move(used)});
      return;
    } catch (const std::exception& error) {
      std::fprintf(stderr, "elir_trt: %s\n", error.what());
    }
  }
  unsettled_.push_back(memory);
}

}  // namespace elir::cuda
