// Between Python's values and the core's: words, times, signals, and what is said of arrays.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../stream.hpp"

namespace elir::python {

namespace py = pybind11;
using namespace py::literals;

// Throws what a signal's handler raises; called while waiting, so that Ctrl-C ends a wait.
void check_signals();

// The value of a word. Throws std::invalid_argument that names the argument, the word and the allowed ones.
template <typename Value>
Value choose(const char* name, const std::string& found,
             std::initializer_list<std::pair<const char*, Value>> allowed) {
  std::string names;
  for (const auto& [text, value] : allowed) {
    if (found == text) return value;
    names += (names.empty() ? "" : ", ") + std::string(text);
  }
  throw std::invalid_argument(std::string(name) + " is '" + found + "'; allowed: " + names);
}

// When a wait of so many seconds ends; none: never.
Stream::Deadline deadline(const std::optional<double>& timeout);

// Type and shape of an array, for errors.
std::string describe(const py::array& array);

// p50, p95 and p99 by nearest rank; empty without values.
py::dict percentiles(std::vector<float> values);

}  // namespace elir::python
