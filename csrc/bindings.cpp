// The Python surface of the core, nothing else.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <thread>

#include "dlpack.hpp"
#include "kernels.hpp"
#include "stream.hpp"

namespace py = pybind11;
using namespace py::literals;

namespace {

using elir::Stream;

// A failing interpreter must not meet a worker that calls into it: streams that are alive at exit are ended.
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

// A part as a Python callable; the GIL is held for the call alone.
class PythonPart {
 public:
  explicit PythonPart(py::object callable) : callable_(std::move(callable)) {}
  PythonPart(const PythonPart&) = delete;
  PythonPart& operator=(const PythonPart&) = delete;
  ~PythonPart() {
    py::gil_scoped_acquire locked;
    callable_ = py::object();
  }

  void operator()(std::uintptr_t stream_handle) const {
    py::gil_scoped_acquire locked;
    try {
      callable_(stream_handle);
    } catch (const py::error_already_set& error) {
      // Turned into text here, while the GIL is held.
      throw std::runtime_error(py::str(error.value()).cast<std::string>().empty()
                                   ? py::str(error.type().attr("__name__")).cast<std::string>()
                                   : py::str(error.value()).cast<std::string>());
    }
  }

 private:
  py::object callable_;
};

void check_signals() {
  py::gil_scoped_acquire locked;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

template <typename Value>
Value choose(const char* name, const std::string& found,
             std::initializer_list<std::pair<const char*, Value>> allowed) {
  std::string names;
  for (const auto& [text, value] : allowed) {
    if (found == text) return value;
    names += (names.empty() ? "" : ", ") + std::string(text);
  }
  throw std::invalid_argument(std::string(name) + " is '" + found + "'; allowed: " + names);
}

Stream::Deadline deadline(const std::optional<double>& timeout) {
  if (!timeout) return std::nullopt;
  if (std::isnan(*timeout) || *timeout < 0.0) {
    throw std::invalid_argument("timeout is " + std::to_string(*timeout) + "; expected 0 or more seconds");
  }
  // More than a year is for ever; larger numbers would overflow the clock.
  if (*timeout > 3.2e7) return std::nullopt;
  return Stream::Clock::now() +
         std::chrono::duration_cast<Stream::Clock::duration>(std::chrono::duration<double>(*timeout));
}

std::string describe(const py::array& array) {
  std::string text = py::str(array.dtype()).cast<std::string>() + " of shape ";
  for (py::ssize_t i = 0; i < array.ndim(); ++i) {
    text += (i == 0 ? "" : "x") + std::to_string(array.shape(i));
  }
  return text;
}

// What an array of a frame must be; rows may be apart, pixels must not.
struct FrameShape {
  std::vector<py::ssize_t> sides;

  FrameShape(const elir::Pixels& pixels, int height, int width)
      : sides{static_cast<py::ssize_t>(pixels.rows(height)), width} {
    if (pixels.format == elir::Format::rgb) sides.push_back(3);
    if (pixels.format == elir::Format::rgba) sides.push_back(4);
  }

  py::ssize_t channels() const { return sides.size() == 3 ? sides[2] : 1; }
  py::ssize_t row_bytes() const { return sides[1] * channels(); }

  std::string text() const {
    std::string result;
    for (const py::ssize_t side : sides) result += (result.empty() ? "" : "x") + std::to_string(side);
    return result;
  }
};

void check_frame(const py::array& frame, const FrameShape& expected, const char* name) {
  bool same = frame.dtype().is(py::dtype::of<std::uint8_t>()) &&
              frame.ndim() == static_cast<py::ssize_t>(expected.sides.size());
  for (py::ssize_t i = 0; same && i < frame.ndim(); ++i) {
    same = frame.shape(i) == expected.sides[static_cast<std::size_t>(i)];
  }
  if (!same) {
    throw std::invalid_argument(std::string(name) + " is " + describe(frame) + "; expected uint8 of shape " +
                                expected.text());
  }
}

struct Strides {
  py::ssize_t row, pixel, channel;
};

void copy_in(const std::uint8_t* from, const Strides& strides, const FrameShape& shape, std::uint8_t* to) {
  const py::ssize_t channels = shape.channels();
  const py::ssize_t bytes = shape.row_bytes();
  if (strides.channel == 1 && strides.pixel == channels) {
    if (strides.row == bytes) {
      std::memcpy(to, from, static_cast<std::size_t>(shape.sides[0] * bytes));
      return;
    }
    for (py::ssize_t y = 0; y < shape.sides[0]; ++y, to += bytes) {
      std::memcpy(to, from + y * strides.row, static_cast<std::size_t>(bytes));
    }
    return;
  }
  for (py::ssize_t y = 0; y < shape.sides[0]; ++y) {
    const std::uint8_t* row = from + y * strides.row;
    for (py::ssize_t x = 0; x < shape.sides[1]; ++x) {
      for (py::ssize_t c = 0; c < channels; ++c) *to++ = row[x * strides.pixel + c * strides.channel];
    }
  }
}

// Another library's array on the GPU.
struct External {
  const std::uint8_t* data = nullptr;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;  // bytes; empty: C-contiguous
  bool bytes = false;                 // of uint8
  std::shared_ptr<void> held;

  // Bytes from row to row. Throws std::invalid_argument if this is no frame of such a shape.
  std::size_t pitch(const FrameShape& expected) const {
    std::string found = bytes ? "uint8 of shape " : "not uint8, of shape ";
    bool same = bytes && shape.size() == expected.sides.size();
    for (std::size_t i = 0; i < shape.size(); ++i) {
      found += (i == 0 ? "" : "x") + std::to_string(shape[i]);
      same = same && shape[i] == expected.sides[i];
    }
    if (!same) {
      throw std::invalid_argument("frame is " + found + "; expected uint8 of shape " + expected.text());
    }
    if (strides.empty()) return static_cast<std::size_t>(expected.row_bytes());
    const bool packed = strides[1] == expected.channels() && (shape.size() < 3 || strides[2] == 1) &&
                        strides[0] >= expected.row_bytes();
    if (!packed) {
      throw std::invalid_argument(
          "frame on the GPU has its pixels apart (or its channels, as planes); expected packed pixels, rows "
          "may be apart: make it contiguous");
    }
    return static_cast<std::size_t>(strides[0]);
  }
};

External from_dlpack(const py::object& frame, std::uintptr_t stream) {
  const py::object capsule = frame.attr("__dlpack__")("stream"_a = stream);
  auto* managed =
      static_cast<elir::dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), elir::dlpack::kName));
  if (managed == nullptr) throw py::error_already_set();
  if (PyCapsule_SetName(capsule.ptr(), elir::dlpack::kUsedName) != 0) throw py::error_already_set();
  External found;
  found.held = std::shared_ptr<void>(managed, [](void* p) {
    const py::gil_scoped_acquire locked;
    auto* tensor = static_cast<elir::dlpack::ManagedTensor*>(p);
    if (tensor->deleter != nullptr) tensor->deleter(tensor);
  });
  const elir::dlpack::Tensor& tensor = managed->tensor;
  found.data = static_cast<const std::uint8_t*>(tensor.data) + tensor.byte_offset;
  found.bytes =
      tensor.type.code == elir::dlpack::unsigned_integer && tensor.type.bits == 8 && tensor.type.lanes == 1;
  found.shape.assign(tensor.shape, tensor.shape + tensor.dimensions);
  if (tensor.strides != nullptr) found.strides.assign(tensor.strides, tensor.strides + tensor.dimensions);
  return found;
}

External from_cuda_array(const py::object& frame, elir::Device& device) {
  const py::dict told = frame.attr("__cuda_array_interface__");
  External found;
  const py::tuple data = told["data"];
  found.data = reinterpret_cast<const std::uint8_t*>(data[0].cast<std::uintptr_t>());
  found.shape = told["shape"].cast<std::vector<std::int64_t>>();
  if (told.contains("strides") && !told["strides"].is_none()) {
    found.strides = told["strides"].cast<std::vector<std::int64_t>>();
  }
  const auto type = told["typestr"].cast<std::string>();
  found.bytes = type.size() == 3 && type.substr(1) == "u1";
  // 1 is the default stream: who does not say where the array is made most likely makes it there.
  std::uintptr_t producer = 1;
  if (told.contains("stream") && !told["stream"].is_none()) producer = told["stream"].cast<std::uintptr_t>();
  device.wait_for(producer);
  found.held = std::shared_ptr<void>(new py::object(frame), [](void* p) {
    const py::gil_scoped_acquire locked;
    delete static_cast<py::object*>(p);
  });
  return found;
}

// Memory of a device for other libraries, without a copy: restored frames, and the parts' tensors.
class DeviceArray {
 public:
  DeviceArray(std::shared_ptr<void> memory, std::vector<std::int64_t> shape, elir::dlpack::Type type,
              elir::dlpack::Device device, elir::Device::ResultUsers users)
      : memory_(std::move(memory)),
        shape_(std::move(shape)),
        type_(type),
        device_(device),
        users_(std::move(users)) {}

  py::tuple shape() const { return py::tuple(py::cast(shape_)); }

  std::string type_name() const {
    switch (type_.code) {
      case elir::dlpack::unsigned_integer:
        return "uint8";
      case elir::dlpack::bfloat:
        return "bfloat16";
      default:
        return type_.bits == 16 ? "float16" : "float32";
    }
  }

  py::tuple dlpack_device() const { return py::make_tuple(device_.type, device_.id); }

  // The memory is complete, so that no stream has to wait; the consumer's is kept for when it is given back.
  py::capsule dlpack(const std::optional<std::int64_t>& stream) const {
    if (users_ && stream && *stream > 0) users_(memory_.get(), static_cast<std::uintptr_t>(*stream));
    auto owned = std::make_unique<Export>();
    owned->memory = memory_;
    owned->shape = shape_;
    owned->strides.resize(shape_.size());
    std::int64_t step = 1;
    for (std::size_t i = shape_.size(); i-- > 0; step *= shape_[i]) owned->strides[i] = step;
    owned->managed.tensor = {
        memory_.get(),         device_, static_cast<std::int32_t>(shape_.size()), type_, owned->shape.data(),
        owned->strides.data(), 0};
    owned->managed.context = owned.get();
    owned->managed.deleter = [](elir::dlpack::ManagedTensor* tensor) {
      delete static_cast<Export*>(tensor->context);
    };
    return py::capsule(&owned.release()->managed, elir::dlpack::kName, [](PyObject* capsule) {
      if (PyCapsule_IsValid(capsule, elir::dlpack::kName) == 0) return;  // A consumer has it.
      auto* tensor =
          static_cast<elir::dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule, elir::dlpack::kName));
      tensor->deleter(tensor);
    });
  }

  py::dict cuda_array_interface() const {
    if (device_.type != elir::dlpack::cuda || type_.code == elir::dlpack::bfloat) {
      throw py::attribute_error("this array has no __cuda_array_interface__: it is " + type_name() + " on " +
                                (device_.type == elir::dlpack::cuda ? "a GPU" : "the CPU"));
    }
    const std::string type = type_.code == elir::dlpack::unsigned_integer ? "|u1"
                             : type_.bits == 16                           ? "<f2"
                                                                          : "<f4";
    return py::dict("shape"_a = shape(), "typestr"_a = type,
                    "data"_a = py::make_tuple(reinterpret_cast<std::uintptr_t>(memory_.get()), false),
                    "strides"_a = py::none(), "version"_a = 3);
  }

 private:
  struct Export {
    elir::dlpack::ManagedTensor managed;
    std::shared_ptr<void> memory;
    std::vector<std::int64_t> shape, strides;
  };

  std::shared_ptr<void> memory_;
  std::vector<std::int64_t> shape_;
  elir::dlpack::Type type_;
  elir::dlpack::Device device_;
  elir::Device::ResultUsers users_;
};

struct Result {
  py::object frame;
  elir::Outcome outcome;
  int steps;
  bool host;
};

// The stages that a device times.
bool is_timed(std::size_t stage, bool host) {
  const auto found = static_cast<elir::Stage>(stage);
  if (host) return found != elir::Stage::launch;
  return found == elir::Stage::launch || found == elir::Stage::total;
}

py::dict percentiles(std::vector<float> values) {
  py::dict result;
  if (values.empty()) return result;
  std::sort(values.begin(), values.end());
  for (const auto& [name, share] : {std::pair{"p50", 0.50}, std::pair{"p95", 0.95}, std::pair{"p99", 0.99}}) {
    // Nearest rank.
    const double rank = std::ceil(share * static_cast<double>(values.size()));
    result[name] = values[static_cast<std::size_t>(std::max(rank, 1.0)) - 1];
  }
  return result;
}

// Owns the native stream for Python: keeps the GIL out of joins, and the stream in `alive`.
class PyStream {
 public:
  PyStream(std::unique_ptr<elir::Device> device, elir::Geometry geometry, elir::PipelineOptions options,
           std::size_t depth, elir::Drop drop, int ordinal, bool results_on_device)
      : steps_(options.steps),
        host_(std::string(device->name()) == "cpu"),
        results_on_device_(results_on_device),
        ordinal_(ordinal),
        stream_(std::make_unique<Stream>(
            std::make_unique<elir::Pipeline>(std::move(device), std::move(geometry), std::move(options)),
            depth, drop, results_on_device)) {
    alive().insert(stream_.get());
  }
  PyStream(const PyStream&) = delete;
  PyStream& operator=(const PyStream&) = delete;
  ~PyStream() {
    alive().erase(stream_.get());
    if (getpid() != process_) {
      // Its worker is not in this process, and its locks may be held for ever: the memory is a copy of the
      // parent's, and goes with the process.
      static_cast<void>(stream_.release());
      return;
    }
    if (stream_->is_worker()) {
      enders().emplace_back([stream = std::move(stream_)]() mutable {
        stream->abort();
        stream.reset();
      });
      return;
    }
    py::gil_scoped_release unlocked;
    stream_->abort();
    stream_.reset();
  }

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
    pipeline.device().read(buffer.memory.get(), static_cast<std::size_t>(values.size()), buffer.element,
                           values.mutable_data());
    return values;
  }

  std::uintptr_t address(const std::string& name) {
    return reinterpret_cast<std::uintptr_t>(stream_->pipeline().buffer(name).memory.get());
  }

  std::vector<std::size_t> shape(const std::string& name) { return stream_->pipeline().buffer(name).shape; }

  std::string element(const std::string& name) {
    switch (stream_->pipeline().buffer(name).element) {
      case elir::Element::float16:
        return "float16";
      case elir::Element::bfloat16:
        return "bfloat16";
      default:
        return "float32";
    }
  }

  std::uintptr_t reserve(std::size_t bytes) {
    require_not_started("reserve");
    return reinterpret_cast<std::uintptr_t>(stream_->pipeline().reserve(bytes));
  }

  std::string way() { return stream_->pipeline().way(); }

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

  void start() {
    py::gil_scoped_release unlocked;
    stream_->start();
  }

  std::optional<std::uint64_t> submit(const py::object& frame, std::optional<double> timestamp,
                                      std::optional<double> timeout) {
    require_own_process();
    if (!stream_->started()) throw std::logic_error("submit: the stream was not started");
    const FrameShape shape = frame_shape();
    const Stream::Deadline until = deadline(timeout);
    if (!py::isinstance<py::array>(frame)) return submit_external(frame, shape, timestamp, until);
    const auto array = py::reinterpret_borrow<py::array>(frame);
    check_frame(array, shape, "frame");
    const auto* from = static_cast<const std::uint8_t*>(array.data());
    const Strides strides{array.strides(0), array.strides(1), array.ndim() == 3 ? array.strides(2) : 1};
    py::gil_scoped_release unlocked;
    return stream_->submit([&](std::uint8_t* to, elir::Work&) { copy_in(from, strides, shape, to); },
                           timestamp, until, check_signals);
  }

  std::optional<std::uint64_t> submit_external(const py::object& frame, const FrameShape& shape,
                                               std::optional<double> timestamp,
                                               const Stream::Deadline& until) {
    const std::string type = py::str(py::type::of(frame).attr("__name__"));
    const bool exchange = py::hasattr(frame, "__dlpack__");
    if (host_ || !(exchange || py::hasattr(frame, "__cuda_array_interface__"))) {
      throw std::invalid_argument("frame is a " + type + "; expected a numpy array" +
                                  (host_ ? "" : ", or an array on the GPU"));
    }
    elir::Device& device = stream_->pipeline().device();
    External found = exchange ? from_dlpack(frame, device.hand_over()) : from_cuda_array(frame, device);
    const std::size_t pitch = found.pitch(shape);
    device.check_address(found.data);
    py::gil_scoped_release unlocked;
    return stream_->submit(
        [&](std::uint8_t*, elir::Work& work) {
          work.frame = found.data;
          work.pitch = pitch;
          work.frame_on_device = true;
          work.held = std::move(found.held);
        },
        timestamp, until, check_signals);
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
      frame = py::array_t<std::uint8_t>(shape.sides);
    }
    auto* to = static_cast<std::uint8_t*>(frame.mutable_data());
    const std::size_t bytes = stream_->pipeline().restored_bytes();
    elir::Outcome outcome;
    {
      py::gil_scoped_release unlocked;
      outcome = stream_->result(
          [&](const elir::FrameMemory* from) {
            if (from != nullptr) std::memcpy(to, from->get(), bytes);
          },
          until, check_signals);
    }
    py::object held = outcome.failed ? py::object(py::none()) : py::object(frame);
    return {std::move(held), std::move(outcome), steps_, host_};
  }

  Result result_on_device(const FrameShape& shape, const Stream::Deadline& until) {
    elir::Device& device = stream_->pipeline().device();
    const std::size_t bytes = stream_->pipeline().restored_bytes();
    elir::FrameMemory taken;
    elir::Outcome outcome;
    {
      py::gil_scoped_release unlocked;
      outcome = stream_->result(
          [&](elir::FrameMemory* from) {
            if (from == nullptr) return;
            elir::FrameMemory fresh = device.allocate_result(bytes);
            taken = std::move(*from);
            *from = std::move(fresh);
          },
          until, check_signals);
    }
    py::object held = py::none();
    if (!outcome.failed) {
      held = py::cast(DeviceArray(std::move(taken), {shape.sides.begin(), shape.sides.end()},
                                  {elir::dlpack::unsigned_integer, 8, 1}, place(), device.result_users()));
    }
    return {std::move(held), std::move(outcome), steps_, host_};
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
  void require_own_process() const {
    if (getpid() == process_) return;
    throw std::runtime_error("this stream was opened in process " + std::to_string(process_) +
                             ", and this is " + std::to_string(getpid()) +
                             ", forked from it: threads do not survive a fork; open the bundle again here");
  }

  void require_not_started(const char* what) const {
    if (stream_->started()) throw std::logic_error(std::string(what) + ": the stream was started before");
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

  int steps_;
  bool host_, results_on_device_;
  int ordinal_;
  pid_t process_ = getpid();
  std::unique_ptr<Stream> stream_;
};

// By FFmpeg's names of pixel formats.
elir::Pixels choose_pixels(const char* name, const std::string& found, bool bt601, bool full_range) {
  const auto [format, blue_first] =
      choose<std::pair<elir::Format, bool>>(name, found,
                                            {{"rgb24", {elir::Format::rgb, false}},
                                             {"bgr24", {elir::Format::rgb, true}},
                                             {"rgba", {elir::Format::rgba, false}},
                                             {"bgra", {elir::Format::rgba, true}},
                                             {"gray", {elir::Format::gray, false}},
                                             {"nv12", {elir::Format::nv12, false}}});
  return {format, blue_first, bt601, full_range};
}

std::unique_ptr<PyStream> make_stream(
    int frame_height, int frame_width, int engine_height, int engine_width, int scaled_height,
    int scaled_width, double scale_y, double scale_x, const std::string& interpolation,
    const std::vector<std::pair<int, int>>& tiles, int downscale, int latent_channels, float sigma, int steps,
    const py::array_t<float, py::array::c_style | py::array::forcecast>& table, std::uint64_t seed,
    const std::string& noise, std::size_t depth, const std::string& drop, const std::string& format,
    const std::string& output_format, const std::string& matrix, bool full_range, const std::string& results,
    const std::string& element, const std::string& device, int ordinal, bool record,
    const std::string& frames) {
  elir::Geometry geometry{frame_height,  frame_width,  engine_height, engine_width,
                          scaled_height, scaled_width, scale_y,       scale_x,
                          false,         {},           downscale,     latent_channels};
  geometry.nearest = choose<bool>("interpolation", interpolation, {{"bicubic", false}, {"nearest", true}});
  for (const auto& [y, x] : tiles) geometry.tiles.push_back({y, x});
  elir::CudaOptions cuda;
  cuda.element = choose<elir::Element>("element", element,
                                       {{"float32", elir::Element::float32},
                                        {"float16", elir::Element::float16},
                                        {"bfloat16", elir::Element::bfloat16}});
  cuda.ordinal = ordinal;
  cuda.record = record;
  cuda.slots = depth;
  cuda.frames = choose<elir::CudaOptions::Frames>("frames", frames,
                                                  {{"auto", elir::CudaOptions::Frames::automatic},
                                                   {"copied", elir::CudaOptions::Frames::copied},
                                                   {"mapped", elir::CudaOptions::Frames::mapped}});
  const bool on_host = choose<bool>("device", device, {{"cpu", true}, {"cuda", false}});
  if (on_host && cuda.element != elir::Element::float32) {
    throw std::invalid_argument("element is '" + element + "'; the device cpu allows: float32");
  }
  if (table.ndim() != 2) {
    throw std::invalid_argument("table has " + std::to_string(table.ndim()) + " dimensions; expected 2");
  }
  elir::PipelineOptions options;
  options.sigma = sigma;
  options.steps = steps;
  options.table.assign(table.data(), table.data() + table.size());
  options.condition_width = static_cast<std::size_t>(table.shape(1));
  options.seed = seed;
  options.noise = choose<elir::Noise>(
      "noise", noise,
      {{"fixed", elir::Noise::fixed}, {"per-frame", elir::Noise::per_frame}, {"off", elir::Noise::off}});
  const bool bt601 = choose<bool>("matrix", matrix, {{"bt601", true}, {"bt709", false}});
  options.in = choose_pixels("format", format, bt601, full_range);
  options.out = choose_pixels("output_format", output_format, bt601, full_range);
  const bool on_device = choose<bool>("results", results, {{"host", false}, {"device", true}});
  const elir::Drop policy = choose<elir::Drop>(
      "drop", drop,
      {{"block", elir::Drop::block}, {"oldest", elir::Drop::oldest}, {"newest", elir::Drop::newest}});
  return std::make_unique<PyStream>(on_host ? elir::make_host_device() : elir::make_cuda_device(cuda),
                                    std::move(geometry), std::move(options), depth, policy, ordinal,
                                    on_device);
}

}  // namespace

PYBIND11_MODULE(_core, module) {
  owner_process() = getpid();
  module.doc() = "The C++ core: frame slots, the stages of a frame, and their order.";

  const py::object closed = py::exception<elir::Closed>(module, "Closed");
  static py::object closed_type = closed;
  py::register_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const elir::Closed& error) {
      py::set_error(closed_type, error.what());
    } catch (const elir::TimedOut& error) {
      py::set_error(PyExc_TimeoutError, error.what());
    }
  });

  py::class_<Result>(module, "Result")
      .def_property_readonly("frame", [](const Result& result) { return result.frame; })
      .def_property_readonly("index", [](const Result& result) { return result.outcome.index; })
      .def_property_readonly("timestamp", [](const Result& result) { return result.outcome.timestamp; })
      .def_property_readonly("steps", [](const Result& result) { return result.steps; })
      .def_property_readonly("latency_ms", [](const Result& result) { return result.outcome.latency_ms; })
      .def_property_readonly("stages",
                             [](const Result& result) {
                               py::dict stages;
                               for (std::size_t i = 0; i < elir::kStages; ++i) {
                                 if (!is_timed(i, result.host)) continue;
                                 stages[elir::stage_name(i)] = result.outcome.stages[i];
                               }
                               return stages;
                             })
      .def_property_readonly("error", [](const Result& result) -> py::object {
        if (!result.outcome.failed) return py::none();
        return py::make_tuple(elir::stage_name(static_cast<std::size_t>(result.outcome.stage)),
                              result.outcome.message);
      });

  py::class_<DeviceArray>(module, "DeviceArray")
      .def_property_readonly("shape", &DeviceArray::shape)
      .def_property_readonly("dtype", &DeviceArray::type_name)
      .def_property_readonly("__cuda_array_interface__", &DeviceArray::cuda_array_interface)
      .def("__dlpack_device__", &DeviceArray::dlpack_device)
      .def(
          "__dlpack__",
          [](const DeviceArray& array, const std::optional<std::int64_t>& stream, const py::kwargs&) {
            return array.dlpack(stream);
          },
          "stream"_a = py::none());

  py::class_<PyStream>(module, "Stream")
      .def(py::init(&make_stream), py::kw_only(), "frame_height"_a, "frame_width"_a, "engine_height"_a,
           "engine_width"_a, "scaled_height"_a, "scaled_width"_a, "scale_y"_a, "scale_x"_a, "interpolation"_a,
           "tiles"_a, "downscale"_a, "latent_channels"_a, "sigma"_a, "steps"_a, "table"_a, "seed"_a = 0,
           "noise"_a = "fixed", "depth"_a = 3, "drop"_a = "block", "format"_a = "rgb24",
           "output_format"_a = "rgb24", "matrix"_a = "bt709", "full_range"_a = false, "results"_a = "host",
           "element"_a = "float32", "device"_a = "cpu", "ordinal"_a = 0, "record"_a = true,
           "frames"_a = "auto")
      .def("buffer", &PyStream::buffer, "name"_a)
      .def("view", &PyStream::view, "name"_a)
      .def("read", &PyStream::read, "name"_a)
      .def("address", &PyStream::address, "name"_a)
      .def("shape", &PyStream::shape, "name"_a)
      .def("element", &PyStream::element, "name"_a)
      .def("reserve", &PyStream::reserve, "bytes"_a)
      .def_property_readonly("way", &PyStream::way)
      .def("set_part", &PyStream::set_part, "part"_a, "callable"_a)
      .def("set_noise", &PyStream::set_noise, "field"_a)
      .def("start", &PyStream::start)
      .def("submit", &PyStream::submit, "frame"_a, "timestamp"_a = py::none(), "timeout"_a = py::none())
      .def("result", &PyStream::result, "timeout"_a = py::none(), "out"_a = py::none())
      .def("close", &PyStream::close)
      .def("abort", &PyStream::abort)
      .def("stats", &PyStream::stats);

  module.def("devices", [] {
    std::vector<std::string> devices{"cpu"};
    if (elir::cuda_problem().empty()) devices.push_back("cuda");
    return devices;
  });
  module.attr("MAX_DEPTH") = elir::kMaxDepth;
  module.def("compiled_devices", [] {
    std::vector<std::string> devices{"cpu"};
    if (elir::has_cuda()) devices.push_back("cuda");
    return devices;
  });
  module.def("cuda_problem", &elir::cuda_problem);
  module.def(
      "philox",
      [](const std::array<std::uint32_t, 4>& counter, const std::array<std::uint32_t, 2>& key) {
        const elir::Words words =
            elir::philox({{counter[0], counter[1], counter[2], counter[3]}}, key[0], key[1]);
        return std::array<std::uint32_t, 4>{words.v[0], words.v[1], words.v[2], words.v[3]};
      },
      "counter"_a, "key"_a);
  module.def(
      "noise_field",
      [](std::uint64_t seed, int channels, int height, int width, std::uint32_t frame) {
        elir::Geometry geometry{height, width, height, width,    height, width,
                                1.0,    1.0,   false,  {{0, 0}}, 1,      channels};
        geometry.check();
        const std::unique_ptr<elir::Device> device = elir::make_host_device();
        device->prepare(geometry, {}, {});
        py::array_t<float> field({channels, height, width});
        float* data = field.mutable_data();
        py::gil_scoped_release unlocked;
        device->draw_noise(seed, frame, data);
        return field;
      },
      "seed"_a, "channels"_a, "height"_a, "width"_a, "frame"_a = 0);

  py::module_::import("atexit").attr("register")(py::cpp_function(&end_all));
}
