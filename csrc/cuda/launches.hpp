// The stages as launches of kernels on a stream; what each computes is in load.cu, latent.cu and store.cu.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "../device.hpp"
#include "../kernels.hpp"
#include "../temporal.hpp"

namespace elir::cuda {

// What changes from frame to frame; a recording reads it from memory of the device.
struct DeviceFrameParams {
  const std::uint8_t* planes[kMaxPlanes];
  std::int64_t pitch[kMaxPlanes];
  std::uint8_t* restored;
  std::uint32_t number;  // of the frame, for its noise
  int* nonfinite_flag;   // becomes 1 where a value of the output is not finite; memory of the CPU
};

// Taps of one axis, in memory of the device; see Taps in geometry.hpp.
struct DeviceTaps {
  const int* first;
  const float* weight;
  int count;
};

// A tile of what the encoder takes, and where its pixels come from.
struct LoadView {
  DeviceTaps rows, columns;
  int height, width;  // of the tile
  int frame_width;
};

// Pixels of the frame to planar numbers in [0, 1]. `source` lacks what `params` has. With taps of more than
// one pixel, `mixed` has room for 3 * height * frame_width numbers; else it is null.
void launch_load(cudaStream_t stream, Element element, const DeviceFrameParams* params,
                 const PixelFormat& format, const Source& source, const LoadView& view, float* mixed,
                 void* image);

// `params` null: noise that stays.
void launch_draw_noise(cudaStream_t stream, std::uint64_t seed, const DeviceFrameParams* params, int channels,
                       int height, int width, float* field);

struct LatentShape {
  int channels, height, width;
};

// Where a tile's noise begins in the field of the whole frame.
struct NoiseView {
  const float* field;  // null: no noise
  int height, width;   // of the field
  int top, left;
};

// `latent` null: the float32 latent itself is what the engine reads. Both copy the condition's row besides.
void launch_start(cudaStream_t stream, Element element, const void* coarse, float sigma,
                  const NoiseView& noise, LatentShape shape, float* latent_fp32, void* latent,
                  const ConditionRow& next);
void launch_step(cudaStream_t stream, Element element, const void* velocity, float step, std::int64_t size,
                 float* latent_fp32, void* latent, const ConditionRow& next);

// A tile of the output, and its place in the restored frame.
struct StoreView {
  int height, width;                // of the part inside the frame
  int engine_height, engine_width;  // of the decoder's output
  int top, left;
  int frame_height, frame_width;
  const float *row_ramp, *column_ramp;  // how the tile counts where others lie over it; null: a single tile
};

// A tile that is the whole frame, to how the restored frame is stored. `target` lacks what `params` has.
void launch_store(cudaStream_t stream, Element element, const DeviceFrameParams* params,
                  const PixelFormat& format, const void* decoded, const StoreView& view,
                  const Target& target);
// One tile of several, added up in `sum`: three planes of the restored frame.
void launch_add_tile(cudaStream_t stream, Element element, const DeviceFrameParams* params,
                     const void* decoded, const StoreView& view, float* sum);
// The sums, weighted, to how the restored frame is stored; leaves them at zero.
void launch_blend_tiles(cudaStream_t stream, const DeviceFrameParams* params, const PixelFormat& format,
                        const float* blend_weights, float* sum, const Target& target);

// A run of tiles averaged with their `state`, in place: see ../temporal.hpp. `maps` are of the run.
void launch_average_over_time(cudaStream_t stream, Element element, const TemporalShape& shape,
                              std::size_t tiles, const void* images, void* decoded, float* state,
                              float* maps);

}  // namespace elir::cuda
