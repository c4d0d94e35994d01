// Whose device and context a thread works in.
#pragma once

namespace elir::cuda {

// FrameJob on a device while this lives; the thread's own context, of whoever made it, is current again
// afterwards.
class DeviceGuard {
 public:
  explicit DeviceGuard(int ordinal);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  void* context_ = nullptr;
};

}  // namespace elir::cuda
