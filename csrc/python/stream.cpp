#include "stream.hpp"

#include "options.hpp"

namespace elir::python {

void bind_stream(py::module_& module) {
  py::class_<Result>(module, "Result")
      .def_property_readonly("frame", [](const Result& result) { return result.frame; })
      .def_property_readonly("index", [](const Result& result) { return result.told.index; })
      .def_property_readonly("timestamp", [](const Result& result) { return result.told.timestamp; })
      .def_property_readonly("steps", [](const Result& result) { return result.told.steps; })
      .def_property_readonly("latency_ms", [](const Result& result) { return result.told.latency_ms; })
      .def_property_readonly("stages",
                             [](const Result& result) {
                               py::dict stages;
                               for (std::size_t i = 0; i < elir::kStages; ++i) {
                                 if (!is_timed(i, result.host)) continue;
                                 stages[elir::stage_name(i)] = result.told.stages[i];
                               }
                               return stages;
                             })
      .def_property_readonly("error", [](const Result& result) -> py::object {
        if (!result.told.failed) return py::none();
        return py::make_tuple(elir::stage_name(static_cast<std::size_t>(result.told.stage)),
                              result.told.message);
      });

  py::class_<PyStream>(module, "Stream")
      .def(py::init(&make_stream), py::kw_only(), "frame_height"_a, "frame_width"_a, "engine_height"_a,
           "engine_width"_a, "scaled_height"_a, "scaled_width"_a, "scale_y"_a, "scale_x"_a, "interpolation"_a,
           "tiles"_a, "downscale"_a, "latent_channels"_a, "sigma"_a, "steps"_a, "table"_a, "seed"_a = 0,
           "noise"_a = "fixed", "depth"_a = 3, "drop"_a = "block", "format"_a = "rgb24",
           "output_format"_a = "rgb24", "matrix"_a = "bt709", "full_range"_a = false, "results"_a = "host",
           "element"_a = "float32", "device"_a = "cpu", "ordinal"_a = 0, "record"_a = true,
           "frames"_a = "auto", "batch"_a = 1)
      .def("buffer", &PyStream::buffer, "name"_a)
      .def("view", &PyStream::view, "name"_a)
      .def("read", &PyStream::read, "name"_a)
      .def("address", &PyStream::address, "name"_a)
      .def("shape", &PyStream::shape, "name"_a)
      .def("element", &PyStream::element, "name"_a)
      .def("reserve", &PyStream::reserve, "bytes"_a)
      .def_property_readonly("execution_mode", &PyStream::execution_mode)
      .def("set_part", &PyStream::set_part, "part"_a, "callable"_a)
      .def("set_noise", &PyStream::set_noise, "field"_a)
      .def("start", &PyStream::start)
      .def("submit", &PyStream::submit, "frame"_a, "timestamp"_a = py::none(), "steps"_a = py::none(),
           "timeout"_a = py::none())
      .def("submit_planes", &PyStream::submit_planes, "planes"_a, "owner"_a = py::none(),
           "stream"_a = py::none(), "timestamp"_a = py::none(), "steps"_a = py::none(),
           "timeout"_a = py::none())
      .def("result", &PyStream::result, "timeout"_a = py::none(), "out"_a = py::none())
      .def("close", &PyStream::close)
      .def("abort", &PyStream::abort)
      .def("stats", &PyStream::stats);

  module.def("devices", [] {
    std::vector<std::string> devices{"cpu"};
    if (elir::cuda_problem().empty()) devices.push_back("cuda");
    return devices;
  });
}

}  // namespace elir::python
