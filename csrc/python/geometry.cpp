#include "geometry.hpp"

#include <string>
#include <utility>
#include <vector>

#include "../geometry.hpp"
#include "convert.hpp"

namespace elir::python {

namespace {

using Size = std::pair<int, int>;  // height, width

constexpr Choices<bool> kInterpolations = {{"bicubic", false}, {"nearest", true}};

elir::Geometry make_geometry(const Size& frame, const Size& engine, const Size& scaled,
                             const std::pair<double, double>& scale, const std::string& interpolation,
                             const std::vector<std::pair<int, int>>& tiles, int downscale,
                             int latent_channels) {
  elir::Geometry geometry{frame.first,
                          frame.second,
                          engine.first,
                          engine.second,
                          scaled.first,
                          scaled.second,
                          scale.first,
                          scale.second,
                          choose<bool>("interpolation", interpolation, kInterpolations),
                          {},
                          downscale,
                          latent_channels};
  for (const auto& [y, x] : tiles) geometry.tiles.push_back({y, x});
  geometry.check();
  return geometry;
}

py::tuple tiles_of(const elir::Geometry& geometry) {
  py::tuple tiles(geometry.tiles.size());
  for (std::size_t i = 0; i < geometry.tiles.size(); ++i) {
    tiles[i] = py::make_tuple(geometry.tiles[i].y, geometry.tiles[i].x);
  }
  return tiles;
}

}  // namespace

void bind_geometry(py::module_& module) {
  py::class_<elir::Geometry>(
      module, "Geometry",
      R"(How frames of one size lie on the engines. Sizes are (height, width) in pixels.

Frames are scaled first, then covered by one or more tiles of the engine's size; what a tile has beyond
the frame comes from reflection, and is cropped from the output. It cannot be changed.)")
      .def(py::init(&make_geometry), py::kw_only(), "frame"_a, "engine"_a, "scaled"_a, "scale"_a,
           "interpolation"_a, "tiles"_a, "downscale"_a, "latent_channels"_a,
           R"(Check a geometry.

Args:
    frame: size of the submitted frames.
    engine: size of what the encoder takes: multiples of downscale.
    scaled: size of the scaled frame, which is that of the restored one.
    scale: scaled / frame, each way (y, x).
    interpolation: "bicubic" (with antialiasing when scaling down) or "nearest".
    tiles: top left corner (y, x) of each tile in the scaled frame, on multiples of downscale; together they
        cover it.
    downscale: pixels for each cell of the latent, each way, 1 to 256.
    latent_channels: channels of the latent, 1 to 4096.

Raises:
    ValueError: names what is wrong, what was found and what is expected.)")
      .def_property_readonly(
          "frame", [](const elir::Geometry& g) { return Size(g.frame_height, g.frame_width); },
          "Size of the submitted frames.")
      .def_property_readonly(
          "engine", [](const elir::Geometry& g) { return Size(g.engine_height, g.engine_width); },
          "Size of what the encoder takes.")
      .def_property_readonly(
          "scaled", [](const elir::Geometry& g) { return Size(g.scaled_height, g.scaled_width); },
          "Size of the scaled frame, which is that of the restored one.")
      .def_property_readonly(
          "scale", [](const elir::Geometry& g) { return std::pair(g.scale_y, g.scale_x); },
          "Scaled / frame, each way (y, x).")
      .def_property_readonly(
          "interpolation", [](const elir::Geometry& g) { return word_of<bool>(g.nearest, kInterpolations); },
          R"("bicubic" or "nearest".)")
      .def_property_readonly("tiles", &tiles_of, "Top left corner (y, x) of each tile in the scaled frame.")
      .def_readonly("downscale", &elir::Geometry::downscale, "Pixels for each cell of the latent, each way.")
      .def_readonly("latent_channels", &elir::Geometry::latent_channels, "Channels of the latent.")
      .def("__repr__", [](const py::object& self) {
        return represent(self, {"frame", "engine", "scaled", "scale", "interpolation", "tiles", "downscale",
                                "latent_channels"});
      });
}

}  // namespace elir::python
