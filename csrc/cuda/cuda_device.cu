// The CUDA device. Frames are uploaded, computed and downloaded on a stream each, two frames under way: while
// one is computed, the next is uploaded or the last is downloaded. What is computed for a frame, engines
// included, is recorded once for each of the two and replayed with one launch.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
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

// Memory for results that callers take. Given back, it waits here for its next use; it outlives the device
// for as long as someone has a result.
class Results : public std::enable_shared_from_this<Results> {
 public:
  explicit Results(int ordinal) : ordinal_(ordinal) {}
  Results(const Results&) = delete;
  Results& operator=(const Results&) = delete;
  ~Results() {
    const Using device(ordinal_);
    for (const Given& given : free_) ELIR_CUDA_LOG(cudaFree(given.memory));
  }

  // `stream` is made to wait for what its last owner still does with it.
  FrameMemory take(std::size_t bytes, cudaStream_t stream) {
    std::uint8_t* memory = nullptr;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!free_.empty()) {
        free_.back().used->hold_back(stream);
        memory = free_.back().memory;
        free_.pop_back();
      }
    }
    if (memory == nullptr) ELIR_CUDA(cudaMalloc(&memory, std::max<std::size_t>(bytes, 1)));
    return {memory, [self = shared_from_this()](std::uint8_t* p) { self->give(p); }};
  }

  void used_on(const void* memory, std::uintptr_t stream) {
    const std::lock_guard<std::mutex> lock(mutex_);
    streams_[memory] = stream;
  }

 private:
  struct Given {
    std::uint8_t* memory;
    std::unique_ptr<CudaEvent> used;
  };

  void give(std::uint8_t* memory) noexcept {
    const Using device(ordinal_);
    const std::lock_guard<std::mutex> lock(mutex_);
    cudaStream_t stream = cudaStreamLegacy;
    const auto found = streams_.find(memory);
    if (found != streams_.end()) {
      stream = reinterpret_cast<cudaStream_t>(found->second);
      streams_.erase(found);
    }
    try {
      auto used = std::make_unique<CudaEvent>();
      used->record(stream);
      free_.push_back({memory, std::move(used)});
    } catch (const std::exception& error) {
      std::fprintf(stderr, "elir_trt: %s\n", error.what());
      ELIR_CUDA_LOG(cudaFree(memory));
    }
  }

  int ordinal_;
  std::mutex mutex_;
  std::vector<Given> free_;
  std::map<const void*, std::uintptr_t> streams_;
};

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
    const Using device(options_.ordinal);
    int integrated = 0;
    ELIR_CUDA(cudaDeviceGetAttribute(&integrated, cudaDevAttrIntegrated, options.ordinal));
    mapped_ = options.frames == CudaOptions::Frames::mapped ||
              (options.frames == CudaOptions::Frames::automatic && integrated != 0);
    compute_ = std::make_unique<CudaStream>();
    upload_ = std::make_unique<CudaStream>();
    download_ = std::make_unique<CudaStream>();
    results_ = std::make_shared<Results>(options.ordinal);
    lanes_ = std::vector<Lane>(std::min<std::size_t>(std::max<std::size_t>(options.slots, 1), kLanes));
    for (Lane& lane : lanes_) {
      lane.told = pinned<cuda::Told>(1);
      lane.broken = pinned<int>(1);
    }
    told_ = std::static_pointer_cast<cuda::Told>(allocate(sizeof(cuda::Told)));
    broken_ = std::static_pointer_cast<int>(allocate(sizeof(int)));
  }

  ~CudaDevice() override {
    const Using device(options_.ordinal);
    for (const auto* stream : {&upload_, &compute_, &download_}) {
      if (*stream) ELIR_CUDA_LOG(cudaStreamSynchronize((*stream)->get()));
    }
    lanes_.clear();
    upload_.reset();
    compute_.reset();
    download_.reset();
  }

  const char* name() const override { return "cuda"; }
  Element element() const override { return options_.element; }
  std::uintptr_t stream_handle() const override { return reinterpret_cast<std::uintptr_t>(compute()); }
  std::size_t ahead() const override { return lanes_.size(); }
  bool immediate() const override { return false; }

  Memory allocate(std::size_t bytes) override {
    const Using device(options_.ordinal);
    void* memory = nullptr;
    ELIR_CUDA(cudaMalloc(&memory, std::max<std::size_t>(bytes, 1)));
    const int ordinal = options_.ordinal;
    Memory owned(memory, [ordinal](void* p) {
      const Using its_device(ordinal);
      ELIR_CUDA_LOG(cudaFree(p));
    });
    ELIR_CUDA(cudaMemset(memory, 0, std::max<std::size_t>(bytes, 1)));
    settle();
    return owned;
  }

  FrameMemory allocate_frame(std::size_t bytes) override { return pinned<std::uint8_t>(bytes); }

  FrameMemory allocate_result(std::size_t bytes) override {
    const Using device(options_.ordinal);
    return results_->take(bytes, upload_->get());
  }

  ResultUsers result_users() override {
    return
        [results = results_](const void* memory, std::uintptr_t stream) { results->used_on(memory, stream); };
  }

  // Frames begin after what is queued on `upload_`, and nothing records that stream.
  std::uintptr_t hand_over() const override { return reinterpret_cast<std::uintptr_t>(upload_->get()); }

  void wait_for(std::uintptr_t producer) override {
    const Using device(options_.ordinal);
    const CudaEvent event;
    event.record(reinterpret_cast<cudaStream_t>(producer));
    event.hold_back(upload_->get());
  }

  void check_address(const void* memory) const override {
    const Using device(options_.ordinal);
    cudaPointerAttributes found{};
    const cudaError_t error = cudaPointerGetAttributes(&found, memory);
    static_cast<void>(cudaGetLastError());
    if (error == cudaSuccess && found.type != cudaMemoryTypeUnregistered &&
        found.device == options_.ordinal) {
      return;
    }
    throw std::invalid_argument("frame is not in memory of CUDA device " + std::to_string(options_.ordinal) +
                                ", or of another CUDA context than the device's primary one (for PyCUDA: "
                                "import pycuda.autoprimaryctx)");
  }

  void prepare(const Geometry& geometry, const Pixels& in, const Pixels& out) override {
    const Using device(options_.ordinal);
    geometry_ = geometry;
    in_ = in;
    out_ = out;
    tiles_.clear();
    for (const Tile& tile : geometry.tiles) {
      tiles_.push_back({upload(make_taps(tile.y, geometry.engine_height, geometry.scaled_height,
                                         geometry.frame_height, geometry.scale_y, geometry.nearest)),
                        upload(make_taps(tile.x, geometry.engine_width, geometry.scaled_width,
                                         geometry.frame_width, geometry.scale_x, geometry.nearest)),
                        std::min(geometry.engine_height, geometry.scaled_height - tile.y),
                        std::min(geometry.engine_width, geometry.scaled_width - tile.x)});
    }
    for (Lane& lane : lanes_) {
      lane.graph = std::make_unique<CudaGraph>();
      if (mapped_) continue;
      lane.frame = std::static_pointer_cast<std::uint8_t>(
          allocate(in.bytes(geometry.frame_height, geometry.frame_width)));
      lane.restored = std::static_pointer_cast<std::uint8_t>(
          allocate(out.bytes(geometry.scaled_height, geometry.scaled_width)));
    }
    packed_.reset();
    if (out.format != Format::rgb) {
      packed_ = std::static_pointer_cast<std::uint8_t>(allocate(geometry.scaled_size()));
    }
    sum_.reset();
    share_.reset();
    if (geometry.tiles.size() > 1) {
      share_ = array(tile_shares(geometry));
      sum_ = std::static_pointer_cast<float>(allocate(geometry.scaled_size() * sizeof(float)));
    }
  }

  void write(const float* from, std::size_t count, Element element, void* to) override {
    const Using device(options_.ordinal);
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

  void read(const void* from, std::size_t count, Element element, float* to) override {
    const Using device(options_.ordinal);
    ELIR_CUDA(cudaStreamSynchronize(compute()));
    if (element == Element::float32) {
      ELIR_CUDA(cudaMemcpy(to, from, count * sizeof(float), cudaMemcpyDeviceToHost));
      return;
    }
    std::vector<std::uint16_t> bits(count);
    ELIR_CUDA(cudaMemcpy(bits.data(), from, count * sizeof(std::uint16_t), cudaMemcpyDeviceToHost));
    for (std::size_t i = 0; i < count; ++i) {
      if (element == Element::float16) {
        __half_raw raw;
        raw.x = bits[i];
        to[i] = __half2float(__half(raw));
      } else {
        __nv_bfloat16_raw raw;
        raw.x = bits[i];
        to[i] = __bfloat162float(__nv_bfloat16(raw));
      }
    }
  }

  void copy(const void* from, void* to, std::size_t bytes) override {
    ELIR_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, compute()));
  }

  void load_frame(std::size_t tile, void* image) override {
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
    const Using device(options_.ordinal);
    const int width = geometry_.field_width();
    const dim3 grid{blocks(width), static_cast<unsigned>(geometry_.field_height()),
                    static_cast<unsigned>((geometry_.latent_channels + 3) / 4)};
    // The number comes from memory, so that a recording draws anew each time it is replayed.
    cuda::draw_noise<<<grid, kThreads, 0, compute()>>>(seed, frame == 0 ? nullptr : told_.get(),
                                                       geometry_.latent_channels, geometry_.field_height(),
                                                       width, field);
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

  void store_frame(const void* decoded, std::size_t tile) override {
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
      cuda::finish_tiles<<<blocks(pixels), kThreads, 0, compute()>>>(told_.get(), share_.get(), pixels,
                                                                     sum_.get(), packed_.get());
      check_launch("finish_tiles");
    }
    if (packed_) {
      const Target target = out_.target(nullptr, geometry_.scaled_height, geometry_.scaled_width);
      const dim3 grid{blocks(target.width), static_cast<unsigned>(target.height)};
      cuda::repack_frame<<<grid, kThreads, 0, compute()>>>(told_.get(), packed_.get(), target);
      check_launch("repack_frame");
    }
  }

  void begin(const Work& work, const std::function<void()>& stages) override {
    const Using device(options_.ordinal);
    Lane& lane = lanes_[begun_ % lanes_.size()];
    const bool copy_in = !work.frame_on_device && !mapped_;
    const bool copy_out = !work.restored_on_device && !mapped_;
    cuda::Told& told = *lane.told;
    told.frame = work.frame_on_device ? work.frame : (mapped_ ? in_place(work.frame) : lane.frame.get());
    told.pitch = static_cast<std::int64_t>(work.pitch);
    told.restored =
        work.restored_on_device ? work.restored : (mapped_ ? in_place(work.restored) : lane.restored.get());
    told.number = static_cast<std::uint32_t>(work.index) + 1U;
    try {
      if (copy_in) {
        ELIR_CUDA(cudaMemcpyAsync(lane.frame.get(), work.frame,
                                  in_.bytes(geometry_.frame_height, geometry_.frame_width),
                                  cudaMemcpyHostToDevice, upload_->get()));
      }
      lane.uploaded.record(upload_->get());
      lane.uploaded.hold_back(compute());
      compute_frame(lane, stages);
      lane.computed.record(compute());
      if (copy_out) {
        lane.computed.hold_back(download_->get());
        ELIR_CUDA(cudaMemcpyAsync(work.restored, lane.restored.get(),
                                  out_.bytes(geometry_.scaled_height, geometry_.scaled_width),
                                  cudaMemcpyDeviceToHost, download_->get()));
      }
      lane.done.record(copy_out ? download_->get() : compute());
    } catch (...) {
      // Nothing of this frame may be under way when its memory is used again.
      ELIR_CUDA_LOG(cudaStreamSynchronize(upload_->get()));
      ELIR_CUDA_LOG(cudaStreamSynchronize(compute()));
      ELIR_CUDA_LOG(cudaStreamSynchronize(download_->get()));
      throw;
    }
    ++begun_;
  }

  bool finish() override {
    const Using device(options_.ordinal);
    Lane& lane = lanes_[finished_ % lanes_.size()];
    ++finished_;
    lane.done.wait();
    return *lane.broken == 0;
  }

  std::string way() const override {
    if (!options_.record) return "called";
    return problem_.empty() ? "recorded" : "called: " + problem_;
  }

 private:
  // Frames under way: one is computed while the next is uploaded or the last is downloaded.
  static constexpr std::size_t kLanes = 2;

  // What a frame under way has to itself.
  struct Lane {
    std::shared_ptr<std::uint8_t> frame, restored;  // on the device, unless frames are mapped
    std::shared_ptr<cuda::Told> told;
    std::shared_ptr<int> broken;
    std::unique_ptr<CudaGraph> graph;
    CudaEvent uploaded, computed, done;
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

  cudaStream_t compute() const { return compute_->get(); }

  // The default stream's work is not ordered before ours, and small copies return before they are done.
  static void settle() { ELIR_CUDA(cudaStreamSynchronize(cudaStreamLegacy)); }

  template <typename T>
  std::shared_ptr<T> pinned(std::size_t count) {
    const Using device(options_.ordinal);
    void* memory = nullptr;
    const std::size_t bytes = std::max<std::size_t>(count, 1) * sizeof(T);
    ELIR_CUDA(cudaHostAlloc(&memory, bytes, cudaHostAllocPortable | cudaHostAllocMapped));
    std::memset(memory, 0, bytes);
    const int ordinal = options_.ordinal;
    return std::shared_ptr<T>(static_cast<T*>(memory), [ordinal](T* p) {
      const Using its_device(ordinal);
      ELIR_CUDA_LOG(cudaFreeHost(p));
    });
  }

  // Where the GPU sees a frame in memory of the CPU.
  template <typename T>
  static T* in_place(T* frame) {
    void* address = nullptr;
    ELIR_CUDA(cudaHostGetDevicePointer(&address, const_cast<std::uint8_t*>(frame), 0));
    return static_cast<T*>(address);
  }

  template <typename T>
  std::shared_ptr<T> array(const std::vector<T>& from) {
    auto memory = std::static_pointer_cast<T>(allocate(from.size() * sizeof(T)));
    ELIR_CUDA(cudaMemcpy(memory.get(), from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice));
    settle();
    return memory;
  }

  AxisTaps upload(const Taps& taps) { return {array(taps.first), array(taps.weight), taps.count}; }

  void compute_frame(Lane& lane, const std::function<void()>& stages) {
    if (*lane.graph) {
      lane.graph->launch(compute());
    } else if (options_.record && problem_.empty() && called_) {
      record(lane, stages);
    } else {
      // The first frame is called: engines may set themselves up, which cannot be recorded.
      call(lane, stages);
      called_ = true;
    }
  }

  // Everything of a frame that the compute stream does.
  void call(const Lane& lane, const std::function<void()>& stages) {
    ELIR_CUDA(
        cudaMemcpyAsync(told_.get(), lane.told.get(), sizeof(cuda::Told), cudaMemcpyHostToDevice, compute()));
    ELIR_CUDA(cudaMemsetAsync(broken_.get(), 0, sizeof(int), compute()));
    if (sum_) ELIR_CUDA(cudaMemsetAsync(sum_.get(), 0, geometry_.scaled_size() * sizeof(float), compute()));
    stages();
    ELIR_CUDA(
        cudaMemcpyAsync(lane.broken.get(), broken_.get(), sizeof(int), cudaMemcpyDeviceToHost, compute()));
  }

  // Record the lane's frame and launch the recording. Where that fails, frames are called from then on.
  void record(const Lane& lane, const std::function<void()>& stages) {
    cudaGraph_t recorded = nullptr;
    std::string problem;
    ELIR_CUDA(cudaStreamBeginCapture(compute(), cudaStreamCaptureModeThreadLocal));
    try {
      call(lane, stages);
    } catch (const std::exception& error) {
      problem = error.what();
    }
    const cudaError_t ended = cudaStreamEndCapture(compute(), &recorded);
    if (problem.empty() && ended != cudaSuccess) problem = cuda_message("cudaStreamEndCapture", ended);
    if (problem.empty()) {
      try {
        lane.graph->instantiate(recorded);
      } catch (const std::exception& error) {
        problem = error.what();
      }
    }
    if (recorded != nullptr) ELIR_CUDA_LOG(cudaGraphDestroy(recorded));
    if (problem.empty()) {
      lane.graph->launch(compute());
      return;
    }
    // The failure of a capture stays as the last error; it is told by `way`.
    static_cast<void>(cudaGetLastError());
    problem_ = problem;
    call(lane, stages);
  }

  template <typename T>
  void load(std::size_t tile, T* image) {
    switch (in_.format) {
      case Format::rgb:
        return load<T, Format::rgb>(tile, image);
      case Format::rgba:
        return load<T, Format::rgba>(tile, image);
      case Format::gray:
        return load<T, Format::gray>(tile, image);
      case Format::nv12:
        return load<T, Format::nv12>(tile, image);
    }
  }

  template <typename T, Format format>
  void load(std::size_t tile, T* image) {
    const TileTables& tables = tiles_[tile];
    const Source source = in_.source(nullptr, geometry_.frame_height, geometry_.frame_width);
    cuda::load_frame<T, format>
        <<<rows_of_four(geometry_.engine_width, geometry_.engine_height), kThreads, 0, compute()>>>(
            told_.get(), source, tables.rows.view(), tables.columns.view(), geometry_.engine_height,
            geometry_.engine_width, image);
    check_launch("load_frame");
  }

  template <typename T>
  void start(const T* coarse, const float* field, float sigma, std::size_t tile, float* state, void* latent) {
    const int height = geometry_.latent_height();
    const int width = geometry_.latent_width();
    T* narrowed = latent == static_cast<void*>(state) ? nullptr : static_cast<T*>(latent);
    cuda::start_latent<<<rows_of_four(width, height, geometry_.latent_channels), kThreads, 0, compute()>>>(
        coarse, field, sigma, geometry_.field_height(), geometry_.field_width(),
        geometry_.tiles[tile].y / geometry_.downscale, geometry_.tiles[tile].x / geometry_.downscale, height,
        width, state, narrowed);
    check_launch("start_latent");
  }

  template <typename T>
  void advance(const T* velocity, float step, float* state, void* latent) {
    const auto size = static_cast<std::int64_t>(geometry_.latent_size());
    T* narrowed = latent == static_cast<void*>(state) ? nullptr : static_cast<T*>(latent);
    cuda::step_latent<<<blocks((size + kWide - 1) / kWide), kThreads, 0, compute()>>>(velocity, step, size,
                                                                                      state, narrowed);
    check_launch("step_latent");
  }

  template <typename T>
  void store(const T* decoded, std::size_t tile) {
    const TileTables& tables = tiles_[tile];
    const bool blue_first = out_.format == Format::rgb && out_.blue_first;
    cuda::store_frame<<<rows_of_four(tables.width, tables.height), kThreads, 0, compute()>>>(
        told_.get(), decoded, tables.height, tables.width, geometry_.engine_height, geometry_.engine_width,
        geometry_.tiles[tile].y, geometry_.tiles[tile].x, geometry_.scaled_width, blue_first, packed_.get(),
        sum_.get(), broken_.get());
    check_launch("store_frame");
  }

  CudaOptions options_;
  bool mapped_ = false;
  std::unique_ptr<CudaStream> upload_, compute_, download_;
  std::shared_ptr<Results> results_;
  std::vector<Lane> lanes_;
  std::size_t begun_ = 0, finished_ = 0;
  std::shared_ptr<cuda::Told> told_;
  std::shared_ptr<int> broken_;
  Geometry geometry_{};
  Pixels in_, out_;
  std::vector<TileTables> tiles_;
  std::shared_ptr<std::uint8_t> packed_;
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
