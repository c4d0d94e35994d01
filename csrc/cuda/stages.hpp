// The stages of a frame that are not engines, queued on the compute stream.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "../device.hpp"
#include "launches.hpp"
#include "transfers.hpp"

namespace elir::cuda {

class CudaStages {
 public:
  // Both outlive this.
  CudaStages(Element element, cudaStream_t stream, const DeviceFrameParams* params)
      : element_(element), stream_(stream), params_(params) {}

  void prepare(const Transfers& transfers, const Geometry& geometry, const Pixels& in, const Pixels& out);

  // Whether each pixel of a frame is read several times, and not once.
  bool rereads_frames() const;

  // The places of a tile of a run in the parts' tensors.
  template <typename Tensor>
  Tensor* image(Tensor* images, std::size_t place) const {
    return at(images, place * geometry_.image_size() * element_size(element_));
  }
  template <typename Tensor>
  Tensor* latent(Tensor* latents, std::size_t place) const {
    return at(latents, place * geometry_.latent_size() * element_size(element_));
  }
  float* latent_fp32(float* latents, std::size_t place) const {
    return latents + place * geometry_.latent_size();
  }

  void load_frame(std::size_t tile, void* image) const;
  void draw_noise(std::uint64_t seed, std::uint32_t frame, float* field) const;
  void start_latent(const void* coarse, const float* field, float sigma, std::size_t tile, float* latent_fp32,
                    void* latent, const ConditionRow& next) const;
  void euler_step(const void* velocity, float step, std::size_t tiles, float* latent_fp32, void* latent,
                  const ConditionRow& next) const;
  void average_over_time(const void* images, void* decoded, TileRun run, float* state, float* maps) const;
  void store_frame(const void* decoded, std::size_t tile) const;
  // After a frame that failed half way, which leaves sums of its tiles behind.
  void clear_sums() const noexcept;

 private:
  static const void* at(const void* memory, std::size_t bytes) {
    return static_cast<const std::uint8_t*>(memory) + bytes;
  }
  static void* at(void* memory, std::size_t bytes) { return static_cast<std::uint8_t*>(memory) + bytes; }

  struct AxisTaps {
    std::shared_ptr<int> first;
    std::shared_ptr<float> weight;
    int count;
    DeviceTaps view() const { return {first.get(), weight.get(), count}; }
  };

  struct TileTables {
    AxisTaps rows, columns;
    int height, width;                             // of the part inside the scaled frame
    std::shared_ptr<float> row_ramp, column_ramp;  // of several tiles
  };

  const Element element_;
  const cudaStream_t stream_;
  const DeviceFrameParams* const params_;
  Geometry geometry_{};
  Pixels in_, out_;
  std::vector<TileTables> tiles_;
  std::shared_ptr<float> mixed_;                // rows of a frame that is resampled
  std::shared_ptr<float> sum_, blend_weights_;  // of several tiles; three planes, and one
};

}  // namespace elir::cuda
