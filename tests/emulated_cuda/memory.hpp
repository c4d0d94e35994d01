// Memory of the emulated GPU: a range of addresses that the CPU may touch while an operation runs and at no
// other time. Each allocation lies between poisoned bytes; freed ones are poisoned for good and never used
// again. What is new holds bytes of all ones, which are NaN in every type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

namespace emulated_cuda {

class Memory {
 public:
  static Memory& get();

  // Opens the range while this lives.
  class Exposed {
   public:
    explicit Exposed(Memory& memory) : memory_(memory) { memory_.expose(); }
    ~Exposed() { memory_.hide(); }
    Exposed(const Exposed&) = delete;
    Exposed& operator=(const Exposed&) = delete;

   private:
    Memory& memory_;
  };

  // Null where there is no more.
  void* allocate(std::size_t bytes);
  bool free(void* memory);
  // Page-locked memory of the CPU.
  void* allocate_pinned(std::size_t bytes);
  bool free_pinned(void* memory);

  bool is_device(const void* address) const;
  bool is_pinned(const void* address) const;
  // Whether all the bytes are of one live allocation of the device.
  bool holds(const void* address, std::size_t bytes) const;

  std::size_t used() const { return used_; }
  std::size_t total() const;
  std::size_t live() const { return live_.size() + pinned_.size(); }

 private:
  Memory();
  void expose();
  void hide();

  std::uint8_t* base_ = nullptr;
  std::size_t top_ = 0;  // bytes given out so far, dead ones included
  std::size_t used_ = 0;
  int exposed_ = 0;
  std::map<std::uintptr_t, std::size_t> live_, pinned_;  // address: bytes
};

}  // namespace emulated_cuda
