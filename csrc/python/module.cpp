// The Python surface of the core.
#include <pybind11/pybind11.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../kernels.hpp"
#include "device_array.hpp"
#include "formats.hpp"
#include "lifetime.hpp"
#include "stream.hpp"

namespace py = pybind11;
using namespace py::literals;

PYBIND11_MODULE(_core, module) {
  module.doc() = "The C++ core: frame slots, the stages of a frame, and their order.";

  const py::object closed = py::exception<elir::Closed>(module, "Closed");
  static py::object closed_type = closed;
  py::register_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const elir::Closed& error) {
      py::set_error(closed_type, error.what());
    } catch (const elir::TimedOut& error) {
      py::set_error(PyExc_TimeoutError, error.what());
    }
  });

  elir::python::bind_formats(module);
  elir::python::bind_device_array(module);
  elir::python::bind_stream(module);

  module.attr("MAX_DEPTH") = elir::kMaxDepth;
  module.def("compiled_devices", [] {
    std::vector<std::string> devices{"cpu"};
    if (elir::has_cuda()) devices.push_back("cuda");
    return devices;
  });
  module.def("cuda_problem", &elir::cuda_problem);
  module.def(
      "philox",
      [](const std::array<std::uint32_t, 4>& counter, const std::array<std::uint32_t, 2>& key) {
        const elir::Words words =
            elir::philox({{counter[0], counter[1], counter[2], counter[3]}}, key[0], key[1]);
        return std::array<std::uint32_t, 4>{words.v[0], words.v[1], words.v[2], words.v[3]};
      },
      "counter"_a, "key"_a);
  module.def(
      "noise_field",
      [](std::uint64_t seed, int channels, int height, int width, std::uint32_t frame) {
        elir::Geometry geometry{height, width, height, width,    height, width,
                                1.0,    1.0,   false,  {{0, 0}}, 1,      channels};
        geometry.check();
        const std::unique_ptr<elir::Device> device = elir::make_host_device();
        device->prepare(geometry, {}, {});
        py::array_t<float> field({channels, height, width});
        float* data = field.mutable_data();
        py::gil_scoped_release unlocked;
        device->draw_noise(seed, frame, data);
        return field;
      },
      "seed"_a, "channels"_a, "height"_a, "width"_a, "frame"_a = 0);

  elir::python::watch_exit();
}
