#include "runtime.hpp"

#include <algorithm>

#include "memory.hpp"
#include "traffic.hpp"

namespace emulated_cuda {

Runtime& Runtime::get() {
  // Never destroyed: objects of other modules may free memory while the process ends.
  static Runtime* runtime = new Runtime;
  return *runtime;
}

cudaError_t& last_error() {
  thread_local cudaError_t error = cudaSuccess;
  return error;
}

cudaError_t Runtime::enter(const char* call) {
  ++calls[call];
  if (settings.schedule == Schedule::random) progress();
  if (sticky != cudaSuccess) return fail(sticky);
  for (auto failure = failures_.begin(); failure != failures_.end(); ++failure) {
    if (failure->call != call || --failure->nth > 0) continue;
    const cudaError_t error = failure->error;
    failures_.erase(failure);
    return fail(error);
  }
  return cudaSuccess;
}

cudaError_t Runtime::fail(cudaError_t error) {
  if (error != cudaSuccess) last_error() = error;
  return error;
}

std::shared_ptr<Stream> Runtime::stream(cudaStream_t handle) {
  if (handle == nullptr || handle == cudaStreamLegacy) return legacy_;
  if (handle == cudaStreamPerThread) {
    std::shared_ptr<Stream>& found = per_thread_[std::this_thread::get_id()];
    if (!found) {
      found = std::make_shared<Stream>();
      found->blocking = true;
    }
    return found;
  }
  return streams.find(handle);
}

void Runtime::order_legacy(Stream& stream, std::vector<Queued>& after) {
  if (&stream == legacy_.get()) {
    const auto join = [&](const Stream& other) {
      if (other.blocking && other.last) after.push_back(other.last);
    };
    streams.each(join);
    for (const auto& [thread, other] : per_thread_) join(*other);
  } else if (stream.blocking && legacy_->last) {
    after.push_back(legacy_->last);
  }
}

Queued Runtime::queue(Stream& stream, Kind kind, std::string name, std::function<void()> work,
                      std::vector<Queued> after) {
  if (stream.last) after.push_back(stream.last);
  order_legacy(stream, after);
  auto operation =
      std::make_shared<Operation>(Operation{kind, std::move(name), std::move(work), std::move(after), false});
  stream.last = operation;
  pending_.push_back(operation);
  if (settings.schedule == Schedule::at_once) finish(operation);
  return operation;
}

cudaError_t Runtime::enqueue(cudaStream_t handle, Kind kind, std::string name, std::function<void()> work) {
  const std::shared_ptr<Stream> to = stream(handle);
  if (!to) return cudaErrorInvalidResourceHandle;
  if (to->capture) {
    Capture& capture = *to->capture;
    if (capture.invalidated) return cudaErrorStreamCaptureInvalidated;
    capture.nodes.push_back({kind, std::move(name), std::move(work), to->tail});
    to->tail = {capture.nodes.size() - 1};
    return cudaSuccess;
  }
  if (to == legacy_) {
    // Work of the legacy stream would have to come after the recorded work of every blocking stream.
    bool implicit = false;
    streams.each([&](Stream& other) {
      if (!other.blocking || !other.capture) return;
      invalidate(*other.capture);
      implicit = true;
    });
    if (implicit) return cudaErrorStreamCaptureImplicit;
  }
  queue(*to, kind, std::move(name), std::move(work));
  return cudaSuccess;
}

cudaError_t Runtime::record(Event& event, cudaStream_t handle) {
  const std::shared_ptr<Stream> from = stream(handle);
  if (!from) return cudaErrorInvalidResourceHandle;
  if (from->capture) {
    if (from->capture->invalidated) return cudaErrorStreamCaptureInvalidated;
    event.capture = from->capture;
    event.tail = from->tail;
    event.recorded.reset();
    return cudaSuccess;
  }
  event.capture.reset();
  event.recorded = queue(*from, Kind::marker, "event", {});
  return cudaSuccess;
}

cudaError_t Runtime::wait(cudaStream_t handle, const Event& event) {
  const std::shared_ptr<Stream> to = stream(handle);
  if (!to) return cudaErrorInvalidResourceHandle;
  if (event.capture) {
    if (event.capture->invalidated) return cudaErrorStreamCaptureInvalidated;
    if (to->capture && to->capture != event.capture) {
      invalidate(*to->capture);
      invalidate(*event.capture);
      return cudaErrorStreamCaptureMerge;
    }
    to->capture = event.capture;
    to->tail.insert(to->tail.end(), event.tail.begin(), event.tail.end());
    return cudaSuccess;
  }
  if (to->capture) {
    if (!event.recorded) return cudaSuccess;
    invalidate(*to->capture);
    return cudaErrorStreamCaptureIsolation;
  }
  if (event.recorded) queue(*to, Kind::marker, "wait", {}, {event.recorded});
  return cudaSuccess;
}

cudaError_t Runtime::launch(GraphExec& exec, cudaStream_t handle) {
  const std::shared_ptr<Stream> to = stream(handle);
  if (!to) return cudaErrorInvalidResourceHandle;
  if (to->capture) {  // as a child graph
    Capture& capture = *to->capture;
    if (capture.invalidated) return cudaErrorStreamCaptureInvalidated;
    const std::size_t first = capture.nodes.size();
    for (Node node : exec.nodes) {
      if (node.after.empty()) {
        node.after = to->tail;
      } else {
        for (std::size_t& index : node.after) index += first;
      }
      capture.nodes.push_back(std::move(node));
    }
    to->tail.clear();
    for (std::size_t i = first; i < capture.nodes.size(); ++i) to->tail.push_back(i);
    return cudaSuccess;
  }
  // A graph does not overtake its own launch before.
  std::vector<Queued> roots;
  if (to->last) roots.push_back(to->last);
  if (exec.last) roots.push_back(exec.last);
  order_legacy(*to, roots);
  std::vector<Queued> launched;
  for (const Node& node : exec.nodes) {
    std::vector<Queued> after;
    for (const std::size_t index : node.after) after.push_back(launched[index]);
    if (after.empty()) after = roots;
    launched.push_back(
        std::make_shared<Operation>(Operation{node.kind, node.name, node.work, std::move(after), false}));
    pending_.push_back(launched.back());
  }
  exec.last = queue(*to, Kind::marker, "graph", {}, std::move(launched));
  return cudaSuccess;
}

namespace {

bool is_ready(const Operation& operation) {
  return std::all_of(operation.after.begin(), operation.after.end(),
                     [](const Queued& before) { return before->done; });
}

// The operation and all that it waits for, not done.
void collect(const Queued& target, std::set<const Operation*>& found) {
  std::vector<const Operation*> open{target.get()};
  while (!open.empty()) {
    const Operation* next = open.back();
    open.pop_back();
    if (next->done || !found.insert(next).second) continue;
    for (const Queued& before : next->after) open.push_back(before.get());
  }
}

}  // namespace

int Runtime::rank(const Operation& operation) const {
  switch (settings.schedule) {
    case Schedule::uploads_last:
      return operation.kind == Kind::upload ? 1 : 0;
    case Schedule::downloads_last:
      return operation.kind == Kind::download ? 1 : 0;
    case Schedule::compute_first:
      return operation.kind == Kind::upload || operation.kind == Kind::download ? 1 : 0;
    default:
      return 0;
  }
}

Queued Runtime::choose(const Queued& target) {
  std::vector<Queued> ready;
  std::set<const Operation*> needed;
  if (settings.schedule == Schedule::lazy) collect(target, needed);
  for (const Queued& operation : pending_) {
    if (!needed.empty() && needed.count(operation.get()) == 0) continue;
    if (is_ready(*operation)) ready.push_back(operation);
  }
  int least = rank(*ready.front());
  for (const Queued& operation : ready) least = std::min(least, rank(*operation));
  std::vector<Queued> best;
  for (const Queued& operation : ready) {
    if (rank(*operation) == least) best.push_back(operation);
  }
  switch (settings.schedule) {
    case Schedule::newest:
      return best.back();
    case Schedule::random:
    case Schedule::uploads_last:
    case Schedule::downloads_last:
    case Schedule::compute_first:
      return best[random_() % best.size()];
    default:
      return best.front();
  }
}

void Runtime::execute(const Queued& operation) {
  pending_.erase(std::find(pending_.begin(), pending_.end(), operation));
  if (operation->work && sticky == cudaSuccess) {
    ++executed[operation->name];
    trace.push_back(operation->name);
    if (trace.size() > 256) trace.pop_front();
    const Memory::Exposed exposed(Memory::get());
    if (operation->kind == Kind::kernel) {
      const Traffic::Kernel counted(operation->name);
      operation->work();
    } else {
      operation->work();
    }
  }
  operation->done = true;
  operation->after.clear();
  operation->work = nullptr;
}

void Runtime::finish(const Queued& operation) {
  while (operation && !operation->done) execute(choose(operation));
}

void Runtime::finish_all() {
  while (!pending_.empty()) execute(choose(pending_.back()));
}

void Runtime::progress() {
  if (random_() % 4 != 0) return;
  for (std::uint64_t count = random_() % 4; count > 0 && !pending_.empty(); --count) {
    execute(choose(pending_.back()));
  }
}

}  // namespace emulated_cuda
