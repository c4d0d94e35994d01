// Named ranges for Nsight: a frame's launch and its end, a recording, each stage. Off unless ELIR_TRT_NVTX=1.
#pragma once

#include <cstdlib>
#include <cstring>

#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define ELIR_TRT_HAS_NVTX 1
#else
#define ELIR_TRT_HAS_NVTX 0
#endif

namespace elir::cuda {

// A range while this lives. What is queued within it is shown under it; of a frame that is replayed only the
// launch is, since its stages were queued when it was recorded.
class Range {
 public:
  explicit Range(const char* name) {
#if ELIR_TRT_HAS_NVTX
    if (is_on()) nvtxRangePushA(name);
#else
    static_cast<void>(name);
#endif
  }
  ~Range() {
#if ELIR_TRT_HAS_NVTX
    if (is_on()) nvtxRangePop();
#endif
  }
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;

 private:
  static bool is_on() {
    static const bool on = [] {
      const char* asked = std::getenv("ELIR_TRT_NVTX");
      return asked != nullptr && std::strcmp(asked, "1") == 0;
    }();
    return on;
  }
};

}  // namespace elir::cuda
