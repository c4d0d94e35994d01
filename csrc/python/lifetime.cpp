#include "lifetime.hpp"

#include <pybind11/pybind11.h>
#include <unistd.h>

#include <set>
#include <thread>
#include <utility>
#include <vector>

namespace elir::python {

namespace py = pybind11;

namespace {

std::set<Stream*>& alive() {
  static std::set<Stream*> streams;  // guarded by the GIL
  return streams;
}

// Threads that end streams whose last reference went on their own worker: a thread cannot join itself.
std::vector<std::thread>& enders() {
  static std::vector<std::thread> threads;  // guarded by the GIL
  return threads;
}

// The process that imported the module; threads of streams are its own, and a child after fork has none of
// them.
pid_t& owner_process() {
  static pid_t process = 0;
  return process;
}

void end_all() {
  if (getpid() != owner_process()) return;
  const std::vector<Stream*> streams(alive().begin(), alive().end());
  std::vector<std::thread> threads;
  threads.swap(enders());
  py::gil_scoped_release unlocked;
  for (Stream* stream : streams) stream->abort();
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

void watch_exit() {
  owner_process() = getpid();
  py::module_::import("atexit").attr("register")(py::cpp_function(&end_all));
}

void add_alive(Stream* stream) {
  alive().insert(stream);
}

void end(std::unique_ptr<Stream> stream, int opened_in) {
  alive().erase(stream.get());
  if (getpid() != opened_in) {
    // Its worker is not in this process, and its locks may be held for ever: the memory is a copy of the
    // parent's, and goes with the process.
    static_cast<void>(stream.release());
    return;
  }
  if (stream->is_worker()) {
    enders().emplace_back([stream = std::move(stream)]() mutable {
      stream->abort();
      stream.reset();
    });
    return;
  }
  py::gil_scoped_release unlocked;
  stream->abort();
  stream.reset();
}

}  // namespace elir::python
