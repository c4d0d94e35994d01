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
#include "geometry.hpp"
#include "ladder.hpp"
#include "lifetime.hpp"
#include "options.hpp"
#include "result.hpp"
#include "stream.hpp"

namespace elir::python {

namespace {

void bind_errors(py::module_& module) {
  const py::object closed = py::exception<elir::Closed>(module, "Closed");
  closed.attr("__doc__") = "The stream takes no more frames, or has no more results.";
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
}

void bind_devices(py::module_& module) {
  module.def(
      "compiled_devices",
      [] {
        std::vector<std::string> devices{"cpu"};
        if (elir::has_cuda()) devices.push_back("cuda");
        return devices;
      },
      "Devices that this build has, usable here or not.");
  module.def(
      "devices",
      [] {
        std::vector<std::string> devices{"cpu"};
        if (elir::cuda_problem().empty()) devices.push_back("cuda");
        return devices;
      },
      "Devices that are usable here.");
  module.def("cuda_problem", &elir::cuda_problem,
             "Why there is no usable CUDA device; empty if there is one.");
}

std::array<std::uint32_t, 4> philox(const std::array<std::uint32_t, 4>& counter,
                                    const std::array<std::uint32_t, 2>& key) {
  const elir::Words words = elir::philox({{counter[0], counter[1], counter[2], counter[3]}}, key[0], key[1]);
  return {words.v[0], words.v[1], words.v[2], words.v[3]};
}

py::array_t<float> noise_field(std::uint64_t seed, int channels, int height, int width, std::uint32_t frame) {
  elir::Geometry geometry{height, width, height, width,    height, width,
                          1.0,    1.0,   false,  {{0, 0}}, 1,      channels};
  geometry.check();
  const std::unique_ptr<elir::Device> device = elir::make_host_device();
  device->prepare(geometry, {}, {});
  py::array_t<float> field({channels, height, width});
  float* data = field.mutable_data();
  {
    py::gil_scoped_release unlocked;
    device->draw_noise(seed, frame, data);
  }
  return field;
}

void bind_noise(py::module_& module) {
  module.def(
      "philox", &philox, "counter"_a, "key"_a,
      R"(One block of Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).

Args:
    counter: four words of 32 bits.
    key: two words of 32 bits.

Returns:
    Four words of 32 bits.)");
  module.def("noise_field", &noise_field, "seed"_a, "channels"_a, "height"_a, "width"_a, "frame"_a = 0,
             R"(The noise of a latent, standard normal: each number is a function of the seed and its place.

Args:
    seed: 64 bits.
    channels, height, width: of the latent.
    frame: 0 for the noise that stays; else the number of the noise that is drawn for a frame.

Returns:
    ``[channels, height, width]`` float32.

Raises:
    ValueError: a side is out of its range.)");
}

}  // namespace

}  // namespace elir::python

PYBIND11_MODULE(_core, module) {
  module.doc() = "The C++ core: frame slots, the stages of a frame, and their order.";
  elir::python::bind_errors(module);
  elir::python::bind_formats(module);
  elir::python::bind_geometry(module);
  elir::python::bind_options(module);
  elir::python::bind_device_array(module);
  elir::python::bind_result(module);
  elir::python::bind_ladder(module);
  elir::python::bind_stream(module);
  elir::python::bind_devices(module);
  elir::python::bind_noise(module);
  module.attr("MAX_DEPTH") = elir::kMaxDepth;
  module.attr("MAX_DEADLINE_MS") = elir::kMaxDeadlineMs;
  elir::python::watch_exit();
}
