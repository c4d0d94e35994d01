// The host device: the stages as loops.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "../device.hpp"
#include "../kernels.hpp"
#include "still.hpp"
#include "temporal.hpp"

namespace elir {

namespace {

// Engines want their tensors on cache lines.
constexpr std::size_t kAlignment = 64;

struct TileTables {
  Taps rows;
  Taps columns;
  int height;  // of the part inside the scaled frame
  int width;
  BlendRamps ramps;  // of several tiles
};

class HostDevice final : public Device {
 public:
  const char* name() const override { return "cpu"; }

  std::uintptr_t stream_handle() const override { return 0; }

  Element element() const override { return Element::float32; }

  Memory allocate(std::size_t bytes) override {
    return Memory(zeroed(bytes), [](void* p) { std::free(p); });
  }

  FrameMemory allocate_frame(std::size_t bytes) override {
    return FrameMemory(static_cast<std::uint8_t*>(zeroed(bytes)), [](std::uint8_t* p) { std::free(p); });
  }

  void write(const float* from, std::size_t count, Element element, void* to) override {
    if (element != Element::float32) throw std::invalid_argument("the host device has float32 alone");
    std::memcpy(to, from, count * sizeof(float));
  }

  void read(const void* from, std::size_t count, Element, float* to) override {
    std::memcpy(to, from, count * sizeof(float));
  }

  void copy(const void* from, void* to, std::size_t bytes) override { std::memcpy(to, from, bytes); }

  void prepare(const Geometry& geometry, const Pixels& in, const Pixels& out) override {
    geometry_ = geometry;
    in_ = in;
    out_ = out;
    // Frames that are not red, green and blue side by side pass through memory where they are.
    red_in_ = in.is_rgb() && in.format.blue_first ? 2 : 0;
    red_out_ = out.is_rgb() && out.format.blue_first ? 2 : 0;
    const auto frame_size = std::size_t(geometry.frame_height) * std::size_t(geometry.frame_width) * 3;
    unpacked_ = in.is_rgb() ? nullptr : allocate(frame_size * std::size_t(in.format.word()));
    packed_ = out.is_rgb() ? nullptr : allocate(geometry.scaled_size() * std::size_t(out.format.word()));
    tables_.clear();
    for (const Tile& tile : geometry.tiles) {
      tables_.push_back({make_taps(tile.y, geometry.engine_height, geometry.scaled_height,
                                   geometry.frame_height, geometry.scale_y, geometry.nearest),
                         make_taps(tile.x, geometry.engine_width, geometry.scaled_width, geometry.frame_width,
                                   geometry.scale_x, geometry.nearest),
                         std::min(geometry.engine_height, geometry.scaled_height - tile.y),
                         std::min(geometry.engine_width, geometry.scaled_width - tile.x),
                         geometry.tiles.size() > 1 ? blend_ramps(geometry, tile) : BlendRamps{}});
    }
    row_.resize(std::size_t(geometry.frame_width) * 3);
    if (geometry.tiles.size() > 1) {
      // Below the top of a tile no tile before it adds anything, where tiles come from top to bottom: then as
      // many rows as a tile has are in work at a time.
      top_down_ = std::is_sorted(geometry.tiles.begin(), geometry.tiles.end(),
                                 [](const Tile& a, const Tile& b) { return a.y < b.y; });
      sum_rows_ =
          top_down_ ? std::min(geometry.engine_height, geometry.scaled_height) : geometry.scaled_height;
      sum_.assign(std::size_t(sum_rows_) * std::size_t(geometry.scaled_width) * 3, 0.0F);
      weights_.resize(std::size_t(geometry.scaled_width));
    }
  }

  void load_frame(TileRun run, void* images) override {
    if (!in_.is_rgb() && !is_unpacked_) unpack();
    is_unpacked_ = true;
    with_word(in_.format, [&](auto* word) {
      using Word = std::remove_pointer_t<decltype(word)>;
      run.each([&](std::size_t place, std::size_t tile) {
        load_tile<Word>(tile, static_cast<float*>(images) + place * geometry_.image_size());
      });
    });
  }

  void draw_noise(std::uint64_t seed, std::uint32_t frame, float* field) override {
    const int height = geometry_.field_height();
    const int width = geometry_.field_width();
    const std::ptrdiff_t plane = std::ptrdiff_t(height) * width;
    for (int group = 0; 4 * group < geometry_.latent_channels; ++group) {
      const int used = std::min(4, geometry_.latent_channels - 4 * group);
      for (int y = 0; y < height; ++y) {
        float* out = field + 4 * group * plane + std::ptrdiff_t(y) * width;
        for (int x = 0; x < width; ++x) {
          const Normals drawn =
              normals(seed, std::uint32_t(x), std::uint32_t(y), std::uint32_t(group), frame);
          for (int k = 0; k < used; ++k) out[k * plane + x] = drawn.v[k];
        }
      }
    }
  }

  void start_latent(const void* from, const float* field, float sigma, TileRun run, float* latent_fp32,
                    void* latent, const ConditionRow& next) override {
    copy_row(next);
    const auto* coarse = static_cast<const float*>(from);
    const std::size_t size = geometry_.latent_size();
    if (field == nullptr || sigma == 0.0F) {
      std::memcpy(latent_fp32, coarse, run.count * size * sizeof(float));
    } else {
      run.each([&](std::size_t place, std::size_t tile) {
        add_noise(coarse + place * size, field, sigma, tile, latent_fp32 + place * size);
      });
    }
    if (latent != latent_fp32) std::memcpy(latent, latent_fp32, run.count * size * sizeof(float));
  }

  void euler_step(const void* from, float step, std::size_t tiles, float* latent_fp32, void* latent,
                  const ConditionRow& next) override {
    copy_row(next);
    const auto* velocity = static_cast<const float*>(from);
    const std::size_t count = tiles * geometry_.latent_size();
    for (std::size_t i = 0; i < count; ++i) {
      latent_fp32[i] = elir::euler_step(latent_fp32[i], velocity[i], step);
    }
    if (latent != latent_fp32) std::memcpy(latent, latent_fp32, count * sizeof(float));
  }

  void average_over_time(const void* images, void* decoded, TileRun run, float* state, float* maps) override {
    const TemporalShape shape(geometry_.engine_height, geometry_.engine_width);
    const std::size_t size = geometry_.image_size();
    run.each([&](std::size_t place, std::size_t tile) {
      average_.tile(shape, static_cast<const float*>(images) + place * size,
                    static_cast<float*>(decoded) + place * size,
                    state + tile * kTemporalPlanes * static_cast<std::size_t>(shape.plane()), maps);
    });
  }

  void prepare_still(const StillPlan& plan) override { kept_inputs_.prepare(plan); }

  void compare_inputs(const FrameJob& job, std::uint8_t* changed) override {
    kept_inputs_.compare(job.params.place.frame, changed);
  }

  void keep_inputs(const FrameJob& job, const std::vector<bool>& tiles) override {
    kept_inputs_.keep(job.params.place.frame, tiles);
  }

  void store_frame(const void* from, TileRun run) override {
    const auto* decoded = static_cast<const float*>(from);
    const bool last = run.tiles[run.count - 1] + 1 == geometry_.tiles.size();
    with_word(out_.format, [&](auto* word) {
      using Word = std::remove_pointer_t<decltype(word)>;
      void* memory = out_.is_rgb() ? place_.restored : packed_.get();
      auto* frame = static_cast<Word*>(memory);
      run.each([&](std::size_t place, std::size_t tile) {
        if (top_down_) blend_rows(geometry_.tiles[tile].y, frame);
        finite_ = store_tile(decoded + place * geometry_.image_size(), tile, frame) && finite_;
      });
      if (last && geometry_.tiles.size() > 1) blend_rows(geometry_.scaled_height, frame);
    });
    if (last && !out_.is_rgb()) pack();
  }

  void begin(const FrameJob& job, const std::function<void()>& stages) override {
    place_ = job.params.place;
    finite_ = true;
    is_unpacked_ = false;
    blended_rows_ = 0;
    try {
      stages();
    } catch (...) {
      std::fill(sum_.begin(), sum_.end(), 0.0F);
      throw;
    }
  }

  bool finish() override { return finite_; }

 private:
  template <typename Word>
  void load_tile(std::size_t tile, float* image) {
    const void* memory = in_.is_rgb() ? place_.frame.data[0] : unpacked_.get();
    const auto* frame = static_cast<const Word*>(memory);
    const TileTables& table = tables_[tile];
    const std::ptrdiff_t stride = in_.is_rgb() ? place_.frame.pitch[0] / std::ptrdiff_t(sizeof(Word))
                                               : std::ptrdiff_t(geometry_.frame_width) * 3;
    const int width = geometry_.engine_width;
    const std::ptrdiff_t plane = std::ptrdiff_t(geometry_.engine_height) * width;
    for (int y = 0; y < geometry_.engine_height; ++y) {
      float* out = image + std::ptrdiff_t(y) * width;
      const Word* source = frame + table.rows.first[std::size_t(y)] * stride;
      if (table.rows.count == 1 && table.columns.count == 1) {
        copy_row(source, table.columns.first.data(), out, plane);
        continue;
      }
      mix_rows(source, stride, table.rows, y);
      for (int channel = 0; channel < 3; ++channel) {
        mix_columns(row_.data() + (channel == 1 ? 1 : (channel == 0 ? red_in_ : 2 - red_in_)), table.columns,
                    out + channel * plane);
      }
    }
  }

  // False if a value of the tile is not finite.
  template <typename Word>
  bool store_tile(const float* decoded, std::size_t tile, Word* frame) {
    const TileTables& table = tables_[tile];
    const int width = geometry_.engine_width;
    const std::ptrdiff_t plane = std::ptrdiff_t(geometry_.engine_height) * width;
    const std::ptrdiff_t stride = std::ptrdiff_t(geometry_.scaled_width) * 3;
    const bool single = geometry_.tiles.size() == 1;
    bool finite = true;
    for (int y = 0; y < table.height; ++y) {
      const float* r = decoded + std::ptrdiff_t(y) * width;
      const float* g = r + plane;
      const float* b = g + plane;
      finite = row_is_finite(r, table.width) && row_is_finite(g, table.width) &&
               row_is_finite(b, table.width) && finite;
      const int row = geometry_.tiles[tile].y + y;
      const std::ptrdiff_t left = std::ptrdiff_t(geometry_.tiles[tile].x) * 3;
      if (single) {
        Word* out = frame + row * stride + left;
        for (int x = 0; x < table.width; ++x) {
          out[3 * x + red_out_] = to_word<Word>(r[x]);
          out[3 * x + 1] = to_word<Word>(g[x]);
          out[3 * x + 2 - red_out_] = to_word<Word>(b[x]);
        }
      } else {
        float* out = sum_.data() + (row % sum_rows_) * stride + geometry_.tiles[tile].x;
        const float* ramp = table.ramps.columns.data();
        const float over = table.ramps.rows[std::size_t(y)];
        for (const float* channel : {r, g, b}) {
          for (int x = 0; x < table.width; ++x) out[x] += over * ramp[x] * clip_unit(channel[x]);
          out += geometry_.scaled_width;
        }
      }
    }
    return finite;
  }

  static void copy_row(const ConditionRow& row) {
    if (row.bytes > 0) std::memcpy(row.to, row.from, row.bytes);
  }

  // The frame as red, green and blue side by side.
  void unpack() {
    const Source source = make_source(in_, place_.frame);
    with_storage(in_.format, [&](auto layout, auto* word) {
      using Word = std::remove_pointer_t<decltype(word)>;
      auto* out = static_cast<Word*>(unpacked_.get());
      for (int y = 0; y < geometry_.frame_height; ++y) {
        for (int x = 0; x < geometry_.frame_width; ++x) {
          const Rgb<Word> pixel = fetch<decltype(layout)::layout, Word>(source, y, x);
          for (int c = 0; c < 3; ++c) *out++ = pixel.v[c];
        }
      }
    });
  }

  void pack() const {
    const Target target = make_target(out_, place_.restored, geometry_.scaled_height, geometry_.scaled_width);
    with_storage(out_.format, [&](auto layout, auto* word) {
      using Word = std::remove_pointer_t<decltype(word)>;
      const auto* packed = static_cast<const Word*>(packed_.get());
      for (int y = 0; y < target.height; ++y) {
        for (int x = 0; x < target.width; ++x) repack<decltype(layout)::layout>(packed, y, x, target);
      }
    });
  }

  static void* zeroed(std::size_t bytes) {
    const std::size_t size = (std::max<std::size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
    void* memory = std::aligned_alloc(kAlignment, size);
    if (memory == nullptr) throw std::bad_alloc();
    std::memset(memory, 0, size);
    return memory;
  }

  void add_noise(const float* coarse, const float* field, float sigma, std::size_t tile,
                 float* latent_fp32) const {
    const int height = geometry_.latent_height();
    const int width = geometry_.latent_width();
    const std::ptrdiff_t field_width = geometry_.field_width();
    const std::ptrdiff_t plane = std::ptrdiff_t(geometry_.field_height()) * field_width;
    const int top = geometry_.tiles[tile].y / geometry_.downscale;
    const int left = geometry_.tiles[tile].x / geometry_.downscale;
    for (int channel = 0; channel < geometry_.latent_channels; ++channel) {
      for (int y = 0; y < height; ++y) {
        const float* noise = field + channel * plane + (top + y) * field_width + left;
        const std::ptrdiff_t at = (std::ptrdiff_t(channel) * height + y) * width;
        for (int x = 0; x < width; ++x) latent_fp32[at + x] = coarse[at + x] + sigma * noise[x];
      }
    }
  }

  template <typename Word>
  void copy_row(const Word* source, const int* columns, float* out, std::ptrdiff_t plane) const {
    for (int x = 0; x < geometry_.engine_width; ++x) {
      const Word* pixel = source + std::ptrdiff_t(columns[x]) * 3;
      out[x] = from_word(pixel[red_in_]);
      out[plane + x] = from_word(pixel[1]);
      out[2 * plane + x] = from_word(pixel[2 - red_in_]);
    }
  }

  // One row of the frame, as it is at output row y: packed, in [0, 1] but for overshoot.
  template <typename Word>
  void mix_rows(const Word* source, std::ptrdiff_t stride, const Taps& taps, int y) {
    const float* weight = taps.weight.data() + std::ptrdiff_t(y) * taps.count;
    std::fill(row_.begin(), row_.end(), 0.0F);
    for (int k = 0; k < taps.count; ++k) {
      if (weight[k] == 0.0F) continue;
      const Word* pixels = source + k * stride;
      for (std::size_t i = 0; i < row_.size(); ++i) row_[i] += weight[k] * from_word(pixels[i]);
    }
  }

  void mix_columns(const float* row, const Taps& taps, float* out) const {
    for (int x = 0; x < geometry_.engine_width; ++x) {
      const float* weight = taps.weight.data() + std::ptrdiff_t(x) * taps.count;
      const float* pixels = row + std::ptrdiff_t(taps.first[std::size_t(x)]) * 3;
      float sum = 0.0F;
      for (int k = 0; k < taps.count; ++k) sum += weight[k] * pixels[3 * k];
      out[x] = clip_unit(sum);
    }
  }

  static bool row_is_finite(const float* row, int width) {
    float sum = 0.0F;
    // x - x is 0 for finite numbers, NaN for the others, and NaN stays in a sum.
    for (int x = 0; x < width; ++x) sum += row[x] - row[x];
    return sum == 0.0F;
  }

  // Finish the rows of the frame down to `end`: sums over what the tiles there count.
  template <typename Word>
  void blend_rows(int end, Word* frame) {
    const std::size_t width = weights_.size();
    for (; blended_rows_ < end; ++blended_rows_) {
      sum_weights(blended_rows_);
      float* sum = sum_.data() + std::size_t(blended_rows_ % sum_rows_) * width * 3;
      const float* red = sum + std::size_t(red_out_) * width;
      const float* green = sum + width;
      const float* blue = sum + std::size_t(2 - red_out_) * width;
      Word* out = frame + std::size_t(blended_rows_) * width * 3;
      for (std::size_t x = 0; x < width; ++x) {
        const auto weight = static_cast<float>(1.0 / weights_[x]);
        out[3 * x] = to_word<Word>(red[x] * weight);
        out[3 * x + 1] = to_word<Word>(green[x] * weight);
        out[3 * x + 2] = to_word<Word>(blue[x] * weight);
      }
      std::fill(sum, sum + width * 3, 0.0F);
    }
  }

  // What the tiles over a row count together; as `elir::blend_weights`, row by row.
  void sum_weights(int row) {
    std::fill(weights_.begin(), weights_.end(), 0.0);
    for (std::size_t tile = 0; tile < tables_.size(); ++tile) {
      const int y = row - geometry_.tiles[tile].y;
      if (y < 0 || y >= tables_[tile].height) continue;
      const BlendRamps& ramps = tables_[tile].ramps;
      const float over = ramps.rows[std::size_t(y)];
      double* weights = weights_.data() + geometry_.tiles[tile].x;
      for (std::size_t x = 0; x < ramps.columns.size(); ++x) weights[x] += double(over * ramps.columns[x]);
    }
  }

  Geometry geometry_{};
  Pixels in_, out_;
  int red_in_ = 0, red_out_ = 0;
  FramePlace place_;
  Memory unpacked_, packed_;  // red, green and blue side by side, where frames are stored otherwise
  bool is_unpacked_ = false;
  std::vector<TileTables> tables_;
  std::vector<float> row_;
  // Of several tiles: sums of the rows in work, three planes of each, row y at y modulo `sum_rows_`, and how
  // many rows are finished.
  std::vector<float> sum_;
  int sum_rows_ = 1, blended_rows_ = 0;
  bool top_down_ = false;
  std::vector<double> weights_;  // of one row
  host::TemporalAverage average_;
  host::KeptInputs kept_inputs_;
  bool finite_ = true;
};

}  // namespace

std::unique_ptr<Device> make_host_device() {
  return std::make_unique<HostDevice>();
}

}  // namespace elir
