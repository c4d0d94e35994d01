#include "device_guard.hpp"

#include <cuda_runtime.h>
#include <dlfcn.h>

#include "error.hpp"

namespace elir::cuda {

namespace {

// The two calls of the driver that the runtime does not have.
struct Driver {
  int (*get_current)(void**) = nullptr;
  int (*set_current)(void*) = nullptr;

  static const Driver& get() {
    static const Driver driver = [] {
      Driver found;
      void* library = dlopen("libcuda.so.1", RTLD_NOW);
      if (library != nullptr) {
        found.get_current = reinterpret_cast<int (*)(void**)>(dlsym(library, "cuCtxGetCurrent"));
        found.set_current = reinterpret_cast<int (*)(void*)>(dlsym(library, "cuCtxSetCurrent"));
      }
      return found;
    }();
    return driver;
  }
};

}  // namespace

DeviceGuard::DeviceGuard(int ordinal) {
  const Driver& driver = Driver::get();
  if (driver.get_current != nullptr) static_cast<void>(driver.get_current(&context_));
  ELIR_CUDA_LOG(cudaSetDevice(ordinal));
}

DeviceGuard::~DeviceGuard() {
  const Driver& driver = Driver::get();
  if (context_ != nullptr && driver.set_current != nullptr) static_cast<void>(driver.set_current(context_));
}

}  // namespace elir::cuda
