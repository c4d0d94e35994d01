// How much of a restoration a deadline leaves time for.
//
// The rungs are numbers of Euler steps, down to 0, and below them the frame as it came. What a rung takes is
// learnt from the frames before. Where a frame cannot be stopped once it has begun, a high quantile of the
// last ones decides, not their mean, because a deadline is missed by the slow ones. Where it is asked between
// its parts whether to go on (pace.hpp), what parts usually take decides, as slow as they are just now.
#pragma once

#include <cstddef>
#include <functional>
#include <map>

#include "pace.hpp"

namespace elir {

class Ladder {
 public:
  // How often the engines run for a frame of so many steps: tiles of a still region cost nothing.
  using Runs = std::function<std::size_t(int steps)>;
  static std::size_t one_run(int) { return 1; }

  // The rung of a frame that is to have `wanted` steps, in `left` milliseconds: so many steps, or
  // kUnrestored. Goes down at once, and up when there was time to spare for some frames in a row, so that a
  // video does not change its look from frame to frame. Restores a frame now and then even where there seems
  // to be no time, to find out. `guarded`: the frame asks `allowed` between its parts.
  int choose(int wanted, float left, bool guarded = false, const Runs& runs = one_run);

  // Whether a frame without steps had better go through its parts than through one engine, because that
  // cannot be stopped and there is not the time for a much slower one.
  bool by_parts(float left, std::size_t runs = 1) const;

  // What a restored frame took: all of it, and of that its steps; `in_steps` below 0 where that is not known.
  void note(int steps, float total, float in_steps);
  // What a guarded frame took, in so many runs of tiles.
  void note_parts(int steps, const PartTimes& times, std::size_t runs = 1);

  // Whether a frame came late. Where many do, because the machine is slower from one moment to the next than
  // any part could tell, more time is left to spare: so much that in the long run about one in two hundred
  // is.
  void ended(bool late);

  // The steps that a guarded frame goes on with, or kUnrestored: it is given up; see Pace::allowed.
  int allowed(const Progress& progress, float left);

  // Milliseconds that a guarded frame still takes with so many steps.
  float remaining(const Progress& progress, int steps) const { return pace_.remaining(progress, steps); }

  // Milliseconds that a frame with so many steps takes, hardly ever more; 0 where nothing is known.
  float needed(int steps) const;
  // The same of a guarded frame: as slow as the last ones were.
  float lately(int steps, std::size_t runs = 1) const;

 private:
  // As the machine usually is.
  float usually(int steps, std::size_t runs) const;

  Pace pace_;
  Window whole_;                    // frames without steps
  Window rest_;                     // of frames with steps, what is not in steps
  Window share_;                    // of a step, next to that rest
  float whole_then_ = 0.0F;         // what frames without steps needed when one with steps was last timed
  std::map<int, Window> by_steps_;  // where steps are not timed apart: whole frames
  int rung_ = kUnrestored;
  bool begun_ = false;
  int calm_ = 0;
  int passed_ = 0, patience_ = 0;  // unrestored frames in a row, and how many of them before one is tried
  float margin_ = 1.0F;            // of what guarded frames are thought to take
  float try_left_ = 0.0F;          // milliseconds that the frame that is tried has; 0: none is
};

}  // namespace elir
