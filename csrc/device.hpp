// What a device gives the pipeline: memory and the stages that are not engines.
//
// The pipeline calls these in the order of a frame's way and knows nothing else of the device. Stages of a
// CUDA device queue work on its stream; the host device does it at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "geometry.hpp"

namespace elir {

enum class Order { rgb, bgr };

// Buffers outlive the pipeline for as long as a backend's tensors are bound to them.
using Memory = std::shared_ptr<float>;

class Device {
 public:
  Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  virtual ~Device() = default;

  virtual const char* name() const = 0;

  // Handle that engines are given to run on: a CUDA stream, 0 on the host.
  virtual std::uintptr_t stream_handle() const = 0;

  virtual Memory allocate(std::size_t count) = 0;

  // Prepare what `load_frame` and `store_frame` need for frames of this geometry.
  virtual void prepare(const Geometry& geometry, Order order) = 0;

  // Part of the packed frame that belongs to a tile, scaled, padded, planar, in [0, 1].
  virtual void load_frame(const std::uint8_t* frame, std::size_t tile, float* image) = 0;

  // Fill the whole frame's field with standard normal numbers; `frame` as in `normals`.
  virtual void draw_noise(std::uint64_t seed, std::uint32_t frame, float* field) = 0;

  // latent = coarse + sigma * noise, the noise from the tile's place in the field. `field` null: no noise.
  virtual void start_latent(const float* coarse, const float* field, float sigma, std::size_t tile,
                            float* latent) = 0;

  virtual void copy(const float* from, float* to, std::size_t count) = 0;

  // latent += velocity * step.
  virtual void euler_step(const float* velocity, float step, float* latent) = 0;

  // Clip, round and pack a tile of the output. Returns false if a value is not finite. With several tiles the
  // outputs are averaged where they overlap, and the frame is written with the last one.
  virtual bool store_frame(const float* decoded, std::size_t tile, std::uint8_t* frame) = 0;
};

std::unique_ptr<Device> make_host_device();

}  // namespace elir
