// The CUDA device: its memory, its stages and its executor, put together.
#include "../device.hpp"

#include <cuda_runtime.h>

#include <memory>
#include <string>

#include "device_guard.hpp"
#include "graph_executor.hpp"
#include "memory.hpp"
#include "result_pool.hpp"
#include "stages.hpp"
#include "still.hpp"
#include "transfers.hpp"

namespace elir {

namespace {

using cuda::DeviceGuard;

// Throws std::runtime_error if there is no such device.
void check_ordinal(int ordinal) {
  const std::string problem = cuda_problem();
  if (!problem.empty()) throw std::runtime_error(problem);
  int count = 0;
  ELIR_CUDA(cudaGetDeviceCount(&count));
  if (ordinal < 0 || ordinal >= count) {
    throw std::runtime_error("CUDA device is " + std::to_string(ordinal) + "; this machine has " +
                             std::to_string(count));
  }
}

bool reads_in_place(const CudaOptions& options) {
  if (options.frames != CudaOptions::Frames::automatic) {
    return options.frames == CudaOptions::Frames::mapped;
  }
  int integrated = 0;
  ELIR_CUDA(cudaDeviceGetAttribute(&integrated, cudaDevAttrIntegrated, options.ordinal));
  return integrated != 0;
}

class CudaDevice final : public Device {
 public:
  // In the device's context, as by a DeviceGuard.
  explicit CudaDevice(const CudaOptions& options)
      : ordinal_(options.ordinal),
        element_(options.element),
        transfers_(ordinal_),
        executor_({ordinal_, options.record, options.slots, reads_in_place(options)}),
        stages_(element_, executor_.compute_stream(), executor_.params()),
        results_(std::make_shared<cuda::ResultPool>(ordinal_)),
        kept_inputs_(ordinal_) {}

  const char* name() const override { return "cuda"; }
  Element element() const override { return element_; }
  std::uintptr_t stream_handle() const override {
    return reinterpret_cast<std::uintptr_t>(executor_.compute_stream());
  }
  std::size_t max_in_flight() const override { return executor_.max_in_flight(); }
  bool is_synchronous() const override { return false; }

  Memory allocate(std::size_t bytes) override { return transfers_.allocate_zeros(bytes); }

  FrameMemory allocate_frame(std::size_t bytes) override {
    return cuda::allocate_pinned<std::uint8_t>(ordinal_, bytes);
  }

  FrameMemory allocate_result(std::size_t bytes) override {
    return results_->take(bytes, executor_.input_stream());
  }

  ResultUsers result_users() override {
    return [results = results_](const void* memory, std::uintptr_t stream) {
      results->note_consumer(memory, stream);
    };
  }

  std::uintptr_t input_stream() const override {
    return reinterpret_cast<std::uintptr_t>(executor_.input_stream());
  }

  void wait_on_producer(std::uintptr_t producer) override {
    const DeviceGuard device(ordinal_);
    executor_.wait_on_producer(reinterpret_cast<cudaStream_t>(producer));
  }

  void check_address(const void* memory) const override {
    const DeviceGuard device(ordinal_);
    cudaPointerAttributes found{};
    const cudaError_t error = cudaPointerGetAttributes(&found, memory);
    if (error != cudaSuccess) static_cast<void>(cudaGetLastError());
    if (error == cudaSuccess && found.type != cudaMemoryTypeUnregistered && found.device == ordinal_) return;
    throw std::invalid_argument("frame is not in memory of CUDA device " + std::to_string(ordinal_) +
                                ", or of another CUDA context than the device's primary one (for PyCUDA: "
                                "import pycuda.autoprimaryctx)");
  }

  void synchronize() override {
    const DeviceGuard device(ordinal_);
    executor_.wait_for_all();
  }

  void prepare(const Geometry& geometry, const Pixels& in, const Pixels& out) override {
    const DeviceGuard device(ordinal_);
    stages_.prepare(transfers_, geometry, in, out);
    // Over the bus every pixel is fetched once, or the frame is copied first.
    executor_.set_frame_sizes(in.bytes(geometry.frame_height, geometry.frame_width),
                              out.bytes(geometry.scaled_height, geometry.scaled_width),
                              !stages_.rereads_frames());
  }

  void write(const float* from, std::size_t count, Element element, void* to) override {
    transfers_.write(from, count, element, to);
  }

  // After the frames that have begun; what another thread records meanwhile is not touched.
  void read(const void* from, std::size_t count, Element element, float* to) override {
    const DeviceGuard device(ordinal_);
    executor_.make_stream_wait(transfers_.stream());
    transfers_.read(from, count, element, to);
  }

  void copy(const void* from, void* to, std::size_t bytes) override {
    ELIR_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, executor_.compute_stream()));
  }

  void load_frame(TileRun run, void* images) override {
    run.each(
        [&](std::size_t place, std::size_t tile) { stages_.load_frame(tile, stages_.image(images, place)); });
  }

  void draw_noise(std::uint64_t seed, std::uint32_t frame, float* field) override {
    const DeviceGuard device(ordinal_);
    stages_.draw_noise(seed, frame, field);
  }

  void start_latent(const void* coarse, const float* field, float sigma, TileRun run, float* latent_fp32,
                    void* latent, const ConditionRow& next) override {
    ConditionRow row = next;
    run.each([&](std::size_t place, std::size_t tile) {
      stages_.start_latent(stages_.latent(coarse, place), field, sigma, tile,
                           stages_.latent_fp32(latent_fp32, place), stages_.latent(latent, place), row);
      row = {};
    });
  }

  void euler_step(const void* velocity, float step, std::size_t tiles, float* latent_fp32, void* latent,
                  const ConditionRow& next) override {
    stages_.euler_step(velocity, step, tiles, latent_fp32, latent, next);
  }

  void average_over_time(const void* images, void* decoded, TileRun run, float* state, float* maps) override {
    stages_.average_over_time(images, decoded, run, state, maps);
  }

  void prepare_still(const StillPlan& plan) override {
    const DeviceGuard device(ordinal_);
    kept_inputs_.prepare(transfers_, plan);
  }

  // On the stream of uploads: it neither waits for the frames that are computed, nor they for it.
  void compare_inputs(const FrameJob& job, std::uint8_t* changed) override {
    const DeviceGuard device(ordinal_);
    kept_inputs_.compare(executor_.input_stream(), executor_.upload(job), changed);
  }

  void keep_inputs(const FrameJob& job, const std::vector<bool>& tiles) override {
    const DeviceGuard device(ordinal_);
    kept_inputs_.keep(executor_.input_stream(), executor_.upload(job), tiles);
  }

  void store_frame(const void* decoded, TileRun run) override {
    run.each([&](std::size_t place, std::size_t tile) {
      stages_.store_frame(stages_.image(decoded, place), tile);
    });
  }

  void begin(const FrameJob& job, const std::function<void()>& stages) override {
    const DeviceGuard device(ordinal_);
    try {
      executor_.begin(job, stages);
    } catch (...) {
      stages_.clear_sums();
      throw;
    }
  }

  bool finish() override {
    const DeviceGuard device(ordinal_);
    return executor_.finish();
  }

  std::string execution_mode() const override { return executor_.execution_mode(); }

 private:
  const int ordinal_;
  const Element element_;
  cuda::Transfers transfers_;
  cuda::GraphExecutor executor_;
  cuda::CudaStages stages_;
  std::shared_ptr<cuda::ResultPool> results_;
  cuda::KeptInputs kept_inputs_;
};

}  // namespace

bool has_cuda() {
  return true;
}

std::string cuda_problem() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorInsufficientDriver || error == cudaErrorInitializationError) {
    int version = 0;
    static_cast<void>(cudaDriverGetVersion(&version));
    if (version == 0) return "no CUDA driver";
  }
  if (error != cudaSuccess) return cudaGetErrorString(error);
  return count == 0 ? "no CUDA device" : "";
}

std::unique_ptr<Device> make_cuda_device(const CudaOptions& options) {
  check_ordinal(options.ordinal);
  const DeviceGuard device(options.ordinal);
  return std::make_unique<CudaDevice>(options);
}

}  // namespace elir
