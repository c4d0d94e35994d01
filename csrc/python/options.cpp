#include "options.hpp"

#include <stdexcept>

namespace elir::python {

std::unique_ptr<PyStream> make_stream(
    int frame_height, int frame_width, int engine_height, int engine_width, int scaled_height,
    int scaled_width, double scale_y, double scale_x, const std::string& interpolation,
    const std::vector<std::pair<int, int>>& tiles, int downscale, int latent_channels, float sigma, int steps,
    const py::array_t<float, py::array::c_style | py::array::forcecast>& table, std::uint64_t seed,
    const std::string& noise, std::size_t depth, const std::string& drop, const std::string& format,
    const std::string& output_format, const std::string& matrix, bool full_range, const std::string& results,
    const std::string& element, const std::string& device, int ordinal, bool record,
    const std::string& frames, std::size_t batch) {
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
  options.batch = batch;
  options.seed = seed;
  options.noise = choose<elir::Noise>(
      "noise", noise,
      {{"fixed", elir::Noise::fixed}, {"per-frame", elir::Noise::per_frame}, {"off", elir::Noise::off}});
  const bool bt601 = choose<bool>("matrix", matrix, {{"bt601", true}, {"bt709", false}});
  options.in = {elir::find_format("format", format), bt601, full_range};
  options.out = {elir::find_format("output_format", output_format), bt601, full_range};
  const bool on_device = choose<bool>("results", results, {{"host", false}, {"device", true}});
  const elir::Drop policy = choose<elir::Drop>(
      "drop", drop,
      {{"block", elir::Drop::block}, {"oldest", elir::Drop::oldest}, {"newest", elir::Drop::newest}});
  return std::make_unique<PyStream>(on_host ? elir::make_host_device() : elir::make_cuda_device(cuda),
                                    std::move(geometry), std::move(options), depth, policy, ordinal,
                                    on_device);
}

}  // namespace elir::python
