#include "device_array.hpp"

namespace elir::python {

void bind_device_array(py::module_& module) {
  py::class_<DeviceArray>(module, "DeviceArray")
      .def_property_readonly("shape", &DeviceArray::shape)
      .def_property_readonly("dtype", &DeviceArray::type_name)
      .def_property_readonly("__cuda_array_interface__", &DeviceArray::cuda_array_interface)
      .def("__dlpack_device__", &DeviceArray::dlpack_device)
      .def(
          "__dlpack__",
          [](const DeviceArray& array, const std::optional<std::int64_t>& stream, const py::kwargs&) {
            return array.dlpack(stream);
          },
          "stream"_a = py::none());
}

}  // namespace elir::python
