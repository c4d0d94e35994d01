#include "frames.hpp"

#include <cstring>
#include <stdexcept>

#include "dlpack.hpp"

namespace elir::python {

void check_frame(const py::array& frame, const FrameShape& expected, const char* name) {
  bool same = frame.dtype().is(py::dtype::of<std::uint8_t>()) &&
              frame.ndim() == static_cast<py::ssize_t>(expected.sides.size());
  for (py::ssize_t i = 0; same && i < frame.ndim(); ++i) {
    same = frame.shape(i) == expected.sides[static_cast<std::size_t>(i)];
  }
  if (!same) {
    throw std::invalid_argument(std::string(name) + " is " + describe(frame) + "; expected uint8 of shape " +
                                expected.text());
  }
}

void copy_in(const std::uint8_t* from, const Strides& strides, const FrameShape& shape, std::uint8_t* to) {
  const py::ssize_t channels = shape.channels();
  const py::ssize_t bytes = shape.row_bytes();
  if (strides.channel == 1 && strides.pixel == channels) {
    if (strides.row == bytes) {
      std::memcpy(to, from, static_cast<std::size_t>(shape.sides[0] * bytes));
      return;
    }
    for (py::ssize_t y = 0; y < shape.sides[0]; ++y, to += bytes) {
      std::memcpy(to, from + y * strides.row, static_cast<std::size_t>(bytes));
    }
    return;
  }
  for (py::ssize_t y = 0; y < shape.sides[0]; ++y) {
    const std::uint8_t* row = from + y * strides.row;
    for (py::ssize_t x = 0; x < shape.sides[1]; ++x) {
      for (py::ssize_t c = 0; c < channels; ++c) *to++ = row[x * strides.pixel + c * strides.channel];
    }
  }
}

// Bytes from row to row. Throws std::invalid_argument if this is no frame of such a shape.
std::size_t ExternalArray::pitch(const FrameShape& expected) const {
  std::string found = bytes ? "uint8 of shape " : "not uint8, of shape ";
  bool same = bytes && shape.size() == expected.sides.size();
  for (std::size_t i = 0; i < shape.size(); ++i) {
    found += (i == 0 ? "" : "x") + std::to_string(shape[i]);
    same = same && shape[i] == expected.sides[i];
  }
  if (!same) {
    throw std::invalid_argument("frame is " + found + "; expected uint8 of shape " + expected.text());
  }
  if (strides.empty()) return static_cast<std::size_t>(expected.row_bytes());
  const bool packed = strides[1] == expected.channels() && (shape.size() < 3 || strides[2] == 1) &&
                      strides[0] >= expected.row_bytes();
  if (!packed) {
    throw std::invalid_argument(
        "frame on the GPU has its pixels apart (or its channels, as planes); expected packed pixels, rows "
        "may be apart: make it contiguous");
  }
  return static_cast<std::size_t>(strides[0]);
}

ExternalArray from_dlpack(const py::object& frame, std::uintptr_t stream) {
  const py::object capsule = frame.attr("__dlpack__")("stream"_a = stream);
  auto* managed =
      static_cast<elir::dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), elir::dlpack::kName));
  if (managed == nullptr) throw py::error_already_set();
  if (PyCapsule_SetName(capsule.ptr(), elir::dlpack::kUsedName) != 0) throw py::error_already_set();
  ExternalArray found;
  found.owner = std::shared_ptr<void>(managed, [](void* p) {
    const py::gil_scoped_acquire locked;
    auto* tensor = static_cast<elir::dlpack::ManagedTensor*>(p);
    if (tensor->deleter != nullptr) tensor->deleter(tensor);
  });
  const elir::dlpack::Tensor& tensor = managed->tensor;
  found.data = static_cast<const std::uint8_t*>(tensor.data) + tensor.byte_offset;
  found.bytes =
      tensor.type.code == elir::dlpack::unsigned_integer && tensor.type.bits == 8 && tensor.type.lanes == 1;
  found.shape.assign(tensor.shape, tensor.shape + tensor.dimensions);
  if (tensor.strides != nullptr) found.strides.assign(tensor.strides, tensor.strides + tensor.dimensions);
  return found;
}

ExternalArray from_cuda_array(const py::object& frame, elir::Device& device) {
  const py::dict told = frame.attr("__cuda_array_interface__");
  ExternalArray found;
  const py::tuple data = told["data"];
  found.data = reinterpret_cast<const std::uint8_t*>(data[0].cast<std::uintptr_t>());
  found.shape = told["shape"].cast<std::vector<std::int64_t>>();
  if (told.contains("strides") && !told["strides"].is_none()) {
    found.strides = told["strides"].cast<std::vector<std::int64_t>>();
  }
  const auto type = told["typestr"].cast<std::string>();
  found.bytes = type.size() == 3 && type.substr(1) == "u1";
  // 1 is the default stream: who does not say where the array is made most likely makes it there.
  std::uintptr_t producer = 1;
  if (told.contains("stream") && !told["stream"].is_none()) producer = told["stream"].cast<std::uintptr_t>();
  device.wait_on_producer(producer);
  found.owner = std::shared_ptr<void>(new py::object(frame), [](void* p) {
    const py::gil_scoped_acquire locked;
    delete static_cast<py::object*>(p);
  });
  return found;
}

}  // namespace elir::python
