#include "memory.hpp"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) static_cast<void>(0)
#define ASAN_UNPOISON_MEMORY_REGION(address, size) static_cast<void>(0)
#endif

namespace emulated_cuda {

namespace {

constexpr std::size_t kRange = std::size_t{64} << 30;  // addresses, not memory
constexpr std::size_t kTotal = std::size_t{8} << 30;
constexpr std::size_t kPage = 4096;
constexpr std::size_t kGap = 2 * kPage;  // of poison on either side
constexpr std::size_t kAlignment = 512;

std::size_t round_up(std::size_t bytes, std::size_t to) {
  return (bytes + to - 1) / to * to;
}

std::map<std::uintptr_t, std::size_t>::const_iterator find_in(
    const std::map<std::uintptr_t, std::size_t>& blocks, const void* address) {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  auto found = blocks.upper_bound(at);
  if (found == blocks.begin()) return blocks.end();
  --found;
  return at - found->first < found->second ? found : blocks.end();
}

}  // namespace

Memory& Memory::get() {
  static Memory* memory = new Memory;
  return *memory;
}

Memory::Memory() {
  void* found = mmap(nullptr, kRange, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (found == MAP_FAILED) {
    std::perror("emulated CUDA: mmap");
    std::abort();
  }
  base_ = static_cast<std::uint8_t*>(found);
}

std::size_t Memory::total() const {
  return kTotal;
}

void Memory::expose() {
  if (exposed_++ == 0 && top_ > 0) mprotect(base_, top_, PROT_READ | PROT_WRITE);
}

void Memory::hide() {
  if (--exposed_ == 0 && top_ > 0) mprotect(base_, top_, PROT_NONE);
}

void* Memory::allocate(std::size_t bytes) {
  const std::size_t size = round_up(kGap + bytes + kGap, kPage);
  if (used_ + bytes > kTotal || top_ + size > kRange) return nullptr;
  std::uint8_t* start = base_ + top_;
  top_ += size;
  used_ += bytes;
  std::uint8_t* memory = start + kGap - kGap % kAlignment;
  const Exposed exposed(*this);
  mprotect(start, size, PROT_READ | PROT_WRITE);
  std::memset(memory, 0xFF, bytes);
  ASAN_POISON_MEMORY_REGION(start, size);
  ASAN_UNPOISON_MEMORY_REGION(memory, bytes);
  live_[reinterpret_cast<std::uintptr_t>(memory)] = bytes;
  return memory;
}

bool Memory::free(void* memory) {
  const auto found = live_.find(reinterpret_cast<std::uintptr_t>(memory));
  if (found == live_.end()) return false;
  ASAN_POISON_MEMORY_REGION(memory, found->second);
  auto* start = static_cast<std::uint8_t*>(memory) - kGap;
  madvise(start, round_up(kGap + found->second + kGap, kPage), MADV_DONTNEED);
  used_ -= found->second;
  live_.erase(found);
  return true;
}

void* Memory::allocate_pinned(std::size_t bytes) {
  void* memory = std::aligned_alloc(kPage, round_up(bytes, kPage));
  if (memory == nullptr) return nullptr;
  std::memset(memory, 0xFF, bytes);
  ASAN_POISON_MEMORY_REGION(static_cast<std::uint8_t*>(memory) + bytes, round_up(bytes, kPage) - bytes);
  pinned_[reinterpret_cast<std::uintptr_t>(memory)] = bytes;
  return memory;
}

bool Memory::free_pinned(void* memory) {
  const auto found = pinned_.find(reinterpret_cast<std::uintptr_t>(memory));
  if (found == pinned_.end()) return false;
  ASAN_UNPOISON_MEMORY_REGION(memory, round_up(found->second, kPage));
  pinned_.erase(found);
  std::free(memory);
  return true;
}

bool Memory::is_device(const void* address) const {
  const auto* at = static_cast<const std::uint8_t*>(address);
  return at >= base_ && at < base_ + kRange;
}

bool Memory::is_pinned(const void* address) const {
  return find_in(pinned_, address) != pinned_.end();
}

bool Memory::holds(const void* address, std::size_t bytes) const {
  const auto found = find_in(live_, address);
  if (found == live_.end()) return false;
  return reinterpret_cast<std::uintptr_t>(address) - found->first + bytes <= found->second;
}

}  // namespace emulated_cuda
