// A ring of frame slots between the caller's threads and one worker that runs the pipeline.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "ladder.hpp"
#include "pipeline.hpp"

namespace elir {

enum class Drop { block, oldest, newest };

// A frame is to be done so many milliseconds after it was submitted.
struct Latency {
  std::optional<float> deadline_ms;  // none: as long as it takes
  bool drop_late = false;            // instead of handing late frames on as they came
  // Throws std::invalid_argument.
  void check() const;
};

// Most slots of a ring.
constexpr std::size_t kMaxDepth = 4096;
// Longest deadline, in milliseconds: an hour.
constexpr float kMaxDeadlineMs = 3.6e6F;
// Throws std::invalid_argument if a ring cannot have so many.
void check_depth(std::size_t depth);

// The stream takes no more frames, or has no more results.
class Closed : public std::runtime_error {
 public:
  Closed() : std::runtime_error("the stream is closed") {}
};

class TimedOut : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// What comes back for a frame; the pixels are copied out apart.
struct FrameResult {
  std::uint64_t index = 0;
  std::optional<double> timestamp;
  int steps = 0;
  int wanted_steps = 0;                    // that it would have been given without a deadline
  bool unrestored = false;                 // for want of time
  float left_ms = 0.0F, needed_ms = 0.0F;  // with a deadline: when it began, for the steps that were wanted
  StageTimes stages{};
  float latency_ms = 0.0F;
  float reused = 0.0F;  // share of tiles that were taken from frames before
  bool failed = false;
  Stage stage = Stage::load;
  std::string message;
};

// What a frame is submitted with.
struct Submission {
  std::optional<double> timestamp;
  std::optional<int> steps;         // none: the pipeline's
  std::vector<std::size_t> reused;  // tiles that are taken from the last frame
};

struct Counts {
  std::uint64_t submitted = 0, completed = 0, dropped = 0, failed = 0;
  std::size_t pending = 0;
};

class Stream {
 public:
  using Clock = std::chrono::steady_clock;
  // Called now and then while waiting, without locks; may throw to end the wait.
  using Interrupt = std::function<void()>;
  using Deadline = std::optional<Clock::time_point>;

  // `on_device`: results are memory of the device, which their reader takes.
  Stream(std::unique_ptr<Pipeline> pipeline, std::size_t depth, Drop drop, bool on_device = false,
         Latency latency = {});
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  Pipeline& pipeline() { return *pipeline_; }

  void start();
  bool started() const { return worker_.joinable(); }

  // Take a frame: `write` fills the slot's memory, or makes the job's frame point at memory that it holds.
  // Returns its index, or nothing if it was dropped.
  std::optional<std::uint64_t> submit(const std::function<void(std::uint8_t*, FrameJob&)>& write,
                                      const Submission& submission, Deadline deadline,
                                      const Interrupt& interrupt);

  // Wait for the next result, hand its pixels to `read` (null for a frame that failed), free its slot. A
  // reader that takes memory of the device leaves other memory in its place.
  FrameResult result(const std::function<void(FrameMemory*)>& read, Deadline deadline,
                     const Interrupt& interrupt);

  // No more frames; those in the ring are finished.
  void close();
  // Close, forget what has not begun, and wait for the worker, unless this is the worker.
  void abort();
  // Whether this thread is the stream's own: it must not destroy the stream.
  bool is_worker() const;

  Counts counts() const;
  // Latencies, and times of each stage, of the last frames; unsorted.
  struct Recent {
    std::vector<float> latency;
    std::array<std::vector<float>, kStages> stages;
  };
  Recent recent() const;

 private:
  struct Slot {
    FrameMemory frame, restored;
    FrameJob job;
    FrameResult result;
    Clock::time_point submitted, begun;
  };

  // A queue of slot numbers that never allocates.
  class Queue {
   public:
    explicit Queue(std::size_t capacity) : items_(capacity) {}
    bool empty() const { return size_ == 0; }
    std::size_t size() const { return size_; }
    void push(std::size_t item) { items_[(first_ + size_++) % items_.size()] = item; }
    std::size_t front() const { return items_[first_]; }
    void drop_last() { --size_; }
    std::size_t pop() {
      const std::size_t item = items_[first_];
      first_ = (first_ + 1) % items_.size();
      --size_;
      return item;
    }

   private:
    std::vector<std::size_t> items_;
    std::size_t first_ = 0, size_ = 0;
  };

  void work();
  // False if the frame is too late, and late ones are dropped.
  bool decide(std::size_t at);
  bool begin(std::size_t at);
  bool look(std::size_t at);
  void run(std::size_t at);
  // Milliseconds until a frame is to be done.
  float left(const Slot& slot) const;
  int guard(std::size_t at, const Progress& progress);
  void finish(std::size_t at);
  void count(const FrameResult& result);
  // The oldest result that nobody collected, for its place in the ring.
  void give_up_finished();
  // Waits on `changed` until `ready`, the deadline, or an exception of `interrupt`.
  template <typename Ready>
  void wait(std::unique_lock<std::mutex>& lock, Ready ready, const Deadline& deadline,
            const Interrupt& interrupt, const char* what);

  std::unique_ptr<Pipeline> pipeline_;
  Drop drop_;
  std::vector<Slot> slots_;
  Queue free_, waiting_, begun_, finished_;
  mutable std::mutex mutex_;
  std::mutex submitting_;  // keeps frames of several submitters whole and in order
  std::condition_variable changed_;
  std::thread worker_;
  bool closed_ = false;
  bool aborted_ = false;
  bool on_device_;
  const Latency latency_;
  Ladder ladder_;  // of the worker
  std::size_t filling_ = 0;
  Counts counts_;
  Recent history_;
  std::size_t history_next_ = 0, history_size_ = 0;
};

}  // namespace elir
