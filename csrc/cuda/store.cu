// Stage store: planar numbers become pixels of the restored frame.
#include "error.hpp"
#include "launches.hpp"
#include "numbers.cuh"

namespace elir::cuda {

namespace {

// Planar numbers of a tile to packed pixels, in `packed` or, where that is null, the frame's own memory. One
// thread per four pixels of a row. With `sum`, pixels are added up there instead.
template <typename T, typename Word>
__global__ void store_frame(const DeviceFrameParams* __restrict__ params, const T* __restrict__ decoded,
                            StoreView view, Word* __restrict__ packed, float* __restrict__ sum) {
  const int x0 = kWide * static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int y = static_cast<int>(blockIdx.y);
  if (x0 >= view.width || y >= view.height) return;
  const int count = min(kWide, view.width - x0);
  const std::ptrdiff_t plane = std::ptrdiff_t(view.engine_height) * view.engine_width;
  const T* from = decoded + std::ptrdiff_t(y) * view.engine_width + x0;
  float found[3][kWide];
  read_row(from + (view.blue_first ? 2 * plane : 0), count, found[0]);
  read_row(from + plane, count, found[1]);
  read_row(from + (view.blue_first ? 0 : 2 * plane), count, found[2]);
  bool finite = true;
#pragma unroll
  for (int c = 0; c < 3; ++c) {
#pragma unroll
    for (int i = 0; i < kWide; ++i) finite = finite && is_finite(found[c][i]);
  }
  if (!finite) *static_cast<volatile int*>(params->nonfinite_flag) = 1;
  const std::ptrdiff_t at = (std::ptrdiff_t(view.top + y) * view.frame_width + view.left + x0) * 3;
  if (sum != nullptr) {
    for (int i = 0; i < count; ++i) {
      const float ramp = view.row_ramp[y] * view.column_ramp[x0 + i];
      for (int c = 0; c < 3; ++c) sum[at + 3 * i + c] += ramp * clip_unit(found[c][i]);
    }
    return;
  }
  Word* to = (packed == nullptr ? reinterpret_cast<Word*>(params->restored) : packed) + at;
  if constexpr (sizeof(Word) == 1) {
    if (count == kWide && reinterpret_cast<std::uintptr_t>(to) % 4 == 0) {
      std::uint32_t words[3] = {};
#pragma unroll
      for (int byte = 0; byte < 12; ++byte) {
        words[byte / 4] |= std::uint32_t(to_word<Word>(found[byte % 3][byte / 3])) << (8 * (byte % 4));
      }
      auto* out = reinterpret_cast<std::uint32_t*>(to);
#pragma unroll
      for (int i = 0; i < 3; ++i) out[i] = words[i];
      return;
    }
  }
  for (int i = 0; i < count; ++i) {
    for (int c = 0; c < 3; ++c) to[3 * i + c] = to_word<Word>(found[c][i]);
  }
}

// Overlapping tiles, weighted, one thread per pixel; leaves the sums at zero.
template <typename Word>
__global__ void blend_tiles(const DeviceFrameParams* __restrict__ params,
                            const float* __restrict__ blend_weights, std::int64_t pixels,
                            float* __restrict__ sum, Word* __restrict__ packed) {
  const std::int64_t i = std::int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= pixels) return;
  Word* frame = packed == nullptr ? reinterpret_cast<Word*>(params->restored) : packed;
  for (int c = 0; c < 3; ++c) {
    frame[3 * i + c] = to_word<Word>(sum[3 * i + c] * blend_weights[i]);
    sum[3 * i + c] = 0.0F;
  }
}

// Packed pixels, red first, to how the restored frame is stored; one thread per pixel.
template <Layout layout, typename Word>
__global__ void repack_frame(const DeviceFrameParams* __restrict__ params, const Word* __restrict__ packed,
                             Target target) {
  const int x = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int y = static_cast<int>(blockIdx.y);
  if (x >= target.width || y >= target.height) return;
  target.data = params->restored;
  repack<layout>(packed, y, x, target);
}

}  // namespace

void launch_store(cudaStream_t stream, Element element, const DeviceFrameParams* params,
                  const PixelFormat& format, const void* decoded, const StoreView& view, void* packed,
                  float* sum) {
  const dim3 grid = rows_of_four(view.width, view.height);
  forget_errors();
  with_type(element, [&](auto* type) {
    const auto* from = static_cast<const std::remove_pointer_t<decltype(type)>*>(decoded);
    with_word(format, [&](auto* word) {
      auto* to = static_cast<decltype(word)>(packed);
      store_frame<<<grid, kThreads, 0, stream>>>(params, from, view, to, sum);
    });
  });
  check_launch("store_frame");
}

void launch_blend_tiles(cudaStream_t stream, const DeviceFrameParams* params, const PixelFormat& format,
                        const float* blend_weights, std::int64_t pixels, float* sum, void* packed) {
  forget_errors();
  with_word(format, [&](auto* word) {
    auto* to = static_cast<decltype(word)>(packed);
    blend_tiles<<<blocks(pixels), kThreads, 0, stream>>>(params, blend_weights, pixels, sum, to);
  });
  check_launch("blend_tiles");
}

void launch_repack(cudaStream_t stream, const DeviceFrameParams* params, const PixelFormat& format,
                   const void* packed, const Target& target) {
  const dim3 grid{blocks(target.width), static_cast<unsigned>(target.height)};
  forget_errors();
  with_storage(format, [&](auto layout, auto* word) {
    using Word = std::remove_pointer_t<decltype(word)>;
    constexpr Layout kLayout = decltype(layout)::layout;
    const auto* from = static_cast<const Word*>(packed);
    repack_frame<kLayout, Word><<<grid, kThreads, 0, stream>>>(params, from, target);
  });
  check_launch("repack_frame");
}

}  // namespace elir::cuda
