// Bytes of the device's memory that kernels touch. Where kernels are compiled with -fsanitize=thread, the
// compiler tells every load and store to functions that are found in traffic.cpp instead of
// ThreadSanitizer's; elsewhere nothing is counted.
#pragma once

#include <bitset>
#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>

namespace emulated_cuda {

class Traffic {
 public:
  static Traffic& get();

  // Counts what a kernel touches on this thread while it lives.
  class Kernel {
   public:
    explicit Kernel(const std::string& name);
    ~Kernel();
    Kernel(const Kernel&) = delete;
    Kernel& operator=(const Kernel&) = delete;

   private:
    const std::string& name_;
  };

  void touch(std::uintptr_t address, std::size_t bytes, bool write);

  // By kernel: bytes that were read and written, each counted once a launch, and what all loads asked for.
  std::map<std::string, std::uint64_t> read, written, loaded;

 private:
  static constexpr std::size_t kPage = 4096;
  struct Page {
    std::bitset<kPage> read, written;
  };

  Page& page(std::uintptr_t number);

  std::unordered_map<std::uintptr_t, Page> pages_;
  std::uintptr_t last_number_ = 0;
  Page* last_ = nullptr;
  std::uint64_t loaded_now_ = 0;
};

}  // namespace emulated_cuda
