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

namespace {

// A capsule of DLPack, of the newest kind that the producer makes.
py::object ask_for_capsule(const py::object& frame, std::uintptr_t stream) {
  const py::object method = frame.attr("__dlpack__");
  constexpr elir::dlpack::Version newest = elir::dlpack::kVersion;
  try {
    return method("stream"_a = stream, "max_version"_a = py::make_tuple(newest.major, newest.minor));
  } catch (py::error_already_set& error) {
    // Producers from before version 1.0 do not know the argument.
    if (!error.matches(PyExc_TypeError)) throw;
  }
  return method("stream"_a = stream);
}

// Take what a capsule holds: `owner` gives it back to the producer, once.
template <typename Managed>
const Managed& take(const py::object& capsule, std::shared_ptr<void>& owner) {
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule.ptr(), Managed::kName));
  if (managed == nullptr || PyCapsule_SetName(capsule.ptr(), Managed::kUsedName) != 0) {
    throw py::error_already_set();
  }
  owner = std::shared_ptr<void>(managed, [](void* p) {
    const py::gil_scoped_acquire locked;
    auto* taken = static_cast<Managed*>(p);
    if (taken->deleter != nullptr) taken->deleter(taken);
  });
  return *managed;
}

const elir::dlpack::Tensor& take_tensor(const py::object& capsule, std::shared_ptr<void>& owner) {
  using elir::dlpack::kVersion, elir::dlpack::ManagedTensor, elir::dlpack::VersionedTensor;
  if (PyCapsule_IsValid(capsule.ptr(), ManagedTensor::kName) != 0) {
    return take<ManagedTensor>(capsule, owner).tensor;
  }
  if (PyCapsule_IsValid(capsule.ptr(), VersionedTensor::kName) == 0) {
    throw std::invalid_argument("frame's __dlpack__ gave " + py::repr(capsule).cast<std::string>() +
                                "; expected a capsule \"" + VersionedTensor::kName + "\" or \"" +
                                ManagedTensor::kName + "\" that nobody took yet");
  }
  const VersionedTensor& managed = take<VersionedTensor>(capsule, owner);
  if (managed.version.major != kVersion.major) {
    // Nothing else of it may be looked at; it is given back as it goes.
    throw std::invalid_argument("frame is of DLPack " + std::to_string(managed.version.major) + "." +
                                std::to_string(managed.version.minor) + "; expected version " +
                                std::to_string(kVersion.major));
  }
  return managed.tensor;
}

}  // namespace

ExternalArray from_dlpack(const py::object& frame, std::uintptr_t stream) {
  const py::object capsule = ask_for_capsule(frame, stream);
  ExternalArray found;
  const elir::dlpack::Tensor& tensor = take_tensor(capsule, found.owner);
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
