#include "formats.hpp"

#include <pybind11/stl.h>

#include <vector>

#include "../formats.hpp"

namespace elir::python {

namespace py = pybind11;

void bind_formats(py::module_& module) {
  using elir::PixelFormat;
  py::class_<PixelFormat>(module, "PixelFormat",
                          "How the bytes of frames are to be read: a row of the table.")
      .def_property_readonly(
          "name", [](const PixelFormat& format) { return format.name; }, "FFmpeg's name.")
      .def_property_readonly(
          "depth", [](const PixelFormat& format) { return format.depth; }, "Bits of a component.")
      .def_property_readonly(
          "shift", [](const PixelFormat& format) { return format.shift; },
          "Bits below a component in its word.")
      .def_property_readonly(
          "dtype", [](const PixelFormat& format) { return format.word() == 1 ? "uint8" : "uint16"; },
          "Type of an array's numbers: \"uint8\" or \"uint16\".")
      .def_property_readonly(
          "channels", [](const PixelFormat& format) { return format.channels(); },
          "Components side by side: 3, 4, or 1; 0 where there are planes of luma and chroma.")
      .def_property_readonly(
          "planes", [](const PixelFormat& format) { return format.planes(); }, "Planes of a frame, 1 to 3.")
      .def_property_readonly(
          "subsampling",
          [](const PixelFormat& format) {
            return py::make_tuple(1 << format.log2_height, 1 << format.log2_width);
          },
          "Rows and columns of pixels that share a sample of chroma; (1, 1) without subsampling.")
      .def("__repr__",
           [](const PixelFormat& format) { return "<PixelFormat " + std::string(format.name) + ">"; });
  module.def(
      "formats", [] { return std::vector<PixelFormat>(kPixelFormats.begin(), kPixelFormats.end()); },
      "The formats of frames and results.");
}

}  // namespace elir::python
