// How much of a restoration a deadline leaves time for.
//
// The rungs are numbers of Euler steps, down to 0, and below them the frame as it came. What a rung takes is
// learnt from the frames before: a high quantile of the last ones, not their mean, because a deadline is
// missed by the slow ones.
#pragma once

#include <cstddef>
#include <map>
#include <vector>

namespace elir {

// A frame is handed on as it came.
constexpr int kUnrestored = -1;

// The last numbers, and their quantiles.
class Window {
 public:
  void add(float value);
  bool empty() const { return values_.empty(); }
  // Of 0 to 1; 0 where there are no numbers.
  float quantile(float part) const;

 private:
  static constexpr std::size_t kMost = 256;
  std::vector<float> values_;
  std::size_t next_ = 0;
  mutable std::vector<float> sorted_;
};

class Ladder {
 public:
  // The rung of a frame that is to have `wanted` steps, in `left` milliseconds: so many steps, or
  // kUnrestored. Goes down at once, and up when there was time to spare for some frames in a row, so that a
  // video does not change its look from frame to frame. Restores a frame now and then even where there seems
  // to be no time, to find out.
  int choose(int wanted, float left);

  // What a restored frame took: all of it, and of that its steps; `in_steps` below 0 where that is not known.
  void note(int steps, float total, float in_steps);

  // Milliseconds that a frame with so many steps takes, hardly ever more; 0 where nothing is known.
  float needed(int steps) const;

 private:
  Window whole_;                    // frames without steps
  Window rest_;                     // of frames with steps, what is not in steps
  Window share_;                    // of a step, next to that rest
  float whole_then_ = 0.0F;         // what frames without steps needed when one with steps was last timed
  std::map<int, Window> by_steps_;  // where steps are not timed apart: whole frames
  int rung_ = kUnrestored;
  bool begun_ = false;
  int calm_ = 0;
  int passed_ = 0, patience_ = 0;  // unrestored frames in a row, and how many of them before one is tried
};

}  // namespace elir
