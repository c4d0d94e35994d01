// What a device gives the pipeline: memory, the stages that are not engines, and an executor that runs them.
//
// The pipeline calls these in the order of a frame's way and knows nothing else of the device. Stages of a
// CUDA device queue work on its stream; the host device does it at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "frame.hpp"
#include "geometry.hpp"
#include "still.hpp"

namespace elir {

// Type of the numbers that the parts read and write.
enum class Element { float32, float16, bfloat16 };

inline std::size_t element_size(Element element) {
  return element == Element::float32 ? 4 : 2;
}

// Buffers outlive the pipeline for as long as a backend's tensors are bound to them.
using Memory = std::shared_ptr<void>;
using FrameMemory = std::shared_ptr<std::uint8_t>;

// A row of the conditioning table, and where the velocity reads it. Empty: `bytes` is 0.
struct ConditionRow {
  const void* from = nullptr;
  void* to = nullptr;
  std::size_t bytes = 0;
};

// Memory of a device, and copies between it and the CPU's.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  virtual ~DeviceMemory() = default;

  // Memory of the device, all zeros.
  virtual Memory allocate(std::size_t bytes) = 0;

  // Memory that the CPU reads and writes, and that the device copies from and to the fastest.
  virtual FrameMemory allocate_frame(std::size_t bytes) = 0;

  // Memory of the device for a restored frame that the caller takes. Given back, it is used again after the
  // work that is then queued on the stream that was told to `result_users`, or else on the default stream.
  virtual FrameMemory allocate_result(std::size_t) {
    throw std::invalid_argument("results stay on the device where that is a GPU alone");
  }
  using ResultUsers = std::function<void(const void* memory, std::uintptr_t stream)>;
  virtual ResultUsers result_users() { return {}; }

  // Throws std::invalid_argument if the device cannot read a frame at this address.
  virtual void check_address(const void* memory) const { static_cast<void>(memory); }

  // Convert numbers of the CPU's to `element` and write them to memory of the device; at once.
  virtual void write(const float* from, std::size_t count, Element element, void* to) = 0;

  // Read numbers of `element` from memory of the device as the CPU's; at once.
  virtual void read(const void* from, std::size_t count, Element element, float* to) = 0;
};

// The stages of a frame that are not engines, in the order of a frame's way.
class DeviceStages {
 public:
  DeviceStages() = default;
  DeviceStages(const DeviceStages&) = delete;
  DeviceStages& operator=(const DeviceStages&) = delete;
  virtual ~DeviceStages() = default;

  // Prepare what `load_frame` and `store_frame` need for frames of this geometry, stored as `in`, restored
  // ones as `out`.
  virtual void prepare(const Geometry& geometry, const Pixels& in, const Pixels& out) = 0;

  // Parts of the frame that belong to a run of tiles, scaled, padded, planar, in [0, 1], one image after the
  // other.
  virtual void load_frame(TileRun run, void* images) = 0;

  // Fill the whole frame's field with standard normal numbers; `frame` as in `normals`.
  virtual void draw_noise(std::uint64_t seed, std::uint32_t frame, float* field) = 0;

  // latent_fp32 = coarse + sigma * noise, of a run of tiles, the noise from each tile's place in the field;
  // `latent` is the same in the element type, and may be the same memory where that is float32. `field` null:
  // no noise. The row that the first velocity reads is copied besides.
  virtual void start_latent(const void* coarse, const float* field, float sigma, TileRun run,
                            float* latent_fp32, void* latent, const ConditionRow& next) = 0;

  // latent_fp32 += velocity * step, of so many tiles, and its copy in `latent`; and the next velocity's row.
  virtual void euler_step(const void* velocity, float step, std::size_t tiles, float* latent_fp32,
                          void* latent, const ConditionRow& next) = 0;

  // Average a run of tiles of the output, in place, with what is in `state` of them, where nothing but noise
  // changed (temporal.hpp). The tiles of the run follow one another. `state` is of all tiles; `maps` has room
  // for those of a run.
  virtual void average_over_time(const void* images, void* decoded, TileRun run, float* state,
                                 float* maps) = 0;

  // Clip, round and pack a run of tiles of the output; all tiles of a frame in their order. Where there are
  // several the outputs are blended where they overlap, and the frame is written with the last one.
  virtual void store_frame(const void* decoded, TileRun run) = 0;

  // Prepare what the two below need.
  virtual void prepare_still(const StillPlan& plan) = 0;
  // Before a frame begins: for each tile, whether its input differs from what is kept of it. Waits for that.
  virtual void compare_inputs(const FrameJob& job, std::uint8_t* changed) = 0;
  // Keep the frame's input of some tiles; `job` is the one that was compared.
  virtual void keep_inputs(const FrameJob& job, const std::vector<bool>& tiles) = 0;

  // Copy inside the device, in its order among the stages.
  virtual void copy(const void* from, void* to, std::size_t bytes) = 0;
};

// How the stages and the engines of frames are run.
class DeviceExecutor {
 public:
  DeviceExecutor() = default;
  DeviceExecutor(const DeviceExecutor&) = delete;
  DeviceExecutor& operator=(const DeviceExecutor&) = delete;
  virtual ~DeviceExecutor() = default;

  // Handle that engines are given to run on: a CUDA stream, 0 on the host.
  virtual std::uintptr_t stream_handle() const = 0;

  // Stream that producers of frames on the device make wait for their work; frames begin after it.
  virtual std::uintptr_t input_stream() const { return 0; }
  // Let `input_stream` wait for what is queued on a producer's stream.
  virtual void wait_on_producer(std::uintptr_t producer) { static_cast<void>(producer); }

  // How many frames may have begun and not be finished.
  virtual std::size_t max_in_flight() const { return 1; }

  // Begin a frame: call its stages, or replay how they were recorded before. Frames finish in the order in
  // which they began.
  virtual void begin(const FrameJob& job, const std::function<void()>& stages) = 0;
  // Wait until the frame that began first is done. False if a value of the output is not finite.
  virtual bool finish() = 0;
  // Wait for all that is queued on the device's streams, so that memory may be given back.
  virtual void synchronize() {}

  // Whether a stage is done when its call returns, so that the CPU's clock times it.
  virtual bool is_synchronous() const { return true; }

  // How frames are run: "eager", "graph", or "eager: " and why they could not be recorded.
  virtual std::string execution_mode() const { return "eager"; }
};

class Device : public DeviceMemory, public DeviceStages, public DeviceExecutor {
 public:
  virtual const char* name() const = 0;
  // Type of the numbers of the parts' tensors.
  virtual Element element() const = 0;
};

std::unique_ptr<Device> make_host_device();

// Whether this build has the CUDA device, usable or not.
bool has_cuda();

struct CudaOptions {
  int ordinal = 0;
  Element element = Element::float32;
  bool record = true;
  std::size_t slots = 1;
  // Frames in memory of the CPU that the GPU reads and writes in place, instead of copies.
  enum class Frames { automatic, copied, mapped } frames = Frames::automatic;
};

// Throws std::runtime_error that says why there is no such device.
std::unique_ptr<Device> make_cuda_device(const CudaOptions& options);

// Empty if there is a usable CUDA device, else why not.
std::string cuda_problem();

}  // namespace elir
