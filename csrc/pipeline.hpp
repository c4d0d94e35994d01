// The order of stages for one frame, written once for every device.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "device.hpp"

namespace elir {

enum class Stage : std::size_t {
  still,
  load,
  encoder,
  coarse,
  start,
  velocity,
  step,
  decoder,
  direct,
  temporal,
  store,
  launch,
  total
};
constexpr std::size_t kStages = 13;
const char* stage_name(std::size_t stage);

// Milliseconds of each stage, summed over tiles and steps. A device that works apart from the CPU has two of
// them: `launch`, what the CPU did for the frame, and `total`. On the host there is no launch.
using StageTimes = std::array<float, kStages>;

// A frame failed in one of its stages.
class StageError : public std::runtime_error {
 public:
  StageError(Stage stage, const std::string& message) : std::runtime_error(message), stage_(stage) {}
  Stage stage() const { return stage_; }

 private:
  Stage stage_;
};

// A frame was given up by its guard: it is to be handed on as it came.
class OutOfTime : public std::exception {
 public:
  const char* what() const noexcept override { return "the frame was given up"; }
};

enum class Noise { fixed, per_frame, off };

struct PipelineOptions {
  float sigma = 0.0F;
  int steps = 0;  // of frames that do not say otherwise
  // Rows of condition_width numbers for each number of steps K from 1 on, those of K at K * (K - 1) / 2.
  std::vector<float> table;
  std::size_t condition_width = 0;
  std::size_t batch = 1;  // tiles that the engines take together
  std::uint64_t seed = 0;
  Noise noise = Noise::fixed;
  std::uint64_t frames_before = 0;  // of a film that a stream before this one restored: noise goes on there
  bool keep_tiles = false;          // so that frames may reuse tiles of the last one
  // Tiles whose input did not change are taken from their last restoration: none are, or those whose input
  // differs by so many levels of 8 bits.
  std::optional<float> still;
  bool still_equal_steps = true;   // and of as many steps; else of more, too
  bool average_over_time = false;  // frames of a stream, where nothing but noise changes
  Pixels in, out;

  // Most steps that a frame may be given: those that the table has all rows of.
  int max_steps() const;
  // Throws std::invalid_argument that names the option, what was found and what is allowed; of `in` and `out`
  // nothing, which are right or wrong for a size.
  void check() const;
};

// Runs one engine over the tensors that are bound to the pipeline's buffers.
using Enqueue = std::function<void(std::uintptr_t stream_handle)>;

class Pipeline {
 public:
  // Checks the geometry and the options; allocates all buffers.
  Pipeline(std::unique_ptr<Device> device, Geometry geometry, PipelineOptions options);
  // Waits for the device: it may still be drawing noise, or computing a frame.
  ~Pipeline();
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  const Geometry& geometry() const { return geometry_; }
  // The parameters of a frame: `steps` none for the pipeline's, and the tiles that it takes from the last
  // frame. Throws std::invalid_argument if there are not so many steps, or no such tile, or tiles are not
  // kept.
  FrameParams params(std::uint64_t index, std::optional<int> steps,
                     const std::vector<std::size_t>& reused = {}) const;

  // How often the engines run for a frame with so many steps.
  std::size_t count_runs(const FrameParams& params, int steps) const;

  // Names, shapes and memory of the tensors that the parts are bound to.
  struct Buffer {
    std::string name;
    std::vector<std::size_t> shape;
    Element element;
    Memory memory;
  };
  const Buffer& buffer(const std::string& name) const;

  // Memory of the device that lives as long as the pipeline, for what engines need while they run.
  void* reserve(std::size_t bytes);

  // Part is encoder, coarse, velocity or decoder; or direct, which frames without steps go through instead of
  // encoder, coarse and decoder where it is set: it reads the image and writes what is decoded, and nothing
  // in between.
  void set_part(const std::string& part, Enqueue enqueue);

  // Replace the fixed noise field: [latent_channels, field_height, field_width], standard normal.
  void set_noise(const float* field, std::size_t count);

  // What averaging over time keeps of the frames so far, [tiles, kTemporalPlanes, engine_height,
  // engine_width], for another pipeline that goes on behind them; read it while no frame is in work. Throw
  // std::invalid_argument if nothing is averaged, or the size is another one.
  std::vector<std::size_t> temporal_shape() const;
  void read_temporal(float* state) const;
  void set_temporal(const float* state, const std::vector<std::size_t>& shape);

  // Throws std::logic_error if a part is missing; draws the fixed noise.
  void start();

  Device& device() { return *device_; }
  const Pixels& in() const { return options_.in; }
  const Pixels& out() const { return options_.out; }
  std::size_t frame_bytes() const { return options_.in.bytes(geometry_.frame_height, geometry_.frame_width); }
  std::size_t restored_bytes() const {
    return options_.out.bytes(geometry_.scaled_height, geometry_.scaled_width);
  }
  std::string execution_mode() const { return device_->execution_mode(); }

  // Before a frame begins: finds its still regions. Throws StageError.
  void look(const FrameJob& job, StageTimes& times);

  // Restore a frame: begin as many as the device takes ahead, finish them in the same order. `times` are
  // those of the frame for both. Throw StageError, and `begin` OutOfTime; a frame that did not begin is not
  // to be finished. Writes to the job how many runs of tiles there were, and the steps, where its guard took
  // some.
  void begin(FrameJob& job, StageTimes& times);
  void finish(StageTimes& times);

 private:
  struct Parts {
    Enqueue encoder, coarse, velocity, decoder, direct;
  };

  void add_buffer(const char* name, std::vector<std::size_t> shape);
  void* data(const char* name) { return buffer(name).memory.get(); }
  void stages(FrameJob& job, StageTimes& times);
  void hand_on(StageTimes& times);
  // Which tiles go through the engines together; returns how often.
  std::size_t plan_runs(const FrameParams& params);
  std::size_t runs_of(std::size_t tiles) const;
  void run_tiles(FrameJob& job, std::size_t number, StageTimes& times);
  // From the image to what is decoded, by way of the latent.
  void run_parts(FrameJob& job, std::size_t number, StageTimes& times);
  // Asks the frame's guard. True if the steps that were taken are to be forgotten.
  bool ask(FrameJob& job, std::size_t number, Checkpoint at, int taken, const StageTimes& times);
  TileRun run_of(std::size_t number) const;
  // Which tiles the frame takes from their last restoration.
  void take_still(FrameJob& job);
  void forget_restored();
  // Tiles as they are put together: the temporal stage, and the restored frame.
  void store_kept(StageTimes& times);
  void store_run(TileRun run, void* decoded, StageTimes& times);
  // Where a tile's restored numbers are kept.
  void* kept(std::size_t tile) const;
  std::size_t field_size() const;
  std::size_t temporal_numbers() const;
  // Memory for the noise field, unless there is none; and its fixed numbers.
  void need_field();
  void draw_field();

  template <typename Call>
  void timed(Stage stage, StageTimes& times, Call&& call);

  std::unique_ptr<Device> device_;
  Geometry geometry_;
  PipelineOptions options_;
  int max_steps_ = 0;  // that a frame may be given
  std::vector<Buffer> buffers_;
  Parts parts_;
  std::vector<Memory> reserved_;
  Memory field_, table_, latent_fp32_;
  Memory temporal_state_, temporal_maps_;
  std::vector<std::size_t> in_order_;  // the numbers of all tiles
  std::vector<std::size_t> planned_;   // of those that go through the engines, `batch` to a run
  Memory kept_;                        // of every tile, what the decoder gave last
  std::optional<StillTiles> still_;
  std::vector<bool> restored_;  // whether there is that of a frame that did not fail
  bool own_field_ = false;
  void *image_, *coarse_, *latent_, *condition_, *velocity_, *decoded_;
};

}  // namespace elir
