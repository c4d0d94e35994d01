// Stage load: a frame's pixels become planar numbers.
#include "error.hpp"
#include "launches.hpp"
#include "numbers.cuh"

namespace elir::cuda {

namespace {

// Pixels of a frame to planar numbers in [0, 1]. One thread per four pixels of a row. `source` lacks what
// `params` has.
template <typename T, Format format>
__global__ void load_frame(const DeviceFrameParams* __restrict__ params, Source source, DeviceTaps rows,
                           DeviceTaps columns, int height, int width, T* __restrict__ image) {
  const int x0 = kWide * static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int y = static_cast<int>(blockIdx.y);
  if (x0 >= width || y >= height) return;
  source.data = params->frame;
  source.pitch = static_cast<std::ptrdiff_t>(params->pitch);
  const int count = min(kWide, width - x0);
  const int top = rows.first[y];
  float found[3][kWide] = {};
  bool swapped = false;  // blue is found first
  if (rows.count == 1 && columns.count == 1) {
    const int first = columns.first[x0];
    const std::uint8_t* pixels = source.data + top * source.pitch + std::ptrdiff_t(first) * 3;
    const bool together =
        format == Format::rgb && count == kWide && columns.first[x0 + kWide - 1] == first + kWide - 1 &&
        columns.first[x0 + 1] == first + 1 && reinterpret_cast<std::uintptr_t>(pixels) % 4 == 0;
    if (together) {
      swapped = source.red != 0;
      const auto* words = reinterpret_cast<const std::uint32_t*>(pixels);
      const std::uint32_t read[3] = {words[0], words[1], words[2]};
#pragma unroll
      for (int i = 0; i < kWide; ++i) {
#pragma unroll
        for (int c = 0; c < 3; ++c) {
          const int byte = 3 * i + c;
          found[c][i] = from_uint8(static_cast<std::uint8_t>(read[byte / 4] >> (8 * (byte % 4))));
        }
      }
    } else {
#pragma unroll
      for (int i = 0; i < kWide; ++i) {
        if (i >= count) break;
        const Rgb pixel = fetch<format>(source, top, columns.first[x0 + i]);
#pragma unroll
        for (int c = 0; c < 3; ++c) found[c][i] = from_uint8(pixel.v[c]);
      }
    }
  } else {
    // Rows first, then columns, skipping weights of zero as the host does: the same sums in the same order.
    const float* down = rows.weight + std::ptrdiff_t(y) * rows.count;
#pragma unroll
    for (int i = 0; i < kWide; ++i) {
      if (i >= count) break;
      const float* along = columns.weight + std::ptrdiff_t(x0 + i) * columns.count;
      const int left = columns.first[x0 + i];
      float sum[3] = {};
      for (int j = 0; j < columns.count; ++j) {
        float mixed[3] = {};
        for (int k = 0; k < rows.count; ++k) {
          if (down[k] == 0.0F) continue;
          const Rgb pixel = fetch<format>(source, top + k, left + j);
#pragma unroll
          for (int c = 0; c < 3; ++c) mixed[c] += down[k] * from_uint8(pixel.v[c]);
        }
#pragma unroll
        for (int c = 0; c < 3; ++c) sum[c] += along[j] * mixed[c];
      }
#pragma unroll
      for (int c = 0; c < 3; ++c) found[c][i] = clip_unit(sum[c]);
    }
  }
  const std::ptrdiff_t plane = std::ptrdiff_t(height) * width;
  T* out = image + std::ptrdiff_t(y) * width + x0;
  write_row(found[0], count, out + (swapped ? 2 * plane : 0));
  write_row(found[1], count, out + plane);
  write_row(found[2], count, out + (swapped ? 0 : 2 * plane));
}

template <Format format>
void launch(cudaStream_t stream, Element element, const DeviceFrameParams* params, const Source& source,
            DeviceTaps rows, DeviceTaps columns, int height, int width, void* image) {
  const dim3 grid = rows_of_four(width, height);
  forget_errors();
  with_type(element, [&](auto* type) {
    auto* to = static_cast<decltype(type)>(image);
    load_frame<std::remove_pointer_t<decltype(type)>, format>
        <<<grid, kThreads, 0, stream>>>(params, source, rows, columns, height, width, to);
  });
  check_launch("load_frame");
}

}  // namespace

void launch_load(cudaStream_t stream, Element element, const DeviceFrameParams* params, Format format,
                 const Source& source, DeviceTaps rows, DeviceTaps columns, int height, int width,
                 void* image) {
  switch (format) {
    case Format::rgb:
      return launch<Format::rgb>(stream, element, params, source, rows, columns, height, width, image);
    case Format::rgba:
      return launch<Format::rgba>(stream, element, params, source, rows, columns, height, width, image);
    case Format::gray:
      return launch<Format::gray>(stream, element, params, source, rows, columns, height, width, image);
    case Format::nv12:
      return launch<Format::nv12>(stream, element, params, source, rows, columns, height, width, image);
  }
}

}  // namespace elir::cuda
