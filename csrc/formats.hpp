// The one table of pixel formats: how the bytes of frames are to be read, for every device and for Python.
//
// A format is a row. Only a layout that is not here yet needs arithmetic of its own, in kernels.hpp.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace elir {

// Where the components of a pixel lie.
enum class Layout {
  rgb,          // three side by side
  rgba,         // four side by side, the last one alpha
  gray,         // one
  semi_planar,  // a plane of luma, and one of Cb and Cr side by side
  planar,       // a plane each of luma, Cb and Cr
};

struct PixelFormat {
  const char* name;  // FFmpeg's
  Layout layout;
  int depth;        // bits of a component
  int shift;        // bits below it in its word
  int log2_height;  // rows of pixels to a row of chroma, and columns: 2 to the power of
  int log2_width;
  bool blue_first;

  // Bytes of the word that holds a component; more than 8 bits have the low byte first.
  constexpr int word() const { return depth > 8 ? 2 : 1; }
  // Components side by side in one array, where that is all of them.
  constexpr int channels() const {
    return layout == Layout::rgb ? 3 : (layout == Layout::rgba ? 4 : (layout == Layout::gray ? 1 : 0));
  }
  constexpr bool has_chroma() const { return channels() == 0; }
  constexpr int planes() const {
    return layout == Layout::planar ? 3 : (layout == Layout::semi_planar ? 2 : 1);
  }
};

constexpr std::array<PixelFormat, 10> kPixelFormats{{
    {"rgb24", Layout::rgb, 8, 0, 0, 0, false},
    {"bgr24", Layout::rgb, 8, 0, 0, 0, true},
    {"rgba", Layout::rgba, 8, 0, 0, 0, false},
    {"bgra", Layout::rgba, 8, 0, 0, 0, true},
    {"gray", Layout::gray, 8, 0, 0, 0, false},
    {"nv12", Layout::semi_planar, 8, 0, 1, 1, false},
    {"yuv420p", Layout::planar, 8, 0, 1, 1, false},
    {"yuv444p", Layout::planar, 8, 0, 0, 0, false},
    {"p010le", Layout::semi_planar, 10, 6, 1, 1, false},
    {"rgb48le", Layout::rgb, 16, 0, 0, 0, false},
}};

constexpr int kMaxPlanes = 3;

// Where the planes of a frame are: rows `pitch` bytes apart.
struct Planes {
  std::array<const std::uint8_t*, kMaxPlanes> data{};
  std::array<std::ptrdiff_t, kMaxPlanes> pitch{};
};

// How a frame's pixels are stored.
struct Pixels {
  PixelFormat format = kPixelFormats.front();
  bool bt601 = false;       // else BT.709; of luma and chroma
  bool full_range = false;  // else 16 to 235 of 255; of luma and chroma

  // Whether a pixel is red, green and blue already, as it is computed with.
  bool is_rgb() const { return format.layout == Layout::rgb; }
  // A plane's rows, bytes in each of them, and bytes before the plane where one follows the other.
  std::size_t rows(int plane, int height) const;
  std::size_t row_bytes(int plane, int width) const;
  std::size_t offset(int plane, int height, int width) const;
  std::size_t bytes(int height, int width) const;
  // Of a frame whose planes follow one another without gaps.
  Planes planes(const std::uint8_t* data, int height, int width) const;
  // Sides of the array that holds a frame: [height, width, channels], or all planes below one another, as
  // wide as the frame.
  std::vector<std::size_t> shape(int height, int width) const;
  // Throws std::invalid_argument if frames of this size cannot be stored so.
  void check(const char* name, int height, int width) const;
};

// Throws std::invalid_argument that names the argument, what was found and the formats there are.
const PixelFormat& find_format(const char* argument, const std::string& name);

// Whether the table has a format of this layout and word; with `log2_height`, one that shares chroma so.
constexpr bool is_in_table(Layout layout, int word, int log2_height = -1) {
  for (const PixelFormat& format : kPixelFormats) {
    if (format.layout == layout && format.word() == word &&
        (log2_height < 0 || format.log2_height == log2_height)) {
      return true;
    }
  }
  return false;
}

template <Layout value>
struct LayoutIs {
  static constexpr Layout layout = value;
};

// Calls `run` with a null pointer to the word that holds a component of a format.
template <typename Run>
void with_word(const PixelFormat& format, Run&& run) {
  if (format.word() == 1) return run(static_cast<std::uint8_t*>(nullptr));
  run(static_cast<std::uint16_t*>(nullptr));
}

// Calls `run` with the layout and a null pointer to the word, both known to the compiler; only what the table
// has is compiled.
template <typename Run>
void with_storage(const PixelFormat& format, Run&& run) {
  with_word(format, [&](auto* word) {
    const auto call = [&](auto layout) {
      if constexpr (is_in_table(decltype(layout)::layout, int(sizeof(*word)))) run(layout, word);
    };
    switch (format.layout) {
      case Layout::rgb:
        return call(LayoutIs<Layout::rgb>{});
      case Layout::rgba:
        return call(LayoutIs<Layout::rgba>{});
      case Layout::gray:
        return call(LayoutIs<Layout::gray>{});
      case Layout::semi_planar:
        return call(LayoutIs<Layout::semi_planar>{});
      case Layout::planar:
        return call(LayoutIs<Layout::planar>{});
    }
  });
}

}  // namespace elir
