#include "traffic.hpp"

#include "memory.hpp"

namespace emulated_cuda {

namespace {

thread_local bool counting = false;

}  // namespace

Traffic& Traffic::get() {
  static Traffic* traffic = new Traffic;
  return *traffic;
}

Traffic::Kernel::Kernel(const std::string& name) : name_(name) {
  counting = true;
}

Traffic::Kernel::~Kernel() {
  counting = false;
  Traffic& traffic = get();
  if (traffic.pages_.empty()) return;
  for (const auto& [number, page] : traffic.pages_) {
    traffic.read[name_] += page.read.count();
    traffic.written[name_] += page.written.count();
  }
  traffic.loaded[name_] += traffic.loaded_now_;
  traffic.pages_.clear();
  traffic.last_ = nullptr;
  traffic.loaded_now_ = 0;
}

Traffic::Page& Traffic::page(std::uintptr_t number) {
  if (last_ == nullptr || number != last_number_) {
    last_ = &pages_[number];
    last_number_ = number;
  }
  return *last_;
}

void Traffic::touch(std::uintptr_t address, std::size_t bytes, bool write) {
  if (!counting || !Memory::get().is_device(reinterpret_cast<const void*>(address))) return;
  if (!write) loaded_now_ += bytes;
  for (std::uintptr_t at = address; at < address + bytes; ++at) {
    Page& found = page(at / kPage);
    (write ? found.written : found.read).set(at % kPage);
  }
}

}  // namespace emulated_cuda

// What the compiler calls, by the conventions of ThreadSanitizer's run-time library.
#define ELIR_TRAFFIC(name, bytes, write)                                                          \
  extern "C" void name(void* address) {                                                           \
    emulated_cuda::Traffic::get().touch(reinterpret_cast<std::uintptr_t>(address), bytes, write); \
  }
#define ELIR_TRAFFIC_OF(bytes)                             \
  ELIR_TRAFFIC(__tsan_read##bytes, bytes, false)           \
  ELIR_TRAFFIC(__tsan_write##bytes, bytes, true)           \
  ELIR_TRAFFIC(__tsan_unaligned_read##bytes, bytes, false) \
  ELIR_TRAFFIC(__tsan_unaligned_write##bytes, bytes, true)

ELIR_TRAFFIC_OF(1)
ELIR_TRAFFIC_OF(2)
ELIR_TRAFFIC_OF(4)
ELIR_TRAFFIC_OF(8)
ELIR_TRAFFIC_OF(16)

extern "C" {
void __tsan_read_range(void* address, std::size_t bytes) {
  emulated_cuda::Traffic::get().touch(reinterpret_cast<std::uintptr_t>(address), bytes, false);
}
void __tsan_write_range(void* address, std::size_t bytes) {
  emulated_cuda::Traffic::get().touch(reinterpret_cast<std::uintptr_t>(address), bytes, true);
}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
}
