// What a device gives the pipeline: memory and the stages that are not engines.
//
// The pipeline calls these in the order of a frame's way and knows nothing else of the device. Stages of a
// CUDA device queue work on its stream; the host device does it at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "geometry.hpp"

namespace elir {

enum class Order { rgb, bgr };

// Type of the numbers that the parts read and write.
enum class Element { float32, float16, bfloat16 };

inline std::size_t element_size(Element element) {
  return element == Element::float32 ? 4 : 2;
}

// Buffers outlive the pipeline for as long as a backend's tensors are bound to them.
using Memory = std::shared_ptr<void>;
using FrameMemory = std::shared_ptr<std::uint8_t>;

class Device {
 public:
  Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  virtual ~Device() = default;

  virtual const char* name() const = 0;

  virtual Element element() const = 0;

  // Handle that engines are given to run on: a CUDA stream, 0 on the host.
  virtual std::uintptr_t stream_handle() const = 0;

  // Memory of the device, all zeros.
  virtual Memory allocate(std::size_t bytes) = 0;

  // Memory that the CPU reads and writes, and that the device copies from and to the fastest.
  virtual FrameMemory allocate_frame(std::size_t bytes) = 0;

  // Prepare what `load_frame` and `store_frame` need for frames of this geometry.
  virtual void prepare(const Geometry& geometry, Order order) = 0;

  // Convert numbers of the CPU's to `element` and write them to memory of the device; at once.
  virtual void write(const float* from, std::size_t count, Element element, void* to) = 0;

  // Copy inside the device.
  virtual void copy(const void* from, void* to, std::size_t bytes) = 0;

  // Part of the packed frame that belongs to a tile, scaled, padded, planar, in [0, 1].
  virtual void load_frame(const std::uint8_t* frame, std::size_t tile, void* image) = 0;

  // Fill the whole frame's field with standard normal numbers; `frame` as in `normals`.
  virtual void draw_noise(std::uint64_t seed, std::uint32_t frame, float* field) = 0;

  // state = coarse + sigma * noise, the noise from the tile's place in the field; `latent` is the state in
  // the element type, and may be the same memory where that is float32. `field` null: no noise.
  virtual void start_latent(const void* coarse, const float* field, float sigma, std::size_t tile,
                            float* state, void* latent) = 0;

  // state += velocity * step, and its copy in `latent`.
  virtual void euler_step(const void* velocity, float step, float* state, void* latent) = 0;

  // Clip, round and pack a tile of the output. With several tiles the outputs are averaged where they
  // overlap, and the frame is written with the last one.
  virtual void store_frame(const void* decoded, std::size_t tile, std::uint8_t* frame) = 0;

  // Run the stages of frame `index` in a slot: by calling them, or by replaying how they were recorded
  // before. Returns when the frame is done. False if a value of the output is not finite.
  virtual bool run(std::size_t slot, std::uint64_t index, const std::function<void()>& stages) = 0;

  // How frames are run: "called", "recorded", or "called: " and why they could not be recorded.
  virtual std::string way() const { return "called"; }
};

std::unique_ptr<Device> make_host_device();

struct CudaOptions {
  int ordinal = 0;
  Element element = Element::float32;
  bool record = true;
  std::size_t slots = 1;
};

// Throws std::runtime_error that says why there is no such device.
std::unique_ptr<Device> make_cuda_device(const CudaOptions& options);

// Empty if there is a usable CUDA device, else why not.
std::string cuda_problem();

}  // namespace elir
