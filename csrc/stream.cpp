#include "stream.hpp"

#include <unistd.h>

#include <algorithm>

namespace elir {

namespace {

constexpr std::chrono::milliseconds kInterruptEvery{50};
constexpr std::size_t kHistory = 1024;

// The depth, before anything is allocated for it.
std::size_t checked_depth(std::size_t depth, const Pipeline& pipeline) {
  check_depth(depth);
  const std::size_t slot = pipeline.frame_bytes() + pipeline.restored_bytes();
  const std::size_t memory =
      static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  if (slot > memory / depth) {
    constexpr std::size_t mebibyte = 1U << 20;
    throw std::invalid_argument("depth is " + std::to_string(depth) + ", of " +
                                std::to_string(slot / mebibyte) + " MiB a frame; this machine has " +
                                std::to_string(memory / mebibyte) + " MiB");
  }
  return depth;
}

}  // namespace

void check_depth(std::size_t depth) {
  if (depth < 1 || depth > kMaxDepth) {
    throw std::invalid_argument("depth is " + std::to_string(depth) + "; expected 1 to " +
                                std::to_string(kMaxDepth));
  }
}

void Latency::check() const {
  if (deadline_ms && !(*deadline_ms > 0.0F && *deadline_ms <= kMaxDeadlineMs)) {
    throw std::invalid_argument("deadline_ms is " + std::to_string(*deadline_ms) +
                                "; expected more than 0, at most " + std::to_string(kMaxDeadlineMs));
  }
}

Stream::Stream(std::unique_ptr<Pipeline> pipeline, std::size_t depth, Drop drop, bool on_device,
               Latency latency)
    : pipeline_(std::move(pipeline)),
      drop_(drop),
      slots_(checked_depth(depth, *pipeline_)),
      free_(depth),
      waiting_(depth),
      begun_(depth),
      finished_(depth),
      on_device_(on_device),
      latency_(latency) {
  latency_.check();
  for (std::size_t i = 0; i < depth; ++i) {
    Device& device = pipeline_->device();
    slots_[i].frame = device.allocate_frame(pipeline_->frame_bytes());
    slots_[i].restored = on_device ? device.allocate_result(pipeline_->restored_bytes())
                                   : device.allocate_frame(pipeline_->restored_bytes());
    // Room for an error's text, so that a failing frame does not allocate either in most cases.
    slots_[i].result.message.reserve(256);
    free_.push(i);
  }
  history_.latency.resize(kHistory);
  for (std::vector<float>& stage : history_.stages) stage.resize(kHistory);
}

Stream::~Stream() {
  abort();
}

void Stream::start() {
  if (started()) throw std::logic_error("the stream was started before");
  pipeline_->start();
  worker_ = std::thread([this] { work(); });
}

template <typename Ready>
void Stream::wait(std::unique_lock<std::mutex>& lock, Ready ready, const Deadline& deadline,
                  const Interrupt& interrupt, const char* what) {
  while (!ready()) {
    const Clock::time_point now = Clock::now();
    if (deadline && now >= *deadline) throw TimedOut(what);
    Clock::time_point until = now + kInterruptEvery;
    if (deadline) until = std::min(until, *deadline);
    if (changed_.wait_until(lock, until) == std::cv_status::timeout && interrupt) {
      lock.unlock();
      interrupt();
      lock.lock();
    }
  }
}

std::optional<std::uint64_t> Stream::submit(const std::function<void(std::uint8_t*, FrameJob&)>& write,
                                            const Submission& submission, Deadline deadline,
                                            const Interrupt& interrupt) {
  if (drop_ != Drop::block && !submission.reused.empty()) {
    throw std::invalid_argument(
        "reuse is of a stream that may drop the frame whose tiles they are; expected drop 'block'");
  }
  static_cast<void>(
      pipeline_->params(0, submission.steps, submission.reused));  // checked before anything is taken
  const std::lock_guard<std::mutex> one_at_a_time(submitting_);
  std::unique_lock<std::mutex> lock(mutex_);
  if (closed_) throw Closed();
  if (free_.empty() && drop_ == Drop::newest) {
    ++counts_.submitted;
    ++counts_.dropped;
    return std::nullopt;
  }
  if (free_.empty() && drop_ == Drop::oldest && (!waiting_.empty() || !finished_.empty())) {
    if (waiting_.empty()) {
      give_up_finished();
    } else {
      free_.push(waiting_.pop());
      ++counts_.dropped;
    }
  }
  // With "oldest" and a single slot, the slot may be in work: then it is soon free to be taken back.
  wait(
      lock,
      [&] {
        if (closed_) return true;
        if (free_.empty() && drop_ == Drop::oldest && !finished_.empty()) give_up_finished();
        return !free_.empty();
      },
      deadline, interrupt, "no place came free in the ring in time");
  if (closed_) throw Closed();
  const std::size_t at = free_.pop();
  const std::uint64_t index = counts_.submitted++;
  ++filling_;
  lock.unlock();
  Slot& slot = slots_[at];
  slot.submitted = Clock::now();
  slot.job = {};
  slot.job.index = index;
  slot.job.params = pipeline_->params(index, submission.steps, submission.reused);
  const Geometry& geometry = pipeline_->geometry();
  FramePlace& place = slot.job.params.place;
  place.frame = pipeline_->in().planes(slot.frame.get(), geometry.frame_height, geometry.frame_width);
  place.restored = slot.restored.get();
  place.restored_on_device = on_device_;
  write(slot.frame.get(), slot.job);
  slot.result.index = index;
  slot.result.timestamp = submission.timestamp;
  slot.result.steps = slot.result.wanted_steps = slot.job.params.steps;
  slot.result.unrestored = false;
  slot.result.failed = false;
  slot.result.message.clear();
  lock.lock();
  --filling_;
  waiting_.push(at);
  changed_.notify_all();
  return index;
}

FrameResult Stream::result(const std::function<void(FrameMemory*)>& read, Deadline deadline,
                           const Interrupt& interrupt) {
  std::unique_lock<std::mutex> lock(mutex_);
  wait(
      lock,
      [&] { return !finished_.empty() || (closed_ && waiting_.empty() && begun_.empty() && filling_ == 0); },
      deadline, interrupt, "no result in time");
  if (finished_.empty()) throw Closed();
  const std::size_t at = finished_.pop();
  lock.unlock();
  Slot& slot = slots_[at];
  FrameResult result = slot.result;
  std::exception_ptr error;
  try {
    read(result.failed ? nullptr : &slot.restored);
  } catch (...) {
    error = std::current_exception();
  }
  slot.job.owner.reset();
  lock.lock();
  free_.push(at);
  changed_.notify_all();
  lock.unlock();
  if (error) std::rethrow_exception(error);
  return result;
}

void Stream::close() {
  const std::lock_guard<std::mutex> lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

void Stream::abort() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    aborted_ = true;
    changed_.notify_all();
  }
  // A part may end its own stream: the worker stops by itself then, and is joined by whoever owns the stream.
  if (worker_.joinable() && !is_worker()) worker_.join();
}

bool Stream::is_worker() const {
  return worker_.get_id() == std::this_thread::get_id();
}

float Stream::left(const Slot& slot) const {
  return *latency_.deadline_ms -
         std::chrono::duration<float, std::milli>(Clock::now() - slot.submitted).count();
}

bool Stream::decide(std::size_t at) {
  if (!latency_.deadline_ms) return true;
  Slot& slot = slots_[at];
  FrameResult& result = slot.result;
  FrameParams& params = slot.job.params;
  const bool guarded = pipeline_->device().is_synchronous();
  float left = this->left(slot);
  // A device that takes frames ahead finishes those first; of each, no more than its own time is left to it.
  if (begun_.size() > 1) left -= static_cast<float>(begun_.size() - 1) * ladder_.needed(result.wanted_steps);
  const auto runs = [&](int steps) { return pipeline_->count_runs(params, steps); };
  const int steps = ladder_.choose(result.wanted_steps, left, guarded, runs);
  result.left_ms = left;
  result.needed_ms = guarded ? ladder_.lately(result.wanted_steps, runs(result.wanted_steps))
                             : ladder_.needed(result.wanted_steps);
  if (steps == kUnrestored && latency_.drop_late) return false;
  params.unrestored = steps == kUnrestored;
  params.steps = std::max(steps, 0);
  if (!guarded || params.unrestored) return true;
  params.by_parts = params.steps == 0 && ladder_.by_parts(left, runs(0));
  slot.job.guard = [this, at](const Progress& progress) { return guard(at, progress); };
  return true;
}

int Stream::guard(std::size_t at, const Progress& progress) {
  Slot& slot = slots_[at];
  const float left = this->left(slot);
  const int steps = ladder_.allowed(progress, left);
  if (steps < progress.steps) {
    slot.result.needed_ms =
        slot.result.left_ms - left + ladder_.remaining(progress, slot.result.wanted_steps);
  }
  return steps;
}

bool Stream::look(std::size_t at) {
  FrameResult& result = slots_[at].result;
  try {
    pipeline_->look(slots_[at].job, result.stages);
    return true;
  } catch (const StageError& error) {
    result.failed = true;
    result.stage = error.stage();
    result.message = error.what();
    return false;
  }
}

void Stream::run(std::size_t at) {
  FrameResult& result = slots_[at].result;
  try {
    pipeline_->begin(slots_[at].job, result.stages);
  } catch (const StageError& error) {
    result.failed = true;
    result.stage = error.stage();
    result.message = error.what();
  }
}

bool Stream::begin(std::size_t at) {
  FrameJob& job = slots_[at].job;
  FrameResult& result = slots_[at].result;
  slots_[at].begun = Clock::now();
  try {
    run(at);
  } catch (const OutOfTime&) {
    if (latency_.drop_late) return false;
    job.guard = nullptr;
    job.params.unrestored = true;
    job.params.steps = 0;
    const Clock::time_point began = Clock::now();
    const float total = std::chrono::duration<float, std::milli>(began - slots_[at].begun).count();
    run(at);
    result.stages[static_cast<std::size_t>(Stage::total)] += total;
  }
  result.unrestored = job.params.unrestored;
  result.steps = job.params.steps;
  result.reused =
      result.unrestored || result.failed
          ? 0.0F
          : static_cast<float>(job.reused) / static_cast<float>(pipeline_->geometry().tiles.size());
  return true;
}

void Stream::finish(std::size_t at) {
  Slot& slot = slots_[at];
  FrameResult& result = slot.result;
  if (!result.failed) {
    try {
      pipeline_->finish(result.stages);
    } catch (const StageError& error) {
      result.failed = true;
      result.stage = error.stage();
      result.message = error.what();
    }
  }
  if (latency_.deadline_ms && !result.failed && !result.unrestored) {
    const auto of = [&](Stage stage) { return result.stages[static_cast<std::size_t>(stage)]; };
    if (pipeline_->device().is_synchronous()) {
      PartTimes times{of(Stage::encoder), of(Stage::coarse), 0.0F, of(Stage::decoder), of(Stage::direct)};
      if (result.steps > 0) times.steps = of(Stage::velocity) + of(Stage::step);
      times.other = of(Stage::load) + of(Stage::start) + of(Stage::temporal) + of(Stage::store);
      ladder_.note_parts(result.steps, times, slot.job.runs);
    } else {
      ladder_.note(result.steps, of(Stage::total), -1.0F);
    }
  }
  if (latency_.deadline_ms) ladder_.ended(left(slot) < 0.0F);
  result.latency_ms = std::chrono::duration<float, std::milli>(Clock::now() - slot.submitted).count();
}

void Stream::give_up_finished() {
  const std::size_t at = finished_.pop();
  // A frame is counted once, as what became of it.
  --(slots_[at].result.failed ? counts_.failed : counts_.completed);
  ++counts_.dropped;
  free_.push(at);
}

void Stream::count(const FrameResult& result) {
  if (result.failed) {
    ++counts_.failed;
    return;
  }
  ++counts_.completed;
  history_.latency[history_next_] = result.latency_ms;
  for (std::size_t i = 0; i < kStages; ++i) history_.stages[i][history_next_] = result.stages[i];
  history_next_ = (history_next_ + 1) % kHistory;
  history_size_ = std::min(history_size_ + 1, kHistory);
}

void Stream::work() {
  const std::size_t ahead = pipeline_->device().max_in_flight();
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    changed_.wait(
        lock, [&] { return aborted_ || !waiting_.empty() || !begun_.empty() || (closed_ && filling_ == 0); });
    if (!aborted_ && !waiting_.empty() && begun_.size() < ahead) {
      const std::size_t at = waiting_.pop();
      begun_.push(at);
      lock.unlock();
      const bool taken = !look(at) || (decide(at) && begin(at));
      if (!taken) slots_[at].job.owner.reset();
      lock.lock();
      if (!taken) {
        // It is the last that began.
        begun_.drop_last();
        free_.push(at);
        ++counts_.dropped;
        changed_.notify_all();
      }
      continue;
    }
    if (begun_.empty()) break;
    const std::size_t at = begun_.front();
    lock.unlock();
    finish(at);
    lock.lock();
    count(slots_[at].result);
    finished_.push(begun_.pop());
    changed_.notify_all();
  }
  changed_.notify_all();
}

Counts Stream::counts() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  Counts counts = counts_;
  counts.pending = waiting_.size() + finished_.size() + filling_ + begun_.size();
  return counts;
}

Stream::Recent Stream::recent() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  Recent recent = history_;
  recent.latency.resize(history_size_);
  for (std::vector<float>& stage : recent.stages) stage.resize(history_size_);
  return recent;
}

}  // namespace elir
