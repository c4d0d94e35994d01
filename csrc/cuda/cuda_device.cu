// The CUDA device: kernels on one stream, a frame recorded once per slot and replayed with one launch.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "../device.hpp"
#include "check.hpp"
#include "kernels.cuh"

namespace elir {

namespace {

using cuda::DeviceTaps;
using cuda::kThreads;
using cuda::kWide;

unsigned blocks(std::int64_t threads) {
  return static_cast<unsigned>((threads + kThreads - 1) / kThreads);
}

// One thread for four numbers along a row of `width`, a block row for each of `height`.
dim3 rows_of_four(int width, int height, int depth = 1) {
  return {blocks((width + kWide - 1) / kWide), static_cast<unsigned>(height), static_cast<unsigned>(depth)};
}

void check_launch(const char* kernel) {
  cuda_check(cudaGetLastError(), kernel);
}

class CudaDevice final : public Device {
 public:
  explicit CudaDevice(const CudaOptions& options) : options_(options) {
    const std::string problem = cuda_problem();
    if (!problem.empty()) throw std::runtime_error(problem);
    int count = 0;
    ELIR_CUDA(cudaGetDeviceCount(&count));
    if (options.ordinal < 0 || options.ordinal >= count) {
      throw std::runtime_error("CUDA device is " + std::to_string(options.ordinal) + "; this machine has " +
                               std::to_string(count));
    }
    use();
    stream_ = std::make_unique<CudaStream>();
    slots_ = std::vector<Slot>(std::max<std::size_t>(options.slots, 1));
    // Per slot: the frame's number for the noise, and whether a value was not finite.
    numbers_ = pinned<std::uint32_t>(slots_.size());
    broken_ = pinned<int>(slots_.size());
    device_number_ = std::static_pointer_cast<std::uint32_t>(allocate(sizeof(std::uint32_t)));
    device_broken_ = std::static_pointer_cast<int>(allocate(sizeof(int)));
  }

  ~CudaDevice() override {
    cuda_log(cudaSetDevice(options_.ordinal), "cudaSetDevice");
    if (stream_) ELIR_CUDA_LOG(cudaStreamSynchronize(stream_->get()));
  }

  const char* name() const override { return "cuda"; }
  Element element() const override { return options_.element; }
  std::uintptr_t stream_handle() const override { return reinterpret_cast<std::uintptr_t>(stream_->get()); }

  Memory allocate(std::size_t bytes) override {
    use();
    void* memory = nullptr;
    ELIR_CUDA(cudaMalloc(&memory, std::max<std::size_t>(bytes, 1)));
    const int ordinal = options_.ordinal;
    Memory owned(memory, [ordinal](void* p) {
      cuda_log(cudaSetDevice(ordinal), "cudaSetDevice");
      ELIR_CUDA_LOG(cudaFree(p));
    });
    ELIR_CUDA(cudaMemset(memory, 0, std::max<std::size_t>(bytes, 1)));
    settle();
    return owned;
  }

  FrameMemory allocate_frame(std::size_t bytes) override { return pinned<std::uint8_t>(bytes); }

  void prepare(const Geometry& geometry, Order order) override {
    geometry_ = geometry;
    red_ = order == Order::rgb ? 0 : 2;
    for (Slot& slot : slots_) slot.graph = std::make_unique<CudaGraph>();
    tiles_.clear();
    for (const Tile& tile : geometry.tiles) {
      tiles_.push_back({upload(make_taps(tile.y, geometry.engine_height, geometry.scaled_height,
                                         geometry.frame_height, geometry.scale_y, geometry.nearest)),
                        upload(make_taps(tile.x, geometry.engine_width, geometry.scaled_width,
                                         geometry.frame_width, geometry.scale_x, geometry.nearest)),
                        std::min(geometry.engine_height, geometry.scaled_height - tile.y),
                        std::min(geometry.engine_width, geometry.scaled_width - tile.x)});
    }
    frame_ = std::static_pointer_cast<std::uint8_t>(allocate(geometry.frame_bytes()));
    restored_ = std::static_pointer_cast<std::uint8_t>(allocate(geometry.scaled_bytes()));
    sum_.reset();
    share_.reset();
    if (geometry.tiles.size() > 1) {
      std::vector<float> share(std::size_t(geometry.scaled_height) * std::size_t(geometry.scaled_width),
                               0.0F);
      for (std::size_t i = 0; i < tiles_.size(); ++i) {
        for (int y = 0; y < tiles_[i].height; ++y) {
          float* row = share.data() + std::ptrdiff_t(geometry.tiles[i].y + y) * geometry.scaled_width +
                       geometry.tiles[i].x;
          for (int x = 0; x < tiles_[i].width; ++x) row[x] += 1.0F;
        }
      }
      for (float& value : share) value = 1.0F / value;
      share_ = array(share);
      sum_ = std::static_pointer_cast<float>(allocate(geometry.scaled_bytes() * sizeof(float)));
    }
  }

  void write(const float* from, std::size_t count, Element element, void* to) override {
    use();
    if (element == Element::float32) {
      ELIR_CUDA(cudaMemcpy(to, from, count * sizeof(float), cudaMemcpyHostToDevice));
      settle();
      return;
    }
    std::vector<std::uint16_t> bits(count);
    for (std::size_t i = 0; i < count; ++i) {
      if (element == Element::float16) {
        const __half value = __float2half_rn(from[i]);
        std::memcpy(&bits[i], &value, sizeof(value));
      } else {
        const __nv_bfloat16 value = __float2bfloat16_rn(from[i]);
        std::memcpy(&bits[i], &value, sizeof(value));
      }
    }
    ELIR_CUDA(cudaMemcpy(to, bits.data(), count * sizeof(std::uint16_t), cudaMemcpyHostToDevice));
    settle();
  }

  void copy(const void* from, void* to, std::size_t bytes) override {
    ELIR_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_->get()));
  }

  void load_frame(const std::uint8_t* frame, std::size_t tile, void* image) override {
    if (tile == 0) {
      ELIR_CUDA(cudaMemcpyAsync(frame_.get(), frame, geometry_.frame_bytes(), cudaMemcpyHostToDevice,
                                stream_->get()));
    }
    switch (options_.element) {
      case Element::float32:
        return load(tile, static_cast<float*>(image));
      case Element::float16:
        return load(tile, static_cast<__half*>(image));
      case Element::bfloat16:
        return load(tile, static_cast<__nv_bfloat16*>(image));
    }
  }

  void draw_noise(std::uint64_t seed, std::uint32_t frame, float* field) override {
    use();
    const int width = geometry_.field_width();
    const dim3 grid{blocks(width), static_cast<unsigned>(geometry_.field_height()),
                    static_cast<unsigned>((geometry_.latent_channels + 3) / 4)};
    // The number comes from memory, so that a recording draws anew each time it is replayed.
    cuda::draw_noise<<<grid, kThreads, 0, stream_->get()>>>(seed, frame == 0 ? nullptr : device_number_.get(),
                                                            geometry_.latent_channels,
                                                            geometry_.field_height(), width, field);
    check_launch("draw_noise");
  }

  void start_latent(const void* coarse, const float* field, float sigma, std::size_t tile, float* state,
                    void* latent) override {
    const float* noise = sigma == 0.0F ? nullptr : field;
    switch (options_.element) {
      case Element::float32:
        return start(static_cast<const float*>(coarse), noise, sigma, tile, state, latent);
      case Element::float16:
        return start(static_cast<const __half*>(coarse), noise, sigma, tile, state, latent);
      case Element::bfloat16:
        return start(static_cast<const __nv_bfloat16*>(coarse), noise, sigma, tile, state, latent);
    }
  }

  void euler_step(const void* velocity, float step, float* state, void* latent) override {
    switch (options_.element) {
      case Element::float32:
        return advance(static_cast<const float*>(velocity), step, state, latent);
      case Element::float16:
        return advance(static_cast<const __half*>(velocity), step, state, latent);
      case Element::bfloat16:
        return advance(static_cast<const __nv_bfloat16*>(velocity), step, state, latent);
    }
  }

  void store_frame(const void* decoded, std::size_t tile, std::uint8_t* frame) override {
    switch (options_.element) {
      case Element::float32:
        store(static_cast<const float*>(decoded), tile);
        break;
      case Element::float16:
        store(static_cast<const __half*>(decoded), tile);
        break;
      case Element::bfloat16:
        store(static_cast<const __nv_bfloat16*>(decoded), tile);
        break;
    }
    if (tile + 1 < tiles_.size()) return;
    if (sum_) {
      const std::int64_t pixels = std::int64_t(geometry_.scaled_height) * geometry_.scaled_width;
      cuda::finish_tiles<<<blocks(pixels), kThreads, 0, stream_->get()>>>(share_.get(), pixels, sum_.get(),
                                                                          restored_.get());
      check_launch("finish_tiles");
    }
    ELIR_CUDA(cudaMemcpyAsync(frame, restored_.get(), geometry_.scaled_bytes(), cudaMemcpyDeviceToHost,
                              stream_->get()));
  }

  bool run(std::size_t at, std::uint64_t index, const std::function<void()>& stages) override {
    use();
    Slot& slot = slots_.at(at);
    numbers_.get()[at] = static_cast<std::uint32_t>(index) + 1U;
    if (slot.graph && *slot.graph) {
      slot.graph->launch(stream_->get());
    } else if (options_.record && problem_.empty() && called_) {
      record(at, stages);
    } else {
      // The first frame is called: engines may set themselves up, which cannot be recorded.
      call(at, stages);
      called_ = true;
    }
    ELIR_CUDA(cudaStreamSynchronize(stream_->get()));
    return broken_.get()[at] == 0;
  }

  std::string way() const override {
    if (!options_.record) return "called";
    return problem_.empty() ? "recorded" : "called: " + problem_;
  }

 private:
  struct Slot {
    std::unique_ptr<CudaGraph> graph;
  };

  struct AxisTaps {
    std::shared_ptr<int> first;
    std::shared_ptr<float> weight;
    int count;
    DeviceTaps view() const { return {first.get(), weight.get(), count}; }
  };

  struct TileTables {
    AxisTaps rows, columns;
    int height, width;  // of the part inside the scaled frame
  };

  // The default stream's work is not ordered before ours, and small copies return before they are done.
  static void settle() { ELIR_CUDA(cudaStreamSynchronize(cudaStreamLegacy)); }

  void use() const { ELIR_CUDA(cudaSetDevice(options_.ordinal)); }

  template <typename T>
  std::shared_ptr<T> pinned(std::size_t count) {
    use();
    void* memory = nullptr;
    const std::size_t bytes = std::max<std::size_t>(count, 1) * sizeof(T);
    ELIR_CUDA(cudaHostAlloc(&memory, bytes, cudaHostAllocPortable));
    std::memset(memory, 0, bytes);
    return std::shared_ptr<T>(static_cast<T*>(memory), [](T* p) { ELIR_CUDA_LOG(cudaFreeHost(p)); });
  }

  template <typename T>
  std::shared_ptr<T> array(const std::vector<T>& from) {
    auto memory = std::static_pointer_cast<T>(allocate(from.size() * sizeof(T)));
    ELIR_CUDA(cudaMemcpy(memory.get(), from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice));
    settle();
    return memory;
  }

  AxisTaps upload(const Taps& taps) { return {array(taps.first), array(taps.weight), taps.count}; }

  // Everything of a frame, between what the CPU wrote for it and what it will read.
  void call(std::size_t at, const std::function<void()>& stages) {
    cudaStream_t stream = stream_->get();
    ELIR_CUDA(cudaMemcpyAsync(device_number_.get(), numbers_.get() + at, sizeof(std::uint32_t),
                              cudaMemcpyHostToDevice, stream));
    ELIR_CUDA(cudaMemsetAsync(device_broken_.get(), 0, sizeof(int), stream));
    if (sum_) ELIR_CUDA(cudaMemsetAsync(sum_.get(), 0, geometry_.scaled_bytes() * sizeof(float), stream));
    stages();
    ELIR_CUDA(cudaMemcpyAsync(broken_.get() + at, device_broken_.get(), sizeof(int), cudaMemcpyDeviceToHost,
                              stream));
  }

  // Record the slot's frame and launch the recording. Where that fails, frames are called from then on.
  void record(std::size_t at, const std::function<void()>& stages) {
    cudaStream_t stream = stream_->get();
    cudaGraph_t recorded = nullptr;
    std::string problem;
    ELIR_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    try {
      call(at, stages);
    } catch (const std::exception& error) {
      problem = error.what();
    }
    const cudaError_t ended = cudaStreamEndCapture(stream, &recorded);
    if (problem.empty() && ended != cudaSuccess) problem = cuda_message("cudaStreamEndCapture", ended);
    if (problem.empty()) {
      try {
        slots_[at].graph->instantiate(recorded);
      } catch (const std::exception& error) {
        problem = error.what();
      }
    }
    if (recorded != nullptr) ELIR_CUDA_LOG(cudaGraphDestroy(recorded));
    if (problem.empty()) {
      slots_[at].graph->launch(stream);
      return;
    }
    // The failure of a capture stays as the last error; it is told by `way`.
    static_cast<void>(cudaGetLastError());
    problem_ = problem;
    call(at, stages);
  }

  template <typename T>
  void load(std::size_t tile, T* image) {
    const TileTables& tables = tiles_[tile];
    cuda::load_frame<<<rows_of_four(geometry_.engine_width, geometry_.engine_height), kThreads, 0,
                       stream_->get()>>>(frame_.get(), geometry_.frame_width, tables.rows.view(),
                                         tables.columns.view(), red_, geometry_.engine_height,
                                         geometry_.engine_width, image);
    check_launch("load_frame");
  }

  template <typename T>
  void start(const T* coarse, const float* field, float sigma, std::size_t tile, float* state, void* latent) {
    const int height = geometry_.latent_height();
    const int width = geometry_.latent_width();
    T* narrowed = latent == static_cast<void*>(state) ? nullptr : static_cast<T*>(latent);
    cuda::
        start_latent<<<rows_of_four(width, height, geometry_.latent_channels), kThreads, 0, stream_->get()>>>(
            coarse, field, sigma, geometry_.field_height(), geometry_.field_width(),
            geometry_.tiles[tile].y / geometry_.downscale, geometry_.tiles[tile].x / geometry_.downscale,
            height, width, state, narrowed);
    check_launch("start_latent");
  }

  template <typename T>
  void advance(const T* velocity, float step, float* state, void* latent) {
    const auto size = static_cast<std::int64_t>(geometry_.latent_size());
    T* narrowed = latent == static_cast<void*>(state) ? nullptr : static_cast<T*>(latent);
    cuda::step_latent<<<blocks((size + kWide - 1) / kWide), kThreads, 0, stream_->get()>>>(
        velocity, step, size, state, narrowed);
    check_launch("step_latent");
  }

  template <typename T>
  void store(const T* decoded, std::size_t tile) {
    const TileTables& tables = tiles_[tile];
    cuda::store_frame<<<rows_of_four(tables.width, tables.height), kThreads, 0, stream_->get()>>>(
        decoded, tables.height, tables.width, geometry_.engine_height, geometry_.engine_width,
        geometry_.tiles[tile].y, geometry_.tiles[tile].x, geometry_.scaled_width, red_, restored_.get(),
        sum_.get(), device_broken_.get());
    check_launch("store_frame");
  }

  CudaOptions options_;
  std::unique_ptr<CudaStream> stream_;
  std::vector<Slot> slots_;
  std::shared_ptr<std::uint32_t> numbers_, device_number_;
  std::shared_ptr<int> broken_, device_broken_;
  Geometry geometry_{};
  int red_ = 0;
  std::vector<TileTables> tiles_;
  std::shared_ptr<std::uint8_t> frame_, restored_;
  std::shared_ptr<float> sum_, share_;
  bool called_ = false;
  std::string problem_;
};

}  // namespace

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
  return std::make_unique<CudaDevice>(options);
}

}  // namespace elir
