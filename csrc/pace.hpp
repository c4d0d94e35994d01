// What the parts of a frame usually take, and how much slower they are just now.
//
// A machine that others load has two speeds, and a quantile over both knows one of them. Here the usual times
// are those of an undisturbed machine, low quantiles of the frames that went through all of their parts; how
// much slower than usual it is now is told by the last few frames, and, while a frame runs, by the parts of
// it that are done. With that a frame is given up between two parts as soon as what is left of it would come
// late: beginning a frame that may be slow costs time, but no deadline.
#pragma once

#include <cstddef>
#include <vector>

namespace elir {

// A frame is handed on as it came.
constexpr int kUnrestored = -1;

// Another process that takes half of the machine.
constexpr float kMuchSlower = 2.0F;

// The last numbers, and their quantiles. The first ones, while engines and caches warm up, count only until
// there are others.
class Window {
 public:
  explicit Window(std::size_t most = 256) : most_(most) {}
  void add(float value);
  bool empty() const { return values_.empty() && warm_up_ == 0; }
  bool warmed_up() const { return !values_.empty(); }
  // Of 0 to 1, and of few numbers one that is less far out: n of them say nothing of what one in more than n
  // exceeds. 0 where there are no numbers.
  float quantile(float part) const;
  void clear() { *this = Window(most_); }

 private:
  static constexpr std::size_t kWarmUp = 2;
  std::size_t most_;
  std::vector<float> values_;
  std::size_t next_ = 0;
  std::size_t warm_up_ = 0;  // numbers of the warm-up that there were
  float provisional_ = 0.0F;
  mutable std::vector<float> sorted_;
};

// Milliseconds of the parts of a frame, or of what of it is done.
struct PartTimes {
  float encoder = 0.0F, coarse = 0.0F, steps = 0.0F, decoder = 0.0F;
  float direct = 0.0F;  // the engine that stands for encoder, coarse estimate and decoder
  float other = 0.0F;   // loading, storing and what else is no engine: once a frame, however many runs
};

// Where a frame is asked whether it should go on.
enum class Checkpoint { encoded, estimated, stepped };

struct Progress {
  Checkpoint at = Checkpoint::encoded;
  int steps = 0;                             // that the frame is to have
  int taken = 0;                             // of those, in the run of tiles that is in work
  std::size_t runs_done = 0, runs_left = 0;  // runs of tiles before this one, and after it
  PartTimes times;                           // of all that is done
};

class Pace {
 public:
  // A frame that went through its parts, or the direct engine, so many times; 1 or more.
  void note(int steps, const PartTimes& times, std::size_t runs = 1);
  // A frame that was given up was so many times slower than usual.
  void note_slowness(float slowness);
  // The last frames say nothing of how fast the machine is now.
  void forget_slowness() { lately_.clear(); }

  bool known() const { return known_; }
  bool direct_known() const { return !direct_.empty(); }

  // Milliseconds of a frame of so many runs; 0 where nothing is known.
  float usual(int steps, std::size_t runs = 1) const;
  float usual_direct(std::size_t runs = 1) const;
  // How many times slower the last frames were; at least 1.
  float slowness() const;

  // How many times slower than usual the parts of a frame that are done have been; at least 1.
  float slowness_of(const Progress& progress) const;
  // Milliseconds that a frame of `steps` still takes, as slow as it has been.
  float remaining(const Progress& progress, int steps) const;
  // The steps for which there is time in `left` milliseconds: as many as planned or fewer; or kUnrestored.
  // When steps were taken, it is all of them, or none: the coarse estimate is still there.
  int allowed(const Progress& progress, float left) const;

 private:
  // Lately's frames were measured by other usual times.
  void rescale(float before, float after);
  // Of the engines alone, for so many runs.
  float usual_engines(int steps, std::size_t runs) const;

  Window encoder_{kMemory}, coarse_{kMemory}, step_{kMemory}, decoder_{kMemory}, other_{kMemory};
  Window direct_{kMemory};
  std::vector<float> lately_;  // slowness of the last frames
  std::size_t next_ = 0;
  PartTimes usual_;  // of a run; `steps` is of one step
  bool known_ = false;

  static constexpr std::size_t kMemory = 64, kLately = 3;
};

}  // namespace elir
