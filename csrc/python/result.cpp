#include "result.hpp"

#include "convert.hpp"

namespace elir::python {

namespace {

py::dict stages_of(const Result& result) {
  py::dict stages;
  for (std::size_t i = 0; i < elir::kStages; ++i) {
    if (is_timed(i, result.host)) stages[elir::stage_name(i)] = result.told.stages[i];
  }
  return stages;
}

py::object error_of(const Result& result) {
  if (!result.told.failed) return py::none();
  return py::make_tuple(elir::stage_name(static_cast<std::size_t>(result.told.stage)), result.told.message);
}

}  // namespace

void bind_result(py::module_& module) {
  py::class_<Result>(module, "Result", "What came back for a frame.")
      .def_property_readonly(
          "frame", [](const Result& result) { return result.frame; },
          R"(The restored frame in the stream's output_format, or None if the frame failed.

A numpy array, or a DeviceArray with results="device": ``[H, W, channels]`` of formats with components side by
side, ``[H, W]`` of those with one; of planes one after the other ``[rows, W]``, such as ``[H * 3 / 2, W]`` of
"nv12". Its type is the format's ``dtype``.)")
      .def_property_readonly(
          "index", [](const Result& result) { return result.told.index; },
          "Position among the submitted frames, from 0.")
      .def_property_readonly(
          "timestamp", [](const Result& result) { return result.told.timestamp; },
          "What was submitted with the frame.")
      .def_property_readonly(
          "steps", [](const Result& result) { return result.told.steps; },
          "Euler steps that the frame was given.")
      .def_property_readonly(
          "wanted_steps", [](const Result& result) { return result.told.wanted_steps; },
          "Euler steps that it would have been given without a deadline.")
      .def_property_readonly(
          "reused", [](const Result& result) { return result.told.reused; },
          "Share of the tiles that were taken from frames before, 0 to 1.")
      .def_property_readonly(
          "restored", [](const Result& result) { return !result.told.unrestored && !result.told.failed; },
          "False if the frame is as it came, for want of time.")
      .def_property_readonly(
          "left_ms", [](const Result& result) { return result.told.left_ms; },
          "With a deadline: the milliseconds that were left of it when the frame began.")
      .def_property_readonly(
          "needed_ms", [](const Result& result) { return result.told.needed_ms; },
          "With a deadline: the milliseconds that wanted_steps were known to take then; 0: not known yet.")
      .def_property_readonly(
          "latency_ms", [](const Result& result) { return result.told.latency_ms; },
          "Milliseconds from submit to completion, waiting in the ring included.")
      .def_property_readonly("stages", &stages_of,
                             R"(Milliseconds of each stage by its name, summed over tiles and steps.

On a GPU, which is told of a frame at once: "launch" (what the CPU did) and "total".)")
      .def_property_readonly(
          "error", &error_of,
          "The stage that failed and why, as (stage, message); None if the frame did not fail.");
}

}  // namespace elir::python
