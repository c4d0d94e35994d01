// Stage store: planar numbers become pixels of the restored frame, as it is stored.
#include "error.hpp"
#include "launches.hpp"
#include "numbers.cuh"

namespace elir::cuda {

namespace {

// Rows of pixels that a thread stores, so that it has all those that share a sample of chroma.
constexpr int kMostRows = 2;

// So many words of an array, at most kMost, as wide as the address allows.
template <typename Word, int kMost>
__device__ inline void write_words(const Word (&from)[kMost], int count, Word* to) {
  if (count == kMost && kMost % kWide == 0 && can_read_four(to)) {
#pragma unroll
    for (int i = 0; i + kWide <= kMost; i += kWide) {
      Four<Word> written;
#pragma unroll
      for (int j = 0; j < kWide; ++j) written.v[j] = from[i + j];
      *reinterpret_cast<Four<Word>*>(to + i) = written;
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kMost; ++i) {
    if (i < count) to[i] = from[i];
  }
}

// Cb and Cr of pixels side by side, kRows by kColumns of which share a sample.
template <Layout layout, typename Word, int kRows, int kColumns>
__device__ inline void write_chroma(const Rgb<Word> (&pixels)[kRows][kWide], int y, int x, int count,
                                    const Target& to) {
  constexpr int kSamples = kWide / kColumns;
  Word both[2 * kSamples], blue[kSamples], red[kSamples];
#pragma unroll
  for (int i = 0; i < kSamples; ++i) {
    int sum[3] = {};
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
#pragma unroll
      for (int column = 0; column < kColumns; ++column) {
#pragma unroll
        for (int c = 0; c < 3; ++c) sum[c] += pixels[row][i * kColumns + column].v[c];
      }
    }
    Word chroma[2];
    chroma_words(sum, kRows * kColumns, to, chroma);
    blue[i] = both[2 * i] = chroma[0];
    red[i] = both[2 * i + 1] = chroma[1];
  }
  const int samples = count / kColumns;
  const int down = y / kRows;
  const std::ptrdiff_t across = x / kColumns;
  if constexpr (layout == Layout::semi_planar) {
    write_words(both, 2 * samples, to.row<Word>(1, down) + 2 * across);
  } else {
    write_words(blue, samples, to.row<Word>(1, down) + across);
    write_words(red, samples, to.row<Word>(2, down) + across);
  }
}

// Pixels side by side, four or fewer, in so many rows: from (y, x) on, of whatever layout.
template <Layout layout, typename Word, int kRows>
__device__ inline void write_pixels(const Rgb<Word> (&pixels)[kRows][kWide], int y, int x, int count,
                                    const Target& to) {
  constexpr int kEach = layout == Layout::rgb ? 3 : (layout == Layout::rgba ? 4 : 1);
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    if (y + row >= to.height) break;
    Word words[kEach * kWide];
#pragma unroll
    for (int i = 0; i < kWide; ++i) {
      const Rgb<Word> pixel = pixels[row][i];
      if constexpr (layout == Layout::rgb || layout == Layout::rgba) {
        words[kEach * i] = to.red == 0 ? pixel.v[0] : pixel.v[2];
        words[kEach * i + 1] = pixel.v[1];
        words[kEach * i + 2] = to.red == 0 ? pixel.v[2] : pixel.v[0];
        if constexpr (layout == Layout::rgba) words[kEach * i + 3] = static_cast<Word>(kLargest<Word>);
      } else if constexpr (layout == Layout::gray) {
        words[i] = gray_of(pixel, to.ycc);
      } else {
        words[i] = luma_word(pixel, to);
      }
    }
    write_words(words, kEach * count, to.row<Word>(0, y + row) + std::ptrdiff_t(kEach) * x);
  }
  if constexpr (layout == Layout::semi_planar || layout == Layout::planar) {
    if (to.log2_width == 1) {
      write_chroma<layout, Word, kRows, 2>(pixels, y, x, count, to);
    } else {
      write_chroma<layout, Word, kRows, 1>(pixels, y, x, count, to);
    }
  }
}

// Planar numbers of a tile that is the whole frame, to its pixels. One thread per four pixels of kRows rows.
template <typename T, Layout layout, typename Word, int kRows>
__global__ void store_frame(const DeviceFrameParams* __restrict__ params, const T* __restrict__ decoded,
                            StoreView view, Target target) {
  const int x0 = kWide * static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int y0 = kRows * static_cast<int>(blockIdx.y);
  if (x0 >= view.width || y0 >= view.height) return;
  target.data = params->restored;
  const int count = min(kWide, view.width - x0);
  const std::ptrdiff_t plane = std::ptrdiff_t(view.engine_height) * view.engine_width;
  Rgb<Word> pixels[kRows][kWide] = {};
  bool finite = true;
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    if (y0 + row >= view.height) break;
    const T* from = decoded + std::ptrdiff_t(y0 + row) * view.engine_width + x0;
#pragma unroll
    for (int c = 0; c < 3; ++c) {
      float found[kWide];
      read_row(from + c * plane, count, found);
#pragma unroll
      for (int i = 0; i < kWide; ++i) {
        finite = finite && is_finite(found[i]);
        pixels[row][i].v[c] = to_word<Word>(found[i]);
      }
    }
  }
  if (!finite) *static_cast<volatile int*>(params->nonfinite_flag) = 1;
  write_pixels<layout, Word, kRows>(pixels, y0, x0, count, target);
}

// Planar numbers of one tile of several, weighted and added up where it lies. One thread per four pixels of a
// row.
template <typename T>
__global__ void add_tile(const DeviceFrameParams* __restrict__ params, const T* __restrict__ decoded,
                         StoreView view, float* __restrict__ sum) {
  const int x0 = kWide * static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int y = static_cast<int>(blockIdx.y);
  if (x0 >= view.width || y >= view.height) return;
  const int count = min(kWide, view.width - x0);
  const std::ptrdiff_t plane = std::ptrdiff_t(view.engine_height) * view.engine_width;
  const std::ptrdiff_t frame_plane = std::ptrdiff_t(view.frame_height) * view.frame_width;
  const std::ptrdiff_t at = std::ptrdiff_t(view.top + y) * view.frame_width + view.left + x0;
  float ramp[kWide];
  read_row(view.column_ramp + x0, count, ramp);
  bool finite = true;
#pragma unroll
  for (int c = 0; c < 3; ++c) {
    float found[kWide], added[kWide];
    read_row(decoded + c * plane + std::ptrdiff_t(y) * view.engine_width + x0, count, found);
    read_row(sum + c * frame_plane + at, count, added);
#pragma unroll
    for (int i = 0; i < kWide; ++i) {
      finite = finite && is_finite(found[i]);
      added[i] += view.row_ramp[y] * ramp[i] * clip_unit(found[i]);
    }
    write_row(added, count, sum + c * frame_plane + at);
  }
  if (!finite) *static_cast<volatile int*>(params->nonfinite_flag) = 1;
}

// The sums of overlapping tiles, weighted, to pixels of the frame; leaves the sums at zero. One thread per
// four pixels of kRows rows.
template <Layout layout, typename Word, int kRows>
__global__ void blend_tiles(const DeviceFrameParams* __restrict__ params,
                            const float* __restrict__ blend_weights, float* __restrict__ sum, Target target) {
  const int x0 = kWide * static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int y0 = kRows * static_cast<int>(blockIdx.y);
  if (x0 >= target.width || y0 >= target.height) return;
  target.data = params->restored;
  const int count = min(kWide, target.width - x0);
  const std::ptrdiff_t plane = std::ptrdiff_t(target.height) * target.width;
  const float zeros[kWide] = {};
  Rgb<Word> pixels[kRows][kWide] = {};
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    if (y0 + row >= target.height) break;
    const std::ptrdiff_t at = std::ptrdiff_t(y0 + row) * target.width + x0;
    float weight[kWide];
    read_row(blend_weights + at, count, weight);
#pragma unroll
    for (int c = 0; c < 3; ++c) {
      float added[kWide];
      read_row(sum + c * plane + at, count, added);
      write_row(zeros, count, sum + c * plane + at);
#pragma unroll
      for (int i = 0; i < kWide; ++i) pixels[row][i].v[c] = to_word<Word>(added[i] * weight[i]);
    }
  }
  write_pixels<layout, Word, kRows>(pixels, y0, x0, count, target);
}

// Calls `run` with the layout, a null pointer to its word, and the number of rows that a thread stores.
template <typename Run>
void with_rows(const PixelFormat& format, Run&& run) {
  with_storage(format, [&](auto layout, auto* word) {
    constexpr Layout kLayout = decltype(layout)::layout;
    constexpr int kWord = sizeof(*word);
    if constexpr (is_in_table(kLayout, kWord, 1)) {
      if (format.log2_height == 1) return run(layout, word, std::integral_constant<int, kMostRows>{});
    }
    if constexpr (is_in_table(kLayout, kWord, 0)) run(layout, word, std::integral_constant<int, 1>{});
  });
}

constexpr bool rows_suffice() {
  for (const PixelFormat& format : kPixelFormats) {
    if (1 << format.log2_height > kMostRows || format.log2_width > 1) return false;
  }
  return true;
}
static_assert(rows_suffice(), "a thread stores all pixels that share a sample of chroma");

}  // namespace

void launch_store(cudaStream_t stream, Element element, const DeviceFrameParams* params,
                  const PixelFormat& format, const void* decoded, const StoreView& view,
                  const Target& target) {
  forget_errors();
  with_type(element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const auto* from = static_cast<const T*>(decoded);
    with_rows(format, [&](auto layout, auto* word, auto rows) {
      using Word = std::remove_pointer_t<decltype(word)>;
      constexpr Layout kLayout = decltype(layout)::layout;
      constexpr int kRows = decltype(rows)::value;
      const dim3 grid = rows_of_four(view.width, (view.height + kRows - 1) / kRows);
      store_frame<T, kLayout, Word, kRows><<<grid, kThreads, 0, stream>>>(params, from, view, target);
    });
  });
  check_launch("store_frame");
}

void launch_add_tile(cudaStream_t stream, Element element, const DeviceFrameParams* params,
                     const void* decoded, const StoreView& view, float* sum) {
  const dim3 grid = rows_of_four(view.width, view.height);
  forget_errors();
  with_type(element, [&](auto* type) {
    const auto* from = static_cast<const std::remove_pointer_t<decltype(type)>*>(decoded);
    add_tile<<<grid, kThreads, 0, stream>>>(params, from, view, sum);
  });
  check_launch("add_tile");
}

void launch_blend_tiles(cudaStream_t stream, const DeviceFrameParams* params, const PixelFormat& format,
                        const float* blend_weights, float* sum, const Target& target) {
  forget_errors();
  with_rows(format, [&](auto layout, auto* word, auto rows) {
    using Word = std::remove_pointer_t<decltype(word)>;
    constexpr Layout kLayout = decltype(layout)::layout;
    constexpr int kRows = decltype(rows)::value;
    const dim3 grid = rows_of_four(target.width, (target.height + kRows - 1) / kRows);
    blend_tiles<kLayout, Word, kRows><<<grid, kThreads, 0, stream>>>(params, blend_weights, sum, target);
  });
  check_launch("blend_tiles");
}

}  // namespace elir::cuda
