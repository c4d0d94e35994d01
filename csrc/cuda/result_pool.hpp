// Memory for restored frames that callers take and give back.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "event.hpp"

namespace elir::cuda {

// Given back, memory waits here for its next use; the pool outlives the device for as long as someone has a
// result. All buffers of a pool have the same size.
class ResultPool : public std::enable_shared_from_this<ResultPool> {
 public:
  explicit ResultPool(int ordinal) : ordinal_(ordinal) {}
  ResultPool(const ResultPool&) = delete;
  ResultPool& operator=(const ResultPool&) = delete;
  ~ResultPool();

  // Memory that `stream` may write: it is made to wait for what the last owner still does there.
  std::shared_ptr<std::uint8_t> take(std::size_t bytes, cudaStream_t stream);

  // The owner of a result works on it on this stream.
  void note_consumer(const void* memory, std::uintptr_t stream);

 private:
  struct Settled {
    std::shared_ptr<void> memory;
    std::shared_ptr<CudaEvent> used;  // null: nobody does anything with it
  };

  void recycle(const std::shared_ptr<void>& memory) noexcept;
  // Memory to use again, or null. With the lock held.
  std::shared_ptr<void> reuse(cudaStream_t stream);
  // Wait for the device, after which all memory is settled; no more than an attempt while someone records.
  void settle();

  const int ordinal_;
  std::mutex mutex_;
  std::vector<Settled> settled_;
  // Given back by owners that worked on streams of their own. Those may be gone by now, and nothing may be
  // asked of a stream that is gone: such memory is used again after the whole device was waited for, many at
  // a time.
  std::vector<std::shared_ptr<void>> unsettled_;
  std::vector<std::shared_ptr<CudaEvent>> spare_events_;
  std::map<const void*, std::uintptr_t> consumers_;
};

}  // namespace elir::cuda
