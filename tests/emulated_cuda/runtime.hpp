// The emulated GPU: streams as queues of operations that are executed late, in an order of an adversary's
// choice.
//
// An operation waits for the one before it on its stream and for what events say, and for nothing else. It is
// executed only when a call has to wait for it, or when the schedule likes to; between the ready ones the
// schedule chooses. One lock guards everything; operations run under it, on the thread that waits.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace emulated_cuda {

enum class Kind { kernel, upload, download, device_copy, fill, host_function, marker };

struct Operation {
  Kind kind = Kind::marker;
  std::string name;
  std::function<void()> work;
  std::vector<std::shared_ptr<Operation>> after;
  bool done = false;
};
using Queued = std::shared_ptr<Operation>;

// What a capture records, and a graph holds. `after` are indices of earlier nodes.
struct Node {
  Kind kind;
  std::string name;
  std::function<void()> work;
  std::vector<std::size_t> after;
};

struct Capture {
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread;
  std::uintptr_t origin = 0;
  std::vector<Node> nodes;
  bool invalidated = false;
};

struct Stream {
  bool blocking = false;  // ordered with the legacy stream
  Queued last;
  std::shared_ptr<Capture> capture;
  std::vector<std::size_t> tail;  // nodes that the next one of this stream comes after
};

struct Event {
  Queued recorded;
  std::shared_ptr<Capture> capture;
  std::vector<std::size_t> tail;
};

struct Graph {
  std::vector<Node> nodes;
};

struct GraphExec {
  std::vector<Node> nodes;
  Queued last;
};

enum class Schedule {
  at_once,         // every operation when it is queued
  oldest,          // what was queued first
  newest,          // what was queued last
  lazy,            // nothing but what is waited for
  uploads_last,    // computing and downloads before uploads
  downloads_last,  // everything else before downloads
  compute_first,   // kernels and engines before copies
  random           // any, and now and then without being waited for
};

// Objects behind handles. Numbers are never used twice, so that a handle that is dead stays so.
template <typename T>
class Handles {
 public:
  std::uintptr_t add(std::shared_ptr<T> object) {
    alive_[++next_] = std::move(object);
    return kFirst + next_ * 16;
  }
  std::shared_ptr<T> find(const void* handle) const {
    const auto found = alive_.find((reinterpret_cast<std::uintptr_t>(handle) - kFirst) / 16);
    return found == alive_.end() ? nullptr : found->second;
  }
  bool remove(const void* handle) {
    return alive_.erase((reinterpret_cast<std::uintptr_t>(handle) - kFirst) / 16) != 0;
  }
  std::size_t size() const { return alive_.size(); }
  template <typename Visit>
  void each(Visit&& visit) const {
    for (const auto& [number, object] : alive_) visit(*object);
  }

 private:
  static constexpr std::uintptr_t kFirst = 0x1000;
  std::uintptr_t next_ = 0;
  std::map<std::uintptr_t, std::shared_ptr<T>> alive_;
};

class Runtime {
 public:
  static Runtime& get();

  std::mutex& mutex() { return mutex_; }

  // All below with the lock held.

  // Counts a call; an error that was ordered for it, or the device's own sticky one.
  cudaError_t enter(const char* call);
  // Remembers an error of this thread.
  cudaError_t fail(cudaError_t error);

  // Null where there is no such stream; the stream that has been destroyed is none.
  std::shared_ptr<Stream> stream(cudaStream_t handle);
  cudaError_t enqueue(cudaStream_t handle, Kind kind, std::string name, std::function<void()> work);
  cudaError_t record(Event& event, cudaStream_t handle);
  cudaError_t wait(cudaStream_t handle, const Event& event);
  cudaError_t launch(GraphExec& exec, cudaStream_t handle);

  // Executes until the operation is done; null is done.
  void finish(const Queued& operation);
  void finish_all();
  // What the schedule does without being asked to.
  void progress();

  cudaError_t begin_capture(cudaStream_t handle, cudaStreamCaptureMode mode);
  cudaError_t end_capture(cudaStream_t handle, std::unique_ptr<Graph>& graph);
  // The error of a call that may not be made while someone records; it ends those recordings.
  cudaError_t refuse_unsafe();
  bool any_capture() const;

  Handles<Stream> streams;
  Handles<Event> events;
  Handles<Graph> graphs;
  Handles<GraphExec> execs;

  // Set by tests.
  struct Settings {
    Schedule schedule = Schedule::at_once;
    bool backwards = false;  // blocks and threads of a kernel in falling order
    int devices = 1;
    bool integrated = false;
    cudaError_t problem = cudaSuccess;  // of cudaGetDeviceCount
  } settings;
  void seed(std::uint64_t seed) { random_.seed(seed); }
  void order_failure(const std::string& call, int nth, cudaError_t error) {
    failures_.push_back({call, nth, error});
  }
  void forget_failures() { failures_.clear(); }
  bool failures_pending() const { return !failures_.empty(); }
  cudaError_t sticky = cudaSuccess;

  // What was counted since the last reset.
  std::map<std::string, std::uint64_t> calls, launches, bytes, executed;
  std::uint64_t nodes_instantiated = 0;
  std::deque<std::string> trace;  // names of the last operations that were executed

 private:
  struct Failure {
    std::string call;
    int nth;
    cudaError_t error;
  };

  Queued queue(Stream& stream, Kind kind, std::string name, std::function<void()> work,
               std::vector<Queued> after = {});
  // The legacy stream's order with those that block, before and after an operation of `stream`.
  void order_legacy(Stream& stream, std::vector<Queued>& after);
  void execute(const Queued& operation);
  Queued choose(const Queued& target);
  int rank(const Operation& operation) const;
  void invalidate(Capture& capture) { capture.invalidated = true; }

  std::mutex mutex_;
  std::shared_ptr<Stream> legacy_ = std::make_shared<Stream>();
  std::map<std::thread::id, std::shared_ptr<Stream>> per_thread_;
  std::vector<Queued> pending_;
  std::vector<Failure> failures_;
  std::mt19937_64 random_{0};
};

// This thread's last error and capture mode.
cudaError_t& last_error();
cudaStreamCaptureMode& thread_mode();

}  // namespace emulated_cuda
