#include "formats.hpp"

#include <stdexcept>

#include "kernels.hpp"

namespace elir {

namespace {

Ycc make_ycc(const Pixels& pixels) {
  // H.273, table 4: the weights of red and blue in luma; equations 20 to 30: how many levels there are.
  const double kr = pixels.bt601 ? 0.299 : 0.2126;
  const double kb = pixels.bt601 ? 0.114 : 0.0722;
  const double kg = 1.0 - kr - kb;
  const double rgb_most = pixels.format.word() == 1 ? 255.0 : 65535.0;
  const double most = (1 << pixels.format.depth) - 1;
  const double unit = 1 << (pixels.format.depth - 8);
  const double luma = rgb_most / (pixels.full_range ? most : 219.0 * unit);
  const double chroma = rgb_most / (pixels.full_range ? most : 224.0 * unit);
  const auto f = [](double value) { return static_cast<float>(value); };
  return {f(pixels.full_range ? 0.0 : 16.0 * unit),
          f(luma),
          f(128.0 * unit),
          f(most),
          f(chroma * 2.0 * (1.0 - kr)),
          f(chroma * 2.0 * (1.0 - kb) * kb / kg),
          f(chroma * 2.0 * (1.0 - kr) * kr / kg),
          f(chroma * 2.0 * (1.0 - kb)),
          f(kr),
          f(kg),
          f(kb),
          f(0.5 / (1.0 - kb) / chroma),
          f(0.5 / (1.0 - kr) / chroma)};
}

}  // namespace

std::size_t Pixels::rows(int plane, int height) const {
  return static_cast<std::size_t>(plane == 0 ? height : height >> format.log2_height);
}

std::size_t Pixels::row_bytes(int plane, int width) const {
  int components = width;
  if (format.channels() > 0) components *= format.channels();
  if (plane > 0) {
    components >>= format.log2_width;
    if (format.layout == Layout::semi_planar) components *= 2;
  }
  return static_cast<std::size_t>(components * format.word());
}

std::size_t Pixels::offset(int plane, int height, int width) const {
  std::size_t before = 0;
  for (int i = 0; i < plane; ++i) before += rows(i, height) * row_bytes(i, width);
  return before;
}

std::size_t Pixels::bytes(int height, int width) const {
  return offset(format.planes(), height, width);
}

Planes Pixels::planes(const std::uint8_t* data, int height, int width) const {
  Planes planes;
  for (int i = 0; i < format.planes(); ++i) {
    const auto at = static_cast<std::size_t>(i);
    planes.data[at] = data + offset(i, height, width);
    planes.pitch[at] = static_cast<std::ptrdiff_t>(row_bytes(i, width));
  }
  return planes;
}

std::vector<std::size_t> Pixels::shape(int height, int width) const {
  const auto columns = static_cast<std::size_t>(width);
  if (format.has_chroma()) {
    return {bytes(height, width) / (columns * static_cast<std::size_t>(format.word())), columns};
  }
  std::vector<std::size_t> sides{static_cast<std::size_t>(height), columns};
  if (format.channels() > 1) sides.push_back(static_cast<std::size_t>(format.channels()));
  return sides;
}

void Pixels::check(const char* name, int height, int width) const {
  if (height % (1 << format.log2_height) == 0 && width % (1 << format.log2_width) == 0) return;
  throw std::invalid_argument(std::string(name) + " is " + format.name + " of " + std::to_string(width) +
                              "x" + std::to_string(height) + "; expected even sides for it");
}

Source make_source(const Pixels& pixels, const Planes& planes) {
  const PixelFormat& format = pixels.format;
  Source source{{},
                {},
                format.blue_first ? 2 : 0,
                format.shift,
                format.log2_height,
                format.log2_width,
                make_ycc(pixels)};
  for (std::size_t i = 0; i < kMaxPlanes; ++i) {
    source.data[i] = planes.data[i];
    source.pitch[i] = planes.pitch[i];
  }
  return source;
}

Target make_target(const Pixels& pixels, std::uint8_t* data, int height, int width) {
  const PixelFormat& format = pixels.format;
  Target target{data,
                {},
                {},
                height,
                width,
                format.blue_first ? 2 : 0,
                format.shift,
                format.log2_height,
                format.log2_width,
                make_ycc(pixels)};
  for (int i = 0; i < format.planes(); ++i) {
    target.offset[i] = static_cast<std::ptrdiff_t>(pixels.offset(i, height, width));
    target.pitch[i] = static_cast<std::ptrdiff_t>(pixels.row_bytes(i, width));
  }
  return target;
}

const PixelFormat& find_format(const char* argument, const std::string& name) {
  std::string names;
  for (const PixelFormat& format : kPixelFormats) {
    if (name == format.name) return format;
    names += (names.empty() ? "" : ", ") + std::string(format.name);
  }
  throw std::invalid_argument(std::string(argument) + " is '" + name + "'; allowed: " + names);
}

}  // namespace elir
