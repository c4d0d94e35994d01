// Frames that come in: what an array must be, how it is copied, and arrays of other libraries on a GPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "convert.hpp"

namespace elir::python {

// What an array of a frame must be; rows may be apart, pixels must not.
struct FrameShape {
  std::vector<py::ssize_t> sides;
  py::ssize_t word;      // bytes of a number
  bool planes_together;  // the array's rows are not those of its planes, and must have no gaps

  FrameShape(const elir::Pixels& pixels, int height, int width)
      : word(pixels.format.word()), planes_together(pixels.format.layout == elir::Layout::planar) {
    for (const std::size_t side : pixels.shape(height, width)) {
      sides.push_back(static_cast<py::ssize_t>(side));
    }
  }

  py::ssize_t channels() const { return sides.size() == 3 ? sides[2] : 1; }
  py::ssize_t row_bytes() const { return sides[1] * channels() * word; }
  const char* type() const { return word == 1 ? "uint8" : "uint16"; }

  std::string text() const {
    std::string result = std::string(type()) + " of shape ";
    for (std::size_t i = 0; i < sides.size(); ++i) result += (i == 0 ? "" : "x") + std::to_string(sides[i]);
    return result;
  }
};

// Throws std::invalid_argument that names the array, what it is and what is expected.
void check_frame(const py::array& frame, const FrameShape& expected, const char* name);

struct Strides {
  py::ssize_t row, pixel, channel;
};

// Copy a frame into a slot, rows and pixels of which have no gaps.
void copy_in(const std::uint8_t* from, const Strides& strides, const FrameShape& shape, std::uint8_t* to);

// Copy so many rows, `pitch` bytes apart, without the gaps.
void copy_rows(const std::uint8_t* from, std::ptrdiff_t pitch, std::ptrdiff_t rows, std::ptrdiff_t bytes,
               std::uint8_t* to);

// Another library's array on the GPU.
struct ExternalArray {
  const std::uint8_t* data = nullptr;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;  // bytes; empty: C-contiguous
  std::int64_t word = 0;              // bytes of a number; 0: no unsigned numbers
  std::shared_ptr<void> owner;

  // Bytes from row to row. Throws std::invalid_argument if this is no frame of such a shape.
  std::ptrdiff_t pitch(const FrameShape& expected) const;
};

// Planes at these addresses, rows so many bytes apart. Throws std::invalid_argument that names the plane,
// what was found and what is expected.
elir::Planes checked_planes(const std::vector<std::pair<std::uintptr_t, std::ptrdiff_t>>& planes,
                            const elir::Pixels& pixels, int width);

// Keeps a Python object alive; let go of on any thread.
std::shared_ptr<void> keep_object(py::object object);

// `stream`: the one that the producer makes wait for its work.
ExternalArray from_dlpack(const py::object& frame, std::uintptr_t stream);
ExternalArray from_cuda_array(const py::object& frame, Device& device);

}  // namespace elir::python
