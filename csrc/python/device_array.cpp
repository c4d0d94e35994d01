#include "device_array.hpp"

namespace elir::python {

namespace {

// What a capsule of one kind points to, and what lives as long as it.
template <typename Managed>
struct Export {
  Managed managed{};
  std::shared_ptr<void> memory;
  std::vector<std::int64_t> shape, strides;
};

// Memory that has no gaps, as a capsule of one kind.
template <typename Managed>
std::unique_ptr<Export<Managed>> export_memory(std::shared_ptr<void> memory, std::vector<std::int64_t> shape,
                                               elir::dlpack::Type type, elir::dlpack::Device device) {
  auto made = std::make_unique<Export<Managed>>();
  made->memory = std::move(memory);
  made->shape = std::move(shape);
  made->strides.resize(made->shape.size());
  std::int64_t step = 1;
  for (std::size_t i = made->shape.size(); i-- > 0; step *= made->shape[i]) made->strides[i] = step;
  made->managed.tensor = {
      made->memory.get(),   device, static_cast<std::int32_t>(made->shape.size()), type, made->shape.data(),
      made->strides.data(), 0};
  made->managed.context = made.get();
  made->managed.deleter = [](Managed* managed) { delete static_cast<Export<Managed>*>(managed->context); };
  return made;
}

template <typename Managed>
py::capsule capsule_of(std::unique_ptr<Export<Managed>> made) {
  const py::capsule capsule(&made->managed, Managed::kName, [](PyObject* object) {
    if (PyCapsule_IsValid(object, Managed::kName) == 0) return;  // A consumer has it.
    auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(object, Managed::kName));
    managed->deleter(managed);
  });
  static_cast<void>(made.release());
  return capsule;
}

std::string text_of(const DLPackPair& pair) {
  return "(" + std::to_string(pair.first) + ", " + std::to_string(pair.second) + ")";
}

}  // namespace

py::capsule DeviceArray::dlpack(const std::optional<std::int64_t>& stream,
                                const std::optional<DLPackPair>& max_version,
                                const std::optional<DLPackPair>& dl_device,
                                const std::optional<bool>& copy) const {
  const DLPackPair place{device_.type, device_.id};
  if (dl_device && *dl_device != place) {
    throw py::buffer_error("dl_device is " + text_of(*dl_device) + "; this array is on " + text_of(place) +
                           ", and its memory is handed on as it is: move what is made of it");
  }
  if (copy && *copy) {
    throw py::buffer_error(
        "copy is True; this array's memory is handed on as it is: copy what is made of it");
  }
  // The memory is complete, so that no stream has to wait; the consumer's is kept for when it is given back.
  if (users_ && stream && *stream > 0) users_(memory_.get(), static_cast<std::uintptr_t>(*stream));
  if (!max_version || max_version->first < 1) {
    return capsule_of(export_memory<elir::dlpack::ManagedTensor>(memory_, shape_, type_, device_));
  }
  auto made = export_memory<elir::dlpack::VersionedTensor>(memory_, shape_, type_, device_);
  made->managed.version = elir::dlpack::kVersion;
  return capsule_of(std::move(made));
}

void bind_device_array(py::module_& module) {
  py::class_<DeviceArray>(
      module, "DeviceArray",
      R"(Memory of a device, complete and C-contiguous, for other libraries without a copy.

They take it by DLPack, and on a GPU by ``__cuda_array_interface__`` too; whatever they make of it keeps the
memory alive, and may be written to.)")
      .def_property_readonly("shape", &DeviceArray::shape, "Length of each side.")
      .def_property_readonly("dtype", &DeviceArray::type_name,
                             R"(Type of its numbers: "uint8", "float32", "float16" or "bfloat16".)")
      .def_property_readonly("__cuda_array_interface__", &DeviceArray::cuda_array_interface,
                             R"(Version 3 of Numba's "CUDA Array Interface".

Raises:
    AttributeError: the array is on the CPU, or of bfloat16, which the interface does not have.)")
      .def("__dlpack_device__", &DeviceArray::dlpack_device,
           "DLPack's type of device and its number: (1, 0) on the CPU, (2, ordinal) on a GPU.")
      .def("__dlpack__", &DeviceArray::dlpack, py::kw_only(), "stream"_a = py::none(),
           "max_version"_a = py::none(), "dl_device"_a = py::none(), "copy"_a = py::none(),
           R"(The array as a capsule of DLPack; ``from_dlpack`` of numpy, torch or CuPy calls this.

Args:
    stream: on a GPU the consumer's stream as a number: the memory is used again after the work that is queued
        on it when the last array goes. Nothing has to wait, because the memory is complete.
    max_version: what the consumer knows: from (1, 0) on it gets a capsule "dltensor_versioned" of version 1.1,
        else, and with None, "dltensor", from before versions were counted.
    dl_device: None, or what ``__dlpack_device__`` says.
    copy: None or False.

Raises:
    BufferError: another device or a copy was asked for.)");
}

}  // namespace elir::python
