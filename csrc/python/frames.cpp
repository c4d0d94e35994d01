#include "frames.hpp"

#include <cstring>
#include <stdexcept>

#include "dlpack.hpp"

namespace elir::python {

void check_frame(const py::array& frame, const FrameShape& expected, const char* name) {
  const py::dtype type = expected.word == 1 ? py::dtype::of<std::uint8_t>() : py::dtype::of<std::uint16_t>();
  // Not the same object: arrays that were pickled have types of their own.
  bool same = frame.dtype().equal(type) && frame.ndim() == static_cast<py::ssize_t>(expected.sides.size());
  for (py::ssize_t i = 0; same && i < frame.ndim(); ++i) {
    same = frame.shape(i) == expected.sides[static_cast<std::size_t>(i)];
  }
  if (!same) {
    throw std::invalid_argument(std::string(name) + " is " + describe(frame) + "; expected " +
                                expected.text());
  }
}

namespace {

template <typename Word>
void copy_apart(const std::uint8_t* from, const Strides& strides, const FrameShape& shape, Word* to) {
  for (py::ssize_t y = 0; y < shape.sides[0]; ++y) {
    for (py::ssize_t x = 0; x < shape.sides[1]; ++x) {
      for (py::ssize_t c = 0; c < shape.channels(); ++c) {
        // Strides of numpy need not be multiples of the number's size.
        std::memcpy(to++, from + y * strides.row + x * strides.pixel + c * strides.channel, sizeof(Word));
      }
    }
  }
}

}  // namespace

void copy_in(const std::uint8_t* from, const Strides& strides, const FrameShape& shape, std::uint8_t* to) {
  const py::ssize_t bytes = shape.row_bytes();
  const bool packed = strides.pixel == shape.channels() * shape.word &&
                      (shape.channels() == 1 || strides.channel == shape.word);
  if (packed && strides.row == bytes) {
    std::memcpy(to, from, static_cast<std::size_t>(shape.sides[0] * bytes));
  } else if (packed) {
    copy_rows(from, strides.row, shape.sides[0], bytes, to);
  } else if (shape.word == 1) {
    copy_apart(from, strides, shape, to);
  } else {
    copy_apart(from, strides, shape, reinterpret_cast<std::uint16_t*>(to));
  }
}

void copy_rows(const std::uint8_t* from, std::ptrdiff_t pitch, std::ptrdiff_t rows, std::ptrdiff_t bytes,
               std::uint8_t* to) {
  for (std::ptrdiff_t y = 0; y < rows; ++y) {
    std::memcpy(to + y * bytes, from + y * pitch, static_cast<std::size_t>(bytes));
  }
}

// Bytes from row to row. Throws std::invalid_argument if this is no frame of such a shape.
std::ptrdiff_t ExternalArray::pitch(const FrameShape& expected) const {
  bool same = word == expected.word && shape.size() == expected.sides.size();
  std::string sides;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    sides += (i == 0 ? "" : "x") + std::to_string(shape[i]);
    same = same && shape[i] == expected.sides[i];
  }
  if (!same) {
    const std::string type = word == expected.word ? expected.type() : std::string("not ") + expected.type();
    throw std::invalid_argument("frame is " + type + (word == expected.word ? " of shape " : ", of shape ") +
                                sides + "; expected " + expected.text());
  }
  if (reinterpret_cast<std::uintptr_t>(data) % static_cast<std::uintptr_t>(expected.word) != 0) {
    throw std::invalid_argument("frame on the GPU is at an odd address; expected a multiple of " +
                                std::to_string(expected.word) + " bytes");
  }
  if (strides.empty()) return expected.row_bytes();
  const bool packed = strides[1] == expected.channels() * expected.word &&
                      (shape.size() < 3 || strides[2] == expected.word) &&
                      strides[0] >= expected.row_bytes() && strides[0] % expected.word == 0;
  if (!packed) {
    throw std::invalid_argument(
        "frame on the GPU has its pixels apart (or its channels, as planes); expected packed pixels, rows "
        "may be apart: make it contiguous");
  }
  if (expected.planes_together && strides[0] != expected.row_bytes()) {
    throw std::invalid_argument(
        "frame on the GPU has gaps between its rows; expected none where planes of several sizes share an "
        "array: make it contiguous, or submit its planes");
  }
  return strides[0];
}

elir::Planes checked_planes(const std::vector<std::pair<std::uintptr_t, std::ptrdiff_t>>& planes,
                            const elir::Pixels& pixels, int width) {
  const auto expected = static_cast<std::size_t>(pixels.format.planes());
  if (planes.size() != expected) {
    throw std::invalid_argument("planes are " + std::to_string(planes.size()) + "; " + pixels.format.name +
                                " has " + std::to_string(expected));
  }
  elir::Planes found;
  for (std::size_t i = 0; i < expected; ++i) {
    const auto [address, pitch] = planes[i];
    const auto least = static_cast<std::ptrdiff_t>(pixels.row_bytes(static_cast<int>(i), width));
    const std::string plane = "plane " + std::to_string(i) + " of " + pixels.format.name;
    const int word = pixels.format.word();
    if (address == 0 || address % static_cast<std::uintptr_t>(word) != 0) {
      throw std::invalid_argument(plane + " is at address " + std::to_string(address) + "; expected " +
                                  (address == 0 ? "memory" : "a multiple of " + std::to_string(word)));
    }
    if (pitch < least || pitch % word != 0) {
      throw std::invalid_argument(plane + " has a pitch of " + std::to_string(pitch) + "; expected " +
                                  std::to_string(least) + " bytes or more" +
                                  (word == 1 ? "" : ", and a multiple of " + std::to_string(word)));
    }
    found.data[i] = reinterpret_cast<const std::uint8_t*>(address);
    found.pitch[i] = pitch;
  }
  return found;
}

std::shared_ptr<void> keep_object(py::object object) {
  return {new py::object(std::move(object)), [](void* p) {
            const py::gil_scoped_acquire locked;
            delete static_cast<py::object*>(p);
          }};
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
  if (tensor.type.code == elir::dlpack::unsigned_integer && tensor.type.lanes == 1) {
    found.word = tensor.type.bits / 8;
  }
  found.shape.assign(tensor.shape, tensor.shape + tensor.dimensions);
  if (tensor.strides != nullptr) {
    for (std::int32_t i = 0; i < tensor.dimensions; ++i)
      found.strides.push_back(tensor.strides[i] * found.word);
  }
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
  if (type == "|u1" || type == "<u1") found.word = 1;
  if (type == "<u2") found.word = 2;
  // 1 is the default stream: who does not say where the array is made most likely makes it there.
  std::uintptr_t producer = 1;
  if (told.contains("stream") && !told["stream"].is_none()) producer = told["stream"].cast<std::uintptr_t>();
  device.wait_on_producer(producer);
  found.owner = keep_object(frame);
  return found;
}

}  // namespace elir::python
