#include "convert.hpp"

#include <algorithm>
#include <cmath>

namespace elir::python {

void check_signals() {
  py::gil_scoped_acquire locked;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

Stream::Deadline deadline(const std::optional<double>& timeout) {
  if (!timeout) return std::nullopt;
  if (std::isnan(*timeout) || *timeout < 0.0) {
    throw std::invalid_argument("timeout is " + std::to_string(*timeout) + "; expected 0 or more seconds");
  }
  // More than a year is for ever; larger numbers would overflow the clock.
  if (*timeout > 3.2e7) return std::nullopt;
  return Stream::Clock::now() +
         std::chrono::duration_cast<Stream::Clock::duration>(std::chrono::duration<double>(*timeout));
}

std::string describe(const py::array& array) {
  std::string text = py::str(array.dtype()).cast<std::string>() + " of shape ";
  for (py::ssize_t i = 0; i < array.ndim(); ++i) {
    text += (i == 0 ? "" : "x") + std::to_string(array.shape(i));
  }
  return text;
}

std::string represent(const py::object& object, std::initializer_list<const char*> attributes) {
  std::string text;
  for (const char* name : attributes) {
    const py::object value = object.attr(name);
    text += (text.empty() ? "" : ", ") + std::string(name) + "=";
    text += py::isinstance<py::array>(value) ? "<" + describe(py::array(value)) + ">"
                                             : py::repr(value).cast<std::string>();
  }
  return py::type::of(object).attr("__name__").cast<std::string>() + "(" + text + ")";
}

py::dict percentiles(std::vector<float> values) {
  py::dict result;
  if (values.empty()) return result;
  std::sort(values.begin(), values.end());
  for (const auto& [name, share] : {std::pair{"p50", 0.50}, std::pair{"p95", 0.95}, std::pair{"p99", 0.99}}) {
    // Nearest rank.
    const double rank = std::ceil(share * static_cast<double>(values.size()));
    result[name] = values[static_cast<std::size_t>(std::max(rank, 1.0)) - 1];
  }
  return result;
}

}  // namespace elir::python
