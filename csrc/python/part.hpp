// A part that is a Python callable.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

namespace elir::python {

namespace py = pybind11;

// A part as a Python callable; the GIL is held for the call alone.
class PythonPart {
 public:
  explicit PythonPart(py::object callable) : callable_(std::move(callable)) {}
  PythonPart(const PythonPart&) = delete;
  PythonPart& operator=(const PythonPart&) = delete;
  ~PythonPart() {
    py::gil_scoped_acquire locked;
    callable_ = py::object();
  }

  void operator()(std::uintptr_t stream_handle) const {
    py::gil_scoped_acquire locked;
    try {
      callable_(stream_handle);
    } catch (const py::error_already_set& error) {
      // Turned into text here, while the GIL is held.
      throw std::runtime_error(py::str(error.value()).cast<std::string>().empty()
                                   ? py::str(error.type().attr("__name__")).cast<std::string>()
                                   : py::str(error.value()).cast<std::string>());
    }
  }

 private:
  py::object callable_;
};

}  // namespace elir::python
