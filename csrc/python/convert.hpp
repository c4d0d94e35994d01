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

// What Python's words of one option stand for.
template <typename Value>
using Choices = std::initializer_list<std::pair<const char*, Value>>;

// The value of a word. Throws std::invalid_argument that names the argument, the word and the allowed ones.
template <typename Value>
Value choose(const char* name, const std::string& found, Choices<Value> allowed) {
  std::string names;
  for (const auto& [text, value] : allowed) {
    if (found == text) return value;
    names += (names.empty() ? "" : ", ") + std::string(text);
  }
  throw std::invalid_argument(std::string(name) + " is '" + found + "'; allowed: " + names);
}

// The word of a value, which is one of these.
template <typename Value>
const char* word_of(const Value& value, Choices<Value> choices) {
  for (const auto& [text, other] : choices) {
    if (value == other) return text;
  }
  return "";
}

// When a wait of so many seconds ends; none: never.
Stream::Deadline deadline(const std::optional<double>& timeout);

// Type and shape of an array, for errors.
std::string describe(const py::array& array);

// "Name(attribute=value, ...)" of an object that Python has; of arrays their type and shape.
std::string represent(const py::object& object, std::initializer_list<const char*> attributes);

// p50, p95 and p99 by nearest rank; empty without values.
py::dict percentiles(std::vector<float> values);

}  // namespace elir::python
