// What a stream is made of, from Python's words and numbers.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "stream.hpp"

namespace elir::python {

// Throws std::invalid_argument that names the argument, what was found and what is allowed.
std::unique_ptr<PyStream> make_stream(
    int frame_height, int frame_width, int engine_height, int engine_width, int scaled_height,
    int scaled_width, double scale_y, double scale_x, const std::string& interpolation,
    const std::vector<std::pair<int, int>>& tiles, int downscale, int latent_channels, float sigma, int steps,
    const py::array_t<float, py::array::c_style | py::array::forcecast>& table, std::uint64_t seed,
    const std::string& noise, std::size_t depth, const std::string& drop, const std::string& format,
    const std::string& output_format, const std::string& matrix, bool full_range, const std::string& results,
    const std::string& element, const std::string& device, int ordinal, bool record,
    const std::string& frames, std::size_t batch);

}  // namespace elir::python
