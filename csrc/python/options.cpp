#include "options.hpp"

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <utility>

#include "convert.hpp"

namespace elir::python {

namespace {

constexpr Choices<elir::Noise> kNoises = {
    {"fixed", elir::Noise::fixed}, {"per-frame", elir::Noise::per_frame}, {"off", elir::Noise::off}};
constexpr Choices<elir::Drop> kDrops = {
    {"block", elir::Drop::block}, {"oldest", elir::Drop::oldest}, {"newest", elir::Drop::newest}};
constexpr Choices<elir::Element> kElements = {{"float32", elir::Element::float32},
                                              {"float16", elir::Element::float16},
                                              {"bfloat16", elir::Element::bfloat16}};
constexpr Choices<elir::CudaOptions::Frames> kFrames = {{"auto", elir::CudaOptions::Frames::automatic},
                                                        {"copied", elir::CudaOptions::Frames::copied},
                                                        {"mapped", elir::CudaOptions::Frames::mapped}};
constexpr Choices<bool> kDropLate = {{"pass", false}, {"drop", true}};
constexpr Choices<bool> kTemporal = {{"off", false}, {"auto", true}};
constexpr Choices<bool> kOnHost = {{"cpu", true}, {"cuda", false}};
constexpr Choices<bool> kResultsOnDevice = {{"host", false}, {"device", true}};

using Table = py::array_t<float, py::array::c_style | py::array::forcecast>;

StreamOptions make_options(float sigma, int steps, const Table& table, std::uint64_t seed,
                           const std::string& noise, std::size_t depth, const std::string& drop,
                           const std::string& format, const std::string& output_format,
                           const std::string& matrix, bool full_range, const std::string& results,
                           const std::string& element, const std::string& device, int ordinal, bool record,
                           const std::string& frames, std::size_t batch, bool keep_tiles,
                           std::optional<float> still, const std::string& temporal,
                           std::optional<float> deadline_ms, const std::string& on_late,
                           std::uint64_t frames_before) {
  if (table.ndim() != 2) {
    throw std::invalid_argument("table has " + std::to_string(table.ndim()) + " dimensions; expected 2");
  }
  const bool bt601 = choose<bool>("matrix", matrix, {{"bt601", true}, {"bt709", false}});
  StreamOptions options;
  options.pipeline.sigma = sigma;
  options.pipeline.steps = steps;
  options.pipeline.table.assign(table.data(), table.data() + table.size());
  options.pipeline.condition_width = static_cast<std::size_t>(table.shape(1));
  options.pipeline.batch = batch;
  options.pipeline.keep_tiles = keep_tiles;
  options.pipeline.still = still;
  // Under a deadline frames get different numbers of steps, and what had more is not restored with fewer.
  options.pipeline.still_equal_steps = still == 0.0F && !deadline_ms;
  options.pipeline.average_over_time = choose("temporal", temporal, kTemporal);
  options.pipeline.seed = seed;
  options.pipeline.frames_before = frames_before;
  options.pipeline.noise = choose("noise", noise, kNoises);
  options.pipeline.in = {elir::find_format("format", format), bt601, full_range};
  options.pipeline.out = {elir::find_format("output_format", output_format), bt601, full_range};
  options.cuda.ordinal = ordinal;
  options.cuda.element = choose("element", element, kElements);
  options.cuda.record = record;
  options.cuda.slots = depth;
  options.cuda.frames = choose("frames", frames, kFrames);
  options.on_host = choose("device", device, kOnHost);
  options.results_on_device = choose("results", results, kResultsOnDevice);
  options.depth = depth;
  options.drop = choose("drop", drop, kDrops);
  options.latency = {deadline_ms, choose("on_late", on_late, kDropLate)};
  options.format = format;
  options.output_format = output_format;
  options.matrix = matrix;
  options.full_range = full_range;
  if (options.on_host && options.cuda.element != elir::Element::float32) {
    throw std::invalid_argument("element is '" + element + "'; the device cpu allows: float32");
  }
  options.pipeline.check();
  elir::check_depth(depth);
  options.latency.check();
  return options;
}

py::array_t<float> table_of(const StreamOptions& options) {
  const std::vector<float>& table = options.pipeline.table;
  const std::size_t width = options.pipeline.condition_width;
  return py::array_t<float>({table.size() / width, width}, table.data());
}

constexpr const char* kArguments = R"(Check options, and say what is wrong.

Args:
    sigma: standard deviation of the noise that is added to the coarse latent, 0 or more.
    steps: Euler steps of frames that are submitted without a number of their own, 0 or more.
    table: ``[max_steps * (max_steps + 1) / 2, condition_width]`` float32, of which a copy is kept: rows for
        each number of steps K from 1 on, those of K from row K * (K - 1) / 2 on.
    seed: of the noise, 64 bits.
    noise: "fixed" (one field for all frames), "per-frame", or "off".
    depth: slots of the ring, 1 to MAX_DEPTH.
    drop: what happens to a frame when all slots are taken: "block" waits for one, "oldest" gives up the
        oldest frame that has not begun, "newest" the one at hand.
    format, output_format: pixels of frames and of results: names of ``formats()``.
    matrix: of luma and chroma: "bt601" or "bt709".
    full_range: luma and chroma of the whole range, else from 16 to 235 and 240 of 255.
    results: "host" or "device": who owns the memory of results; the device "cpu" has "host" alone.
    element: type of the parts' tensors, "float32", "float16" or "bfloat16"; the device "cpu" has "float32"
        alone.
    device: "cpu" or "cuda".
    ordinal: number of the CUDA device.
    record: record a frame as a CUDA graph and replay it.
    frames: of the CUDA device: "copied" to and from the GPU, "mapped" to be read and written in place, or
        "auto": mapped where the GPU shares the CPU's memory.
    batch: tiles that the engines take together, 1 to 64: the first side of every tensor but ``condition``.
    keep_tiles: keep what was restored, so that frames may reuse tiles of the last one.
    still: take tiles whose input did not change from their last restoration: None does not, 0 where it is the same to
        the bit, more where no 8x8 block of it differs by more levels of 8 bits in the mean.
    temporal: "off", or "auto": average frames with those before where nothing but noise changes.
    deadline_ms: milliseconds from submit within which a frame is to be done, with fewer steps where there is not
        time for all; None: as long as it takes.
    on_late: what happens to frames that there is no time to restore at all: "pass" hands them on as they came,
        scaled and converted, "drop" gives them up.
    frames_before: frames of the same film that a stream before this one restored: noise of "per-frame" goes on
        behind them.

Raises:
    ValueError: names the argument, what was found and what is allowed.)";

}  // namespace

const char* element_name(elir::Element element) {
  return word_of(element, kElements);
}

std::unique_ptr<Stream> StreamOptions::open(const elir::Geometry& geometry) const {
  std::unique_ptr<elir::Device> opened = on_host ? elir::make_host_device() : elir::make_cuda_device(cuda);
  return std::make_unique<Stream>(std::make_unique<elir::Pipeline>(std::move(opened), geometry, pipeline),
                                  depth, drop, results_on_device, latency);
}

void bind_options(py::module_& module) {
  using Options = StreamOptions;
  py::class_<Options>(module, "StreamOptions",
                      "All of a stream but its geometry; no device is touched. It cannot be changed.")
      .def(py::init(&make_options), py::kw_only(), "sigma"_a, "steps"_a, "table"_a, "seed"_a = 0,
           "noise"_a = "fixed", "depth"_a = 3, "drop"_a = "block", "format"_a = "rgb24",
           "output_format"_a = "rgb24", "matrix"_a = "bt709", "full_range"_a = false, "results"_a = "host",
           "element"_a = "float32", "device"_a = "cpu", "ordinal"_a = 0, "record"_a = true,
           "frames"_a = "auto", "batch"_a = 1, "keep_tiles"_a = false, "still"_a = py::none(),
           "temporal"_a = "off", "deadline_ms"_a = py::none(), "on_late"_a = "pass", "frames_before"_a = 0,
           kArguments)
      .def_property_readonly(
          "sigma", [](const Options& o) { return o.pipeline.sigma; },
          "Standard deviation of the noise, as float32.")
      .def_property_readonly(
          "steps", [](const Options& o) { return o.pipeline.steps; },
          "Euler steps of frames that are submitted without a number of their own.")
      .def_property_readonly("table", &table_of,
                             "A copy of the conditioning table, ``[rows, condition_width]`` float32.")
      .def_property_readonly(
          "seed", [](const Options& o) { return o.pipeline.seed; }, "Of the noise.")
      .def_property_readonly(
          "noise", [](const Options& o) { return word_of(o.pipeline.noise, kNoises); },
          R"("fixed", "per-frame" or "off".)")
      .def_readonly("depth", &Options::depth, "Slots of the ring.")
      .def_property_readonly(
          "drop", [](const Options& o) { return word_of(o.drop, kDrops); },
          R"("block", "oldest" or "newest".)")
      .def_readonly("format", &Options::format, "Pixels of frames.")
      .def_readonly("output_format", &Options::output_format, "Pixels of results.")
      .def_readonly("matrix", &Options::matrix, R"(Of luma and chroma: "bt601" or "bt709".)")
      .def_readonly("full_range", &Options::full_range, "Whether luma and chroma have the whole range.")
      .def_property_readonly(
          "results", [](const Options& o) { return word_of(o.results_on_device, kResultsOnDevice); },
          R"("host" or "device": who owns the memory of results.)")
      .def_property_readonly(
          "element", [](const Options& o) { return element_name(o.cuda.element); },
          R"(Type of the parts' tensors: "float32", "float16" or "bfloat16".)")
      .def_property_readonly(
          "device", [](const Options& o) { return word_of(o.on_host, kOnHost); }, R"("cpu" or "cuda".)")
      .def_property_readonly(
          "ordinal", [](const Options& o) { return o.cuda.ordinal; }, "Number of the CUDA device.")
      .def_property_readonly(
          "record", [](const Options& o) { return o.cuda.record; },
          "Whether a frame is recorded as a CUDA graph.")
      .def_property_readonly(
          "frames", [](const Options& o) { return word_of(o.cuda.frames, kFrames); },
          R"("copied", "mapped" or "auto".)")
      .def_property_readonly(
          "batch", [](const Options& o) { return o.pipeline.batch; }, "Tiles that the engines take together.")
      .def_property_readonly(
          "keep_tiles", [](const Options& o) { return o.pipeline.keep_tiles; },
          "Whether frames may reuse tiles of the last one.")
      .def_property_readonly(
          "still", [](const Options& o) { return o.pipeline.still; },
          "Levels by which the input of a tile that is taken from its last restoration may differ; None: "
          "none is.")
      .def_property_readonly(
          "temporal", [](const Options& o) { return word_of(o.pipeline.average_over_time, kTemporal); },
          R"("off" or "auto": whether frames are averaged with those before.)")
      .def_property_readonly(
          "deadline_ms", [](const Options& o) { return o.latency.deadline_ms; },
          "Milliseconds from submit within which a frame is to be done; None: as long as it takes.")
      .def_property_readonly(
          "on_late", [](const Options& o) { return word_of(o.latency.drop_late, kDropLate); },
          R"("pass" or "drop".)")
      .def_property_readonly(
          "frames_before", [](const Options& o) { return o.pipeline.frames_before; },
          "Frames of the same film that a stream before this one restored.")
      .def("__repr__", [](const py::object& self) {
        return represent(
            self, {"sigma",      "steps",  "table",         "seed",        "noise",      "depth",
                   "drop",       "format", "output_format", "matrix",      "full_range", "results",
                   "element",    "device", "ordinal",       "record",      "frames",     "batch",
                   "keep_tiles", "still",  "temporal",      "deadline_ms", "on_late",    "frames_before"});
      });
}

}  // namespace elir::python
