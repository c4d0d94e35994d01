#include "ladder.hpp"

#include "../ladder.hpp"
#include "convert.hpp"

namespace elir::python {

void bind_ladder(py::module_& module) {
  using elir::Ladder;
  py::class_<Ladder>(module, "Ladder", "What a stream with a deadline asks for each frame.")
      .def(py::init<>(), "Nothing is known of frames yet.")
      .def("choose", &Ladder::choose, "wanted"_a, "left_ms"_a,
           R"(The Euler steps of the next frame, or -1: it is handed on as it came.

Args:
    wanted: steps that it should have, 0 or more.
    left_ms: milliseconds until it is to be done.)")
      .def("note", &Ladder::note, "steps"_a, "total_ms"_a, "in_steps_ms"_a = -1.0F,
           R"(Tell what a restored frame took.

Args:
    steps: that it was given.
    total_ms: milliseconds in all.
    in_steps_ms: of those, in its steps; below 0: not known.)")
      .def("needed", &Ladder::needed, "steps"_a,
           "Milliseconds that a frame with so many steps hardly ever exceeds; 0: nothing is known.");
}

}  // namespace elir::python
