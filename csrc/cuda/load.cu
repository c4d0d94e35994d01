// Stage load: a frame's pixels become planar numbers.
#include "error.hpp"
#include "launches.hpp"
#include "numbers.cuh"

namespace elir::cuda {

namespace {

// Where this frame is, of which `source` knows how it is to be read.
__device__ inline void point_at_frame(const DeviceFrameParams* params, Source& source) {
#pragma unroll
  for (int i = 0; i < kMaxPlanes; ++i) {
    source.data[i] = params->planes[i];
    source.pitch[i] = static_cast<std::ptrdiff_t>(params->pitch[i]);
  }
}

// Pixels side by side from (y, x), `count` of them, at most four: red first, in [0, 1].
template <Layout layout, typename Word>
__device__ inline void fetch_four(const Source& source, int y, int x, int count, float (&found)[3][kWide]) {
  if constexpr (layout == Layout::rgb && sizeof(Word) == 1) {
    const auto* pixels = source.row<Word>(0, y) + std::ptrdiff_t(x) * 3;
    if (count == kWide && reinterpret_cast<std::uintptr_t>(pixels) % 4 == 0) {
      const auto* words = reinterpret_cast<const std::uint32_t*>(pixels);
      const std::uint32_t read[3] = {words[0], words[1], words[2]};
      float bytes[3][kWide];
#pragma unroll
      for (int i = 0; i < kWide; ++i) {
#pragma unroll
        for (int c = 0; c < 3; ++c) {
          const int byte = 3 * i + c;
          bytes[c][i] = from_word(static_cast<std::uint8_t>(read[byte / 4] >> (8 * (byte % 4))));
        }
      }
#pragma unroll
      for (int i = 0; i < kWide; ++i) {
        found[0][i] = source.red == 0 ? bytes[0][i] : bytes[2][i];
        found[1][i] = bytes[1][i];
        found[2][i] = source.red == 0 ? bytes[2][i] : bytes[0][i];
      }
      return;
    }
  }
#pragma unroll
  for (int i = 0; i < kWide; ++i) {
    if (i >= count) break;
    const Rgb<Word> pixel = fetch<layout, Word>(source, y, x + i);
#pragma unroll
    for (int c = 0; c < 3; ++c) found[c][i] = from_word(pixel.v[c]);
  }
}

template <typename T>
__device__ inline void write_planes(const float (&found)[3][kWide], int count, std::ptrdiff_t plane, T* out) {
#pragma unroll
  for (int c = 0; c < 3; ++c) write_row(found[c], count, out + c * plane);
}

// Pixels of a frame that keeps its size, or of which the nearest are taken, to planar numbers in [0, 1]. One
// thread per four pixels of a row. `source` lacks what `params` has.
template <typename T, Layout layout, typename Word>
__global__ void load_frame(const DeviceFrameParams* __restrict__ params, Source source, DeviceTaps rows,
                           DeviceTaps columns, int height, int width, T* __restrict__ image) {
  const int x0 = kWide * static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int y = static_cast<int>(blockIdx.y);
  if (x0 >= width || y >= height) return;
  point_at_frame(params, source);
  const int count = min(kWide, width - x0);
  const int top = rows.first[y];
  int from[kWide];
#pragma unroll
  for (int i = 0; i < kWide; ++i) from[i] = i < count ? columns.first[x0 + i] : 0;
  float found[3][kWide] = {};
  if (count == kWide && from[1] == from[0] + 1 && from[2] == from[0] + 2 && from[3] == from[0] + 3) {
    fetch_four<layout, Word>(source, top, from[0], kWide, found);
  } else {
#pragma unroll
    for (int i = 0; i < kWide; ++i) {
      if (i >= count) break;
      const Rgb<Word> pixel = fetch<layout, Word>(source, top, from[i]);
#pragma unroll
      for (int c = 0; c < 3; ++c) found[c][i] = from_word(pixel.v[c]);
    }
  }
  write_planes(found, count, std::ptrdiff_t(height) * width, image + std::ptrdiff_t(y) * width + x0);
}

// Resampling goes along columns first, then along rows: the sums of the host, in the host's order.
//
// Rows of the frame to those of the tile, as wide as the frame is: planar, in [0, 1] but for overshoot. One
// thread per four pixels of a row.
template <Layout layout, typename Word>
__global__ void mix_rows(const DeviceFrameParams* __restrict__ params, Source source, DeviceTaps rows,
                         int height, int frame_width, float* __restrict__ mixed) {
  const int x0 = kWide * static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int y = static_cast<int>(blockIdx.y);
  if (x0 >= frame_width || y >= height) return;
  point_at_frame(params, source);
  const int count = min(kWide, frame_width - x0);
  const int top = rows.first[y];
  const float* weights = rows.weight + std::ptrdiff_t(y) * rows.count;
  float sum[3][kWide] = {};
  for (int k = 0; k < rows.count; ++k) {
    const float weight = weights[k];
    if (weight == 0.0F) continue;
    float found[3][kWide] = {};
    fetch_four<layout, Word>(source, top + k, x0, count, found);
#pragma unroll
    for (int c = 0; c < 3; ++c) {
#pragma unroll
      for (int i = 0; i < kWide; ++i) sum[c][i] += weight * found[c][i];
    }
  }
  write_planes(sum, count, std::ptrdiff_t(height) * frame_width,
               mixed + std::ptrdiff_t(y) * frame_width + x0);
}

// One thread per four pixels of a row of the tile.
template <typename T>
__global__ void mix_columns(const float* __restrict__ mixed, DeviceTaps columns, int height, int width,
                            int frame_width, T* __restrict__ image) {
  const int x0 = kWide * static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int y = static_cast<int>(blockIdx.y);
  if (x0 >= width || y >= height) return;
  const int count = min(kWide, width - x0);
  const std::ptrdiff_t plane = std::ptrdiff_t(height) * frame_width;
  const float* row = mixed + std::ptrdiff_t(y) * frame_width;
  float sum[3][kWide] = {};
#pragma unroll
  for (int i = 0; i < kWide; ++i) {
    if (i >= count) break;
    const float* weights = columns.weight + std::ptrdiff_t(x0 + i) * columns.count;
    const float* from = row + columns.first[x0 + i];
    for (int j = 0; j < columns.count; ++j) {
#pragma unroll
      for (int c = 0; c < 3; ++c) sum[c][i] += weights[j] * from[c * plane + j];
    }
#pragma unroll
    for (int c = 0; c < 3; ++c) sum[c][i] = clip_unit(sum[c][i]);
  }
  write_planes(sum, count, std::ptrdiff_t(height) * width, image + std::ptrdiff_t(y) * width + x0);
}

template <Layout layout, typename Word>
void launch(cudaStream_t stream, Element element, const DeviceFrameParams* params, const Source& source,
            const LoadView& view, float* mixed, void* image) {
  const dim3 grid = rows_of_four(view.width, view.height);
  forget_errors();
  if (mixed == nullptr) {
    with_type(element, [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      load_frame<T, layout, Word><<<grid, kThreads, 0, stream>>>(
          params, source, view.rows, view.columns, view.height, view.width, static_cast<T*>(image));
    });
    return check_launch("load_frame");
  }
  mix_rows<layout, Word><<<rows_of_four(view.frame_width, view.height), kThreads, 0, stream>>>(
      params, source, view.rows, view.height, view.frame_width, mixed);
  check_launch("mix_rows");
  with_type(element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    mix_columns<<<grid, kThreads, 0, stream>>>(mixed, view.columns, view.height, view.width, view.frame_width,
                                               static_cast<T*>(image));
  });
  check_launch("mix_columns");
}

}  // namespace

void launch_load(cudaStream_t stream, Element element, const DeviceFrameParams* params,
                 const PixelFormat& format, const Source& source, const LoadView& view, float* mixed,
                 void* image) {
  with_storage(format, [&](auto layout, auto* word) {
    launch<decltype(layout)::layout, std::remove_pointer_t<decltype(word)>>(stream, element, params, source,
                                                                            view, mixed, image);
  });
}

}  // namespace elir::cuda
