// A frame that came back.
#pragma once

#include <pybind11/pybind11.h>

#include "../stream.hpp"

namespace elir::python {

// Its pixels, and what is told of it.
struct Result {
  pybind11::object frame;
  FrameResult told;
  bool host;
};

// Whether a device times this stage.
inline bool is_timed(std::size_t stage, bool host) {
  const auto found = static_cast<Stage>(stage);
  if (host) return found != Stage::launch;
  return found == Stage::launch || found == Stage::total;
}

void bind_result(pybind11::module_& module);

}  // namespace elir::python
