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

  FrameShape(const elir::Pixels& pixels, int height, int width)
      : sides{static_cast<py::ssize_t>(pixels.rows(height)), width} {
    if (pixels.format == elir::Format::rgb) sides.push_back(3);
    if (pixels.format == elir::Format::rgba) sides.push_back(4);
  }

  py::ssize_t channels() const { return sides.size() == 3 ? sides[2] : 1; }
  py::ssize_t row_bytes() const { return sides[1] * channels(); }

  std::string text() const {
    std::string result;
    for (const py::ssize_t side : sides) result += (result.empty() ? "" : "x") + std::to_string(side);
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

// Another library's array on the GPU.
struct ExternalArray {
  const std::uint8_t* data = nullptr;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;  // bytes; empty: C-contiguous
  bool bytes = false;                 // of uint8
  std::shared_ptr<void> owner;

  // Bytes from row to row. Throws std::invalid_argument if this is no frame of such a shape.
  std::size_t pitch(const FrameShape& expected) const;
};

// `stream`: the one that the producer makes wait for its work.
ExternalArray from_dlpack(const py::object& frame, std::uintptr_t stream);
ExternalArray from_cuda_array(const py::object& frame, Device& device);

}  // namespace elir::python
