// CUDA's calls, over the emulated GPU: device, memory, copies and kernels.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "call.hpp"
#include "memory.hpp"

using namespace emulated_cuda;

namespace {

// Copies between rows; `work` of an operation.
void copy_rows(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch, std::size_t width,
               std::size_t height) {
  for (std::size_t y = 0; y < height; ++y) {
    std::memcpy(static_cast<std::uint8_t*>(to) + y * to_pitch,
                static_cast<const std::uint8_t*>(from) + y * from_pitch, width);
  }
}

struct Rows {
  std::size_t to_pitch, from_pitch, width, height;
  std::size_t to_bytes() const { return (height - 1) * to_pitch + width; }
  std::size_t from_bytes() const { return (height - 1) * from_pitch + width; }
};

Kind kind_of(cudaMemcpyKind direction) {
  if (direction == cudaMemcpyHostToDevice) return Kind::upload;
  return direction == cudaMemcpyDeviceToHost ? Kind::download : Kind::device_copy;
}

const char* name_of(cudaMemcpyKind direction) {
  if (direction == cudaMemcpyHostToDevice) return "upload";
  return direction == cudaMemcpyDeviceToHost ? "download" : "copy";
}

cudaError_t copy(void* to, const void* from, Rows rows, cudaMemcpyKind direction, cudaStream_t handle,
                 bool synchronous) {
  Runtime& runtime = Runtime::get();
  const Memory& memory = Memory::get();
  if (rows.width == 0 || rows.height == 0) return cudaSuccess;
  const bool to_device = memory.is_device(to), from_device = memory.is_device(from);
  if (direction == cudaMemcpyDefault) {
    direction = to_device ? (from_device ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice)
                          : (from_device ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost);
  }
  const bool wants_to = direction == cudaMemcpyHostToDevice || direction == cudaMemcpyDeviceToDevice;
  const bool wants_from = direction == cudaMemcpyDeviceToHost || direction == cudaMemcpyDeviceToDevice;
  if (to_device != wants_to || from_device != wants_from) return cudaErrorInvalidValue;
  if (rows.to_pitch < rows.width || rows.from_pitch < rows.width) return cudaErrorInvalidValue;
  if (to_device && !memory.holds(to, rows.to_bytes())) return cudaErrorInvalidValue;
  if (from_device && !memory.holds(from, rows.from_bytes())) return cudaErrorInvalidValue;
  const std::shared_ptr<Stream> stream = runtime.stream(handle);
  if (!stream) return cudaErrorInvalidResourceHandle;
  const auto counted = [direction, rows] {
    Runtime::get().bytes[name_of(direction)] += rows.width * rows.height;
  };
  std::function<void()> work = [=] {
    counted();
    copy_rows(to, rows.to_pitch, from, rows.from_pitch, rows.width, rows.height);
  };
  const bool captured = stream->capture != nullptr;
  if (direction == cudaMemcpyHostToDevice && !captured && !memory.is_pinned(from)) {
    // Pageable memory is read at once, into memory of the driver's own.
    auto staged = std::make_shared<std::vector<std::uint8_t>>(rows.width * rows.height);
    copy_rows(staged->data(), rows.width, from, rows.from_pitch, rows.width, rows.height);
    work = [=] {
      counted();
      copy_rows(to, rows.to_pitch, staged->data(), rows.width, rows.width, rows.height);
    };
  }
  const cudaError_t error = runtime.enqueue(handle, kind_of(direction), name_of(direction), std::move(work));
  if (error != cudaSuccess) return error;
  // What a call has to wait for: copies to pageable memory, and synchronous ones but into the device.
  const bool waits = direction == cudaMemcpyDeviceToHost && !memory.is_pinned(to);
  const bool pinned_source = direction == cudaMemcpyHostToDevice && memory.is_pinned(from);
  if (!captured && (waits || (synchronous && (pinned_source || direction == cudaMemcpyDeviceToHost)))) {
    runtime.finish(stream->last);
  }
  return runtime.sticky;
}

cudaError_t fill(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  Runtime& runtime = Runtime::get();
  if (bytes == 0) return cudaSuccess;
  if (!Memory::get().holds(to, bytes)) return cudaErrorInvalidValue;
  return runtime.enqueue(stream, Kind::fill, "fill", [=] {
    Runtime::get().bytes["fill"] += bytes;
    std::memset(to, value, bytes);
  });
}

template <typename Visit>
void each(dim3 size, bool backwards, Visit&& visit) {
  const std::uint64_t count = std::uint64_t(size.x) * size.y * size.z;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t at = backwards ? count - 1 - i : i;
    visit(dim3(static_cast<unsigned>(at % size.x), static_cast<unsigned>(at / size.x % size.y),
               static_cast<unsigned>(at / size.x / size.y)));
  }
}

}  // namespace

namespace emulated_cuda {

void launch_kernel(const char* name, dim3 grid, dim3 block, cudaStream_t stream,
                   std::function<void()> thread) {
  call("cudaLaunchKernel", [&](Runtime& runtime) {
    const std::uint64_t threads = std::uint64_t(block.x) * block.y * block.z;
    if (threads == 0 || threads > 1024 || grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 ||
        grid.z > 65535) {
      return cudaErrorInvalidConfiguration;
    }
    const std::shared_ptr<Stream> found = runtime.stream(stream);
    if (found && !found->capture) ++runtime.launches[name];
    return runtime.enqueue(stream, Kind::kernel, name, [=] {
      const bool backwards = Runtime::get().settings.backwards;
      gridDim = grid;
      blockDim = block;
      each(grid, backwards, [&](dim3 at) {
        blockIdx = at;
        each(block, backwards, [&](dim3 inside) {
          threadIdx = inside;
          thread();
        });
      });
    });
  });
}

void check_kernel_pointer(const char* kernel, const void* address) {
  const std::lock_guard<std::mutex> lock(Runtime::get().mutex());
  const Memory& memory = Memory::get();
  if (address == nullptr || memory.holds(address, 1) || memory.is_pinned(address)) return;
  std::fprintf(stderr, "emulated CUDA: %s is given %p, which no GPU can read\n", kernel, address);
  std::abort();
}

}  // namespace emulated_cuda

cudaError_t cudaDriverGetVersion(int* version) {
  return call("cudaDriverGetVersion", [&](Runtime&) {
    *version = 13000;
    return cudaSuccess;
  });
}

cudaError_t cudaGetDeviceCount(int* count) {
  return call("cudaGetDeviceCount", [&](Runtime& runtime) {
    *count = runtime.settings.devices;
    return runtime.settings.problem;
  });
}

cudaError_t cudaSetDevice(int device) {
  return call("cudaSetDevice", [&](Runtime& runtime) {
    return device < 0 || device >= runtime.settings.devices ? cudaErrorInvalidDevice : cudaSuccess;
  });
}

cudaError_t cudaGetDevice(int* device) {
  return call("cudaGetDevice", [&](Runtime&) {
    *device = 0;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  return call("cudaDeviceGetAttribute", [&](Runtime& runtime) {
    if (attribute != cudaDevAttrIntegrated) return cudaErrorInvalidValue;
    *value = runtime.settings.integrated ? 1 : 0;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  return call("cudaDeviceGetStreamPriorityRange", [&](Runtime&) {
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
  });
}

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  return call_unsafe("cudaMalloc", [&](Runtime&) {
    if (bytes == 0) {
      *memory = nullptr;
      return cudaSuccess;
    }
    *memory = Memory::get().allocate(bytes);
    return *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
  });
}

// Without waiting for what is queued: who relies on CUDA's waiting here is found out.
cudaError_t cudaFree(void* memory) {
  return call_unsafe("cudaFree", [&](Runtime&) {
    return memory == nullptr || Memory::get().free(memory) ? cudaSuccess : cudaErrorInvalidValue;
  });
}

cudaError_t cudaHostAlloc(void** memory, std::size_t bytes, unsigned) {
  return call_unsafe("cudaHostAlloc", [&](Runtime&) {
    *memory = Memory::get().allocate_pinned(bytes);
    return *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
  });
}

cudaError_t cudaFreeHost(void* memory) {
  return call_unsafe("cudaFreeHost", [&](Runtime&) {
    return memory == nullptr || Memory::get().free_pinned(memory) ? cudaSuccess : cudaErrorInvalidValue;
  });
}

cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) {
  return call("cudaHostGetDevicePointer", [&](Runtime&) {
    *device = host;
    return Memory::get().is_pinned(host) ? cudaSuccess : cudaErrorInvalidValue;
  });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* found, const void* memory) {
  return call("cudaPointerGetAttributes", [&](Runtime&) {
    const Memory& all = Memory::get();
    auto* address = const_cast<void*>(memory);
    *found = {cudaMemoryTypeUnregistered, -2, nullptr, address};
    if (all.holds(memory, 1)) *found = {cudaMemoryTypeDevice, 0, address, nullptr};
    if (all.is_pinned(memory)) *found = {cudaMemoryTypeHost, 0, address, address};
    return cudaSuccess;
  });
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  return call("cudaMemGetInfo", [&](Runtime&) {
    *total = Memory::get().total();
    *free = *total - Memory::get().used();
    return cudaSuccess;
  });
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  return call_unsafe("cudaMemcpy", [&](Runtime&) {
    return copy(to, from, {bytes, bytes, bytes, 1}, kind, cudaStreamLegacy, true);
  });
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return call("cudaMemcpyAsync",
              [&](Runtime&) { return copy(to, from, {bytes, bytes, bytes, 1}, kind, stream, false); });
}

cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  return call("cudaMemcpy2DAsync", [&](Runtime&) {
    return copy(to, from, {to_pitch, from_pitch, width, height}, kind, stream, false);
  });
}

cudaError_t cudaMemset(void* memory, int value, std::size_t bytes) {
  return call_unsafe("cudaMemset", [&](Runtime&) { return fill(memory, value, bytes, cudaStreamLegacy); });
}

cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t stream) {
  return call("cudaMemsetAsync", [&](Runtime&) { return fill(memory, value, bytes, stream); });
}
