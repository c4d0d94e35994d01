// Memory of a device for other libraries.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "convert.hpp"
#include "dlpack.hpp"

namespace elir::python {

// Two numbers of DLPack's calls in Python: a version (major, minor), or a device (type, id).
using DLPackPair = std::pair<std::int64_t, std::int64_t>;

// Memory of a device for other libraries, without a copy: restored frames, and the parts' tensors.
class DeviceArray {
 public:
  DeviceArray(std::shared_ptr<void> memory, std::vector<std::int64_t> shape, elir::dlpack::Type type,
              elir::dlpack::Device device, elir::Device::ResultUsers users)
      : memory_(std::move(memory)),
        shape_(std::move(shape)),
        type_(type),
        device_(device),
        users_(std::move(users)) {}

  py::tuple shape() const { return py::tuple(py::cast(shape_)); }

  std::string type_name() const {
    switch (type_.code) {
      case elir::dlpack::unsigned_integer:
        return type_.bits == 16 ? "uint16" : "uint8";
      case elir::dlpack::bfloat:
        return "bfloat16";
      default:
        return type_.bits == 16 ? "float16" : "float32";
    }
  }

  py::tuple dlpack_device() const { return py::make_tuple(device_.type, device_.id); }

  // A capsule of what `max_version` says that the consumer knows; see bind_device_array.
  py::capsule dlpack(const std::optional<std::int64_t>& stream, const std::optional<DLPackPair>& max_version,
                     const std::optional<DLPackPair>& dl_device, const std::optional<bool>& copy) const;

  py::dict cuda_array_interface() const {
    if (device_.type != elir::dlpack::cuda || type_.code == elir::dlpack::bfloat) {
      throw py::attribute_error("this array has no __cuda_array_interface__: it is " + type_name() + " on " +
                                (device_.type == elir::dlpack::cuda ? "a GPU" : "the CPU"));
    }
    const bool whole = type_.code == elir::dlpack::unsigned_integer;
    const std::string type = type_.bits == 8 ? "|u1" : (whole ? "<u2" : (type_.bits == 16 ? "<f2" : "<f4"));
    return py::dict("shape"_a = shape(), "typestr"_a = type,
                    "data"_a = py::make_tuple(reinterpret_cast<std::uintptr_t>(memory_.get()), false),
                    "strides"_a = py::none(), "version"_a = 3);
  }

 private:
  std::shared_ptr<void> memory_;
  std::vector<std::int64_t> shape_;
  elir::dlpack::Type type_;
  elir::dlpack::Device device_;
  elir::Device::ResultUsers users_;
};

void bind_device_array(py::module_& module);

}  // namespace elir::python
