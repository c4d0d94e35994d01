#include "ladder.hpp"

#include <optional>

#include "../ladder.hpp"
#include "convert.hpp"

namespace elir::python {

void bind_ladder(py::module_& module) {
  using elir::Ladder;
  py::class_<Ladder>(module, "Ladder", "What a stream with a deadline asks for each frame.")
      .def(py::init<>(), "Nothing is known of frames yet.")
      .def(
          "choose",
          [](Ladder& ladder, int wanted, float left, bool guarded) {
            return ladder.choose(wanted, left, guarded);
          },
          "wanted"_a, "left_ms"_a, "guarded"_a = false,
          R"(The Euler steps of the next frame, or -1: it is handed on as it came.

Args:
    wanted: steps that it should have, 0 or more.
    left_ms: milliseconds until it is to be done.
    guarded: the frame asks ``allowed`` between its parts, and can be given up there.)")
      .def("note", &Ladder::note, "steps"_a, "total_ms"_a, "in_steps_ms"_a = -1.0F,
           R"(Tell what a restored frame took.

Args:
    steps: that it was given.
    total_ms: milliseconds in all.
    in_steps_ms: of those, in its steps; below 0: not known.)")
      .def(
          "note_parts",
          [](Ladder& ladder, int steps, float encoder, float coarse, float in_steps, float decoder,
             float other) { ladder.note_parts(steps, {encoder, coarse, in_steps, decoder, 0.0F, other}); },
          "steps"_a, "encoder_ms"_a, "coarse_ms"_a, "in_steps_ms"_a, "decoder_ms"_a, "other_ms"_a = 0.0F,
          R"(Tell what the parts of a guarded frame took.

Args:
    steps: that it was given.
    encoder_ms, coarse_ms, in_steps_ms, decoder_ms: milliseconds of its parts, of all steps together.
    other_ms: of what is no part.)")
      .def(
          "allowed",
          [](Ladder& ladder, int steps, int taken, float left, float encoder, std::optional<float> coarse,
             float in_steps) {
            elir::Progress progress;
            progress.at = taken > 0 ? elir::Checkpoint::stepped
                                    : (coarse ? elir::Checkpoint::estimated : elir::Checkpoint::encoded);
            progress.steps = steps;
            progress.taken = taken;
            progress.times = {encoder, coarse.value_or(0.0F), in_steps};
            return ladder.allowed(progress, left);
          },
          "steps"_a, "taken"_a, "left_ms"_a, "encoder_ms"_a, "coarse_ms"_a = py::none(),
          "in_steps_ms"_a = 0.0F,
          R"(The Euler steps that a guarded frame goes on with between two parts, or -1: it is given up.

Args:
    steps: that it is to have, and ``taken``: that it had.
    left_ms: milliseconds until it is to be done.
    encoder_ms, coarse_ms, in_steps_ms: milliseconds that its parts took so far; ``coarse_ms`` None: it has not
        begun.)")
      .def("ended", &Ladder::ended, "late"_a,
           "Tell whether a frame came late: where many do, more time is spared.")
      .def("needed", &Ladder::needed, "steps"_a,
           "Milliseconds that a frame with so many steps hardly ever exceeds; 0: nothing is known.");
}

}  // namespace elir::python
