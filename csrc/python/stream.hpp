// A stream as Python sees it.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../stream.hpp"
#include "convert.hpp"
#include "device_array.hpp"
#include "frames.hpp"
#include "lifetime.hpp"
#include "options.hpp"
#include "part.hpp"
#include "result.hpp"

namespace elir::python {

// Owns the native stream for Python: keeps the GIL out of joins.
class PyStream {
 public:
  PyStream(const elir::Geometry& geometry, const StreamOptions& options)
      : host_(options.on_host),
        results_on_device_(options.results_on_device),
        ordinal_(options.cuda.ordinal),
        stream_(open_stream(geometry, options)) {
    add_alive(stream_.get());
  }
  PyStream(const PyStream&) = delete;
  PyStream& operator=(const PyStream&) = delete;
  ~PyStream() { end(std::move(stream_), process_); }

  const elir::Geometry& geometry() { return stream_->pipeline().geometry(); }

  py::array buffer(const std::string& name) {
    if (!host_) throw std::logic_error("buffer: these tensors are on the GPU: use view");
    const elir::Pipeline::Buffer& buffer = stream_->pipeline().buffer(name);
    // The array keeps the memory alive, not the stream: engines hold arrays, and the stream holds engines.
    auto* owner = new elir::Memory(buffer.memory);
    const py::capsule keep(owner, [](void* p) { delete static_cast<elir::Memory*>(p); });
    return py::array_t<float>(buffer.shape, static_cast<const float*>(buffer.memory.get()), keep);
  }

  DeviceArray view(const std::string& name) {
    const elir::Pipeline::Buffer& buffer = stream_->pipeline().buffer(name);
    const bool bfloat = buffer.element == elir::Element::bfloat16;
    return {buffer.memory,
            {buffer.shape.begin(), buffer.shape.end()},
            {bfloat ? elir::dlpack::bfloat : elir::dlpack::floating,
             static_cast<std::uint8_t>(8 * elir::element_size(buffer.element)), 1},
            place(),
            {}};
  }

  py::array_t<float> read(const std::string& name) {
    elir::Pipeline& pipeline = stream_->pipeline();
    const elir::Pipeline::Buffer& buffer = pipeline.buffer(name);
    py::array_t<float> values(buffer.shape);
    const auto count = static_cast<std::size_t>(values.size());
    float* to = values.mutable_data();
    {
      // A GPU finishes the frames in work first.
      py::gil_scoped_release unlocked;
      pipeline.device().read(buffer.memory.get(), count, buffer.element, to);
    }
    return values;
  }

  std::uintptr_t address(const std::string& name) {
    return reinterpret_cast<std::uintptr_t>(stream_->pipeline().buffer(name).memory.get());
  }

  std::vector<std::size_t> shape(const std::string& name) { return stream_->pipeline().buffer(name).shape; }

  std::string element(const std::string& name) {
    return element_name(stream_->pipeline().buffer(name).element);
  }

  std::uintptr_t reserve(std::size_t bytes) {
    require_not_started("reserve");
    return reinterpret_cast<std::uintptr_t>(stream_->pipeline().reserve(bytes));
  }

  std::string execution_mode() { return stream_->pipeline().execution_mode(); }

  void set_part(const std::string& part, py::object callable) {
    require_not_started("set_part");
    if (PyCallable_Check(callable.ptr()) == 0) {
      throw std::invalid_argument("part " + part + ": expected a callable");
    }
    auto held = std::make_shared<PythonPart>(std::move(callable));
    stream_->pipeline().set_part(part, [held](std::uintptr_t handle) { (*held)(handle); });
  }

  void set_noise(const py::array_t<float, py::array::c_style | py::array::forcecast>& field) {
    require_not_started("set_noise");
    stream_->pipeline().set_noise(field.data(), static_cast<std::size_t>(field.size()));
  }

  py::array_t<float> temporal_state() {
    require_own_process();
    const elir::Pipeline& pipeline = stream_->pipeline();
    if (stream_->counts().pending > 0) {
      throw std::logic_error("temporal_state: frames are in work; collect their results first");
    }
    py::array_t<float> state(pipeline.temporal_shape());
    float* to = state.mutable_data();
    py::gil_scoped_release unlocked;
    pipeline.read_temporal(to);
    return state;
  }

  void set_temporal_state(const py::array_t<float, py::array::c_style | py::array::forcecast>& state) {
    require_not_started("set_temporal_state");
    const std::vector<std::size_t> shape(state.shape(), state.shape() + state.ndim());
    stream_->pipeline().set_temporal(state.data(), shape);
  }

  void start() {
    py::gil_scoped_release unlocked;
    stream_->start();
  }

  std::optional<std::uint64_t> submit(const py::object& frame, std::optional<double> timestamp,
                                      std::optional<int> steps, std::optional<double> timeout,
                                      std::vector<std::size_t> reuse) {
    require_own_process();
    if (!stream_->started()) throw std::logic_error("submit: the stream was not started");
    const FrameShape shape = frame_shape();
    const Stream::Deadline until = deadline(timeout);
    const elir::Submission submission{timestamp, steps, std::move(reuse)};
    if (!py::isinstance<py::array>(frame)) return submit_external(frame, shape, submission, until);
    const auto array = py::reinterpret_borrow<py::array>(frame);
    check_frame(array, shape, "frame");
    const auto* from = static_cast<const std::uint8_t*>(array.data());
    const Strides strides{array.strides(0), array.strides(1), array.ndim() == 3 ? array.strides(2) : 0};
    py::gil_scoped_release unlocked;
    return stream_->submit([&](std::uint8_t* to, elir::FrameJob&) { copy_in(from, strides, shape, to); },
                           submission, until, check_signals);
  }

  std::optional<std::uint64_t> submit_external(const py::object& frame, const FrameShape& shape,
                                               const elir::Submission& submission,
                                               const Stream::Deadline& until) {
    const std::string type = py::str(py::type::of(frame).attr("__name__"));
    const bool exchange = py::hasattr(frame, "__dlpack__");
    if (host_ || !(exchange || py::hasattr(frame, "__cuda_array_interface__"))) {
      throw std::invalid_argument("frame is a " + type + "; expected a numpy array" +
                                  (host_ ? "" : ", or an array on the GPU"));
    }
    elir::Device& device = stream_->pipeline().device();
    ExternalArray found =
        exchange ? from_dlpack(frame, device.input_stream()) : from_cuda_array(frame, device);
    const std::ptrdiff_t pitch = found.pitch(shape);
    device.check_address(found.data);
    py::gil_scoped_release unlocked;
    return stream_->submit(
        [&](std::uint8_t*, elir::FrameJob& job) {
          job.params.place.frame = planes_of(found.data, pitch);
          job.params.place.frame_on_device = true;
          job.owner = std::move(found.owner);
        },
        submission, until, check_signals);
  }

  // A frame as the addresses and pitches of its planes, in memory of this stream's device.
  std::optional<std::uint64_t> submit_planes(
      const std::vector<std::pair<std::uintptr_t, std::ptrdiff_t>>& planes, py::object owner,
      std::optional<std::uintptr_t> producer, std::optional<double> timestamp, std::optional<int> steps,
      std::optional<double> timeout, std::vector<std::size_t> reuse) {
    require_own_process();
    if (!stream_->started()) throw std::logic_error("submit_planes: the stream was not started");
    elir::Device& device = stream_->pipeline().device();
    const elir::Pixels& in = stream_->pipeline().in();
    const elir::Planes found = checked_planes(planes, in, geometry().frame_width);
    const Stream::Deadline until = deadline(timeout);
    const elir::Submission submission{timestamp, steps, std::move(reuse)};
    if (host_) {
      const int height = geometry().frame_height;
      const int width = geometry().frame_width;
      py::gil_scoped_release unlocked;
      return stream_->submit(
          [&](std::uint8_t* to, elir::FrameJob&) {
            for (int i = 0; i < in.format.planes(); ++i) {
              const auto at = static_cast<std::size_t>(i);
              copy_rows(found.data[at], found.pitch[at], static_cast<std::ptrdiff_t>(in.rows(i, height)),
                        static_cast<std::ptrdiff_t>(in.row_bytes(i, width)),
                        to + in.offset(i, height, width));
            }
          },
          submission, until, check_signals);
    }
    for (int i = 0; i < in.format.planes(); ++i)
      device.check_address(found.data[static_cast<std::size_t>(i)]);
    if (producer) device.wait_on_producer(*producer);
    std::shared_ptr<void> kept = keep_object(std::move(owner));
    py::gil_scoped_release unlocked;
    return stream_->submit(
        [&](std::uint8_t*, elir::FrameJob& job) {
          job.params.place.frame = found;
          job.params.place.frame_on_device = true;
          job.owner = std::move(kept);
        },
        submission, until, check_signals);
  }

  Result result(std::optional<double> timeout, const std::optional<py::array>& out) {
    require_own_process();
    if (!stream_->started()) throw std::logic_error("result: the stream was not started");
    const FrameShape shape = restored_shape();
    const Stream::Deadline until = deadline(timeout);
    if (results_on_device_) return result_on_device(shape, until);
    py::array frame;
    if (out) {
      check_frame(*out, shape, "out");
      if (!out->writeable() || (out->flags() & py::array::c_style) == 0) {
        throw std::invalid_argument("out is not a writeable C-contiguous array");
      }
      frame = *out;
    } else {
      frame = shape.word == 1 ? py::array(py::array_t<std::uint8_t>(shape.sides))
                              : py::array(py::array_t<std::uint16_t>(shape.sides));
    }
    auto* to = static_cast<std::uint8_t*>(frame.mutable_data());
    const std::size_t bytes = stream_->pipeline().restored_bytes();
    elir::FrameResult told;
    {
      py::gil_scoped_release unlocked;
      told = stream_->result(
          [&](const elir::FrameMemory* from) {
            if (from != nullptr) std::memcpy(to, from->get(), bytes);
          },
          until, check_signals);
    }
    py::object held = told.failed ? py::object(py::none()) : py::object(frame);
    return {std::move(held), std::move(told), host_};
  }

  Result result_on_device(const FrameShape& shape, const Stream::Deadline& until) {
    elir::Device& device = stream_->pipeline().device();
    const std::size_t bytes = stream_->pipeline().restored_bytes();
    elir::FrameMemory taken;
    elir::FrameResult told;
    {
      py::gil_scoped_release unlocked;
      told = stream_->result(
          [&](elir::FrameMemory* from) {
            if (from == nullptr) return;
            elir::FrameMemory fresh = device.allocate_result(bytes);
            taken = std::move(*from);
            *from = std::move(fresh);
          },
          until, check_signals);
    }
    py::object held = py::none();
    if (!told.failed) {
      held =
          py::cast(DeviceArray(std::move(taken), {shape.sides.begin(), shape.sides.end()},
                               {elir::dlpack::unsigned_integer, static_cast<std::uint8_t>(8 * shape.word), 1},
                               place(), device.result_users()));
    }
    return {std::move(held), std::move(told), host_};
  }

  void close() {
    require_own_process();
    stream_->close();
  }

  void abort() {
    require_own_process();
    py::gil_scoped_release unlocked;
    stream_->abort();
  }

  py::dict stats() {
    require_own_process();
    const elir::Counts counts = stream_->counts();
    const Stream::Recent recent = stream_->recent();
    py::dict stages;
    for (std::size_t i = 0; i < elir::kStages; ++i) {
      if (!is_timed(i, host_)) continue;
      stages[elir::stage_name(i)] = percentiles(recent.stages[i]);
    }
    return py::dict("submitted"_a = counts.submitted, "completed"_a = counts.completed,
                    "dropped"_a = counts.dropped, "failed"_a = counts.failed, "pending"_a = counts.pending,
                    "latency_ms"_a = percentiles(recent.latency), "stages"_a = stages);
  }

 private:
  // Allocates and checks for as long as it takes; no object of Python's is touched.
  static std::unique_ptr<Stream> open_stream(const elir::Geometry& geometry, const StreamOptions& options) {
    py::gil_scoped_release unlocked;
    return options.open(geometry);
  }

  void require_own_process() const {
    if (getpid() == process_) return;
    throw std::runtime_error("this stream was opened in process " + std::to_string(process_) +
                             ", and this is " + std::to_string(getpid()) +
                             ", forked from it: threads do not survive a fork; open the bundle again here");
  }

  void require_not_started(const char* what) const {
    if (stream_->started()) throw std::logic_error(std::string(what) + ": the stream was started before");
  }

  // Planes of a frame in one array, of which all rows are `pitch` bytes apart.
  elir::Planes planes_of(const std::uint8_t* data, std::ptrdiff_t pitch) {
    const elir::Pixels& in = stream_->pipeline().in();
    elir::Planes planes = in.planes(data, geometry().frame_height, geometry().frame_width);
    if (in.format.layout == elir::Layout::planar) return planes;
    planes.pitch.fill(pitch);
    if (in.format.planes() == 2) planes.data[1] = data + geometry().frame_height * pitch;
    return planes;
  }

  FrameShape frame_shape() {
    return {stream_->pipeline().in(), geometry().frame_height, geometry().frame_width};
  }
  FrameShape restored_shape() {
    return {stream_->pipeline().out(), geometry().scaled_height, geometry().scaled_width};
  }

  elir::dlpack::Device place() const {
    return {host_ ? elir::dlpack::cpu : elir::dlpack::cuda, host_ ? 0 : ordinal_};
  }

  bool host_, results_on_device_;
  int ordinal_;
  pid_t process_ = getpid();
  std::unique_ptr<Stream> stream_;
};

void bind_stream(py::module_& module);

}  // namespace elir::python
