// The Python surface of the core, nothing else.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

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

void end_all() {
  const std::vector<Stream*> streams(alive().begin(), alive().end());
  py::gil_scoped_release unlocked;
  for (Stream* stream : streams) stream->abort();
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

void check_frame(const py::array& frame, py::ssize_t height, py::ssize_t width, const char* name) {
  if (!frame.dtype().is(py::dtype::of<std::uint8_t>()) || frame.ndim() != 3 || frame.shape(0) != height ||
      frame.shape(1) != width || frame.shape(2) != 3) {
    throw std::invalid_argument(std::string(name) + " is " + describe(frame) + "; expected uint8 of shape " +
                                std::to_string(height) + "x" + std::to_string(width) + "x3");
  }
}

struct Strides {
  py::ssize_t row, pixel, channel;
  bool packed(py::ssize_t width) const { return channel == 1 && pixel == 3 && row == 3 * width; }
};

void copy_in(const std::uint8_t* from, const Strides& strides, py::ssize_t height, py::ssize_t width,
             std::uint8_t* to) {
  if (strides.packed(width)) {
    std::memcpy(to, from, static_cast<std::size_t>(height * width * 3));
    return;
  }
  for (py::ssize_t y = 0; y < height; ++y) {
    const std::uint8_t* row = from + y * strides.row;
    if (strides.channel == 1 && strides.pixel == 3) {
      std::memcpy(to, row, static_cast<std::size_t>(width * 3));
      to += width * 3;
      continue;
    }
    for (py::ssize_t x = 0; x < width; ++x) {
      for (py::ssize_t c = 0; c < 3; ++c) *to++ = row[x * strides.pixel + c * strides.channel];
    }
  }
}

struct Result {
  py::object frame;
  elir::Outcome outcome;
  int steps;
};

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
           std::size_t depth, elir::Drop drop)
      : steps_(options.steps),
        host_(std::string(device->name()) == "cpu"),
        stream_(std::make_unique<Stream>(
            std::make_unique<elir::Pipeline>(std::move(device), std::move(geometry), std::move(options)),
            depth, drop)) {
    alive().insert(stream_.get());
  }
  PyStream(const PyStream&) = delete;
  PyStream& operator=(const PyStream&) = delete;
  ~PyStream() {
    alive().erase(stream_.get());
    py::gil_scoped_release unlocked;
    stream_->abort();
    stream_.reset();
  }

  Stream& native() { return *stream_; }
  const elir::Geometry& geometry() { return stream_->pipeline().geometry(); }

  py::array buffer(const std::string& name) {
    if (!host_)
      throw std::logic_error("buffer: these tensors are on the GPU: use address, shape and element");
    const elir::Pipeline::Buffer& buffer = stream_->pipeline().buffer(name);
    // The array keeps the memory alive, not the stream: engines hold arrays, and the stream holds engines.
    auto* owner = new elir::Memory(buffer.memory);
    const py::capsule keep(owner, [](void* p) { delete static_cast<elir::Memory*>(p); });
    return py::array_t<float>(buffer.shape, static_cast<const float*>(buffer.memory.get()), keep);
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

  std::optional<std::uint64_t> submit(const py::array& frame, std::optional<double> timestamp,
                                      std::optional<double> timeout) {
    if (!stream_->started()) throw std::logic_error("submit: the stream was not started");
    const py::ssize_t height = geometry().frame_height;
    const py::ssize_t width = geometry().frame_width;
    check_frame(frame, height, width, "frame");
    const auto* from = static_cast<const std::uint8_t*>(frame.data());
    const Strides strides{frame.strides(0), frame.strides(1), frame.strides(2)};
    const Stream::Deadline until = deadline(timeout);
    py::gil_scoped_release unlocked;
    return stream_->submit([&](std::uint8_t* to) { copy_in(from, strides, height, width, to); }, timestamp,
                           until, check_signals);
  }

  Result result(std::optional<double> timeout, const std::optional<py::array>& out) {
    if (!stream_->started()) throw std::logic_error("result: the stream was not started");
    const py::ssize_t height = geometry().scaled_height;
    const py::ssize_t width = geometry().scaled_width;
    py::array frame;
    if (out) {
      check_frame(*out, height, width, "out");
      if (!out->writeable() || (out->flags() & py::array::c_style) == 0) {
        throw std::invalid_argument("out is not a writeable C-contiguous array");
      }
      frame = *out;
    } else {
      frame = py::array_t<std::uint8_t>({height, width, py::ssize_t{3}});
    }
    auto* to = static_cast<std::uint8_t*>(frame.mutable_data());
    const std::size_t bytes = geometry().scaled_bytes();
    const Stream::Deadline until = deadline(timeout);
    elir::Outcome outcome;
    {
      py::gil_scoped_release unlocked;
      outcome = stream_->result(
          [&](const std::uint8_t* from) {
            if (from != nullptr) std::memcpy(to, from, bytes);
          },
          until, check_signals);
    }
    py::object held = outcome.failed ? py::object(py::none()) : py::object(frame);
    return {std::move(held), std::move(outcome), steps_};
  }

  void close() { stream_->close(); }

  void abort() {
    py::gil_scoped_release unlocked;
    stream_->abort();
  }

  py::dict stats() {
    const elir::Counts counts = stream_->counts();
    const Stream::Recent recent = stream_->recent();
    py::dict stages;
    for (std::size_t i = 0; i < elir::kStages; ++i) {
      stages[elir::stage_name(i)] = percentiles(recent.stages[i]);
    }
    return py::dict("submitted"_a = counts.submitted, "completed"_a = counts.completed,
                    "dropped"_a = counts.dropped, "failed"_a = counts.failed, "pending"_a = counts.pending,
                    "latency_ms"_a = percentiles(recent.latency), "stages"_a = stages);
  }

 private:
  void require_not_started(const char* what) const {
    if (stream_->started()) throw std::logic_error(std::string(what) + ": the stream was started before");
  }

  int steps_;
  bool host_;
  std::unique_ptr<Stream> stream_;
};

std::unique_ptr<PyStream> make_stream(
    int frame_height, int frame_width, int engine_height, int engine_width, int scaled_height,
    int scaled_width, double scale_y, double scale_x, const std::string& interpolation,
    const std::vector<std::pair<int, int>>& tiles, int downscale, int latent_channels, float sigma, int steps,
    const py::array_t<float, py::array::c_style | py::array::forcecast>& table, std::uint64_t seed,
    const std::string& noise, std::size_t depth, const std::string& drop, const std::string& order,
    const std::string& element, const std::string& device, int ordinal, bool record) {
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
  options.order = choose<elir::Order>("order", order, {{"rgb", elir::Order::rgb}, {"bgr", elir::Order::bgr}});
  const elir::Drop policy = choose<elir::Drop>(
      "drop", drop,
      {{"block", elir::Drop::block}, {"oldest", elir::Drop::oldest}, {"newest", elir::Drop::newest}});
  return std::make_unique<PyStream>(on_host ? elir::make_host_device() : elir::make_cuda_device(cuda),
                                    std::move(geometry), std::move(options), depth, policy);
}

}  // namespace

PYBIND11_MODULE(_core, module) {
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
                                 stages[elir::stage_name(i)] = result.outcome.stages[i];
                               }
                               return stages;
                             })
      .def_property_readonly("error", [](const Result& result) -> py::object {
        if (!result.outcome.failed) return py::none();
        return py::make_tuple(elir::stage_name(static_cast<std::size_t>(result.outcome.stage)),
                              result.outcome.message);
      });

  py::class_<PyStream>(module, "Stream")
      .def(py::init(&make_stream), py::kw_only(), "frame_height"_a, "frame_width"_a, "engine_height"_a,
           "engine_width"_a, "scaled_height"_a, "scaled_width"_a, "scale_y"_a, "scale_x"_a, "interpolation"_a,
           "tiles"_a, "downscale"_a, "latent_channels"_a, "sigma"_a, "steps"_a, "table"_a, "seed"_a = 0,
           "noise"_a = "fixed", "depth"_a = 3, "drop"_a = "block", "order"_a = "rgb", "element"_a = "float32",
           "device"_a = "cpu", "ordinal"_a = 0, "record"_a = true)
      .def("buffer", &PyStream::buffer, "name"_a)
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
        device->prepare(geometry, elir::Order::rgb);
        py::array_t<float> field({channels, height, width});
        float* data = field.mutable_data();
        py::gil_scoped_release unlocked;
        device->draw_noise(seed, frame, data);
        return field;
      },
      "seed"_a, "channels"_a, "height"_a, "width"_a, "frame"_a = 0);

  py::module_::import("atexit").attr("register")(py::cpp_function(&end_all));
}
