#include "stages.hpp"

#include <algorithm>

#include "ranges.hpp"

namespace elir::cuda {

void CudaStages::prepare(const Transfers& transfers, const Geometry& geometry, const Pixels& in,
                         const Pixels& out) {
  geometry_ = geometry;
  in_ = in;
  out_ = out;
  const auto upload = [&](const Taps& taps) {
    return AxisTaps{transfers.array(taps.first), transfers.array(taps.weight), taps.count};
  };
  tiles_.clear();
  for (const Tile& tile : geometry.tiles) {
    tiles_.push_back({upload(make_taps(tile.y, geometry.engine_height, geometry.scaled_height,
                                       geometry.frame_height, geometry.scale_y, geometry.nearest)),
                      upload(make_taps(tile.x, geometry.engine_width, geometry.scaled_width,
                                       geometry.frame_width, geometry.scale_x, geometry.nearest)),
                      std::min(geometry.engine_height, geometry.scaled_height - tile.y),
                      std::min(geometry.engine_width, geometry.scaled_width - tile.x), nullptr, nullptr});
    if (geometry.tiles.size() == 1) continue;
    const BlendRamps ramps = blend_ramps(geometry, tile);
    tiles_.back().row_ramp = transfers.array(ramps.rows);
    tiles_.back().column_ramp = transfers.array(ramps.columns);
  }
  mixed_.reset();
  if (rereads_frames()) {
    mixed_ = std::static_pointer_cast<float>(transfers.allocate_zeros(
        3 * std::size_t(geometry.engine_height) * std::size_t(geometry.frame_width) * sizeof(float)));
  }
  sum_.reset();
  blend_weights_.reset();
  if (geometry.tiles.size() > 1) {
    blend_weights_ = transfers.array(blend_weights(geometry));
    sum_ = std::static_pointer_cast<float>(transfers.allocate_zeros(geometry.scaled_size() * sizeof(float)));
  }
}

bool CudaStages::rereads_frames() const {
  return tiles_.front().rows.count > 1 || tiles_.front().columns.count > 1;
}

void CudaStages::load_frame(std::size_t tile, void* image) const {
  const Range range("load");
  const TileTables& tables = tiles_[tile];
  launch_load(stream_, element_, params_, in_.format, make_source(in_, {}),
              {tables.rows.view(), tables.columns.view(), geometry_.engine_height, geometry_.engine_width,
               geometry_.frame_width},
              mixed_.get(), image);
}

void CudaStages::draw_noise(std::uint64_t seed, std::uint32_t frame, float* field) const {
  const Range range("noise");
  // The number comes from memory, so that a recording draws anew each time it is replayed.
  launch_draw_noise(stream_, seed, frame == 0 ? nullptr : params_, geometry_.latent_channels,
                    geometry_.field_height(), geometry_.field_width(), field);
}

void CudaStages::start_latent(const void* coarse, const float* field, float sigma, std::size_t tile,
                              float* latent_fp32, void* latent, const ConditionRow& next) const {
  const Range range("start");
  const NoiseView noise{sigma == 0.0F ? nullptr : field, geometry_.field_height(), geometry_.field_width(),
                        geometry_.tiles[tile].y / geometry_.downscale,
                        geometry_.tiles[tile].x / geometry_.downscale};
  const LatentShape shape{geometry_.latent_channels, geometry_.latent_height(), geometry_.latent_width()};
  launch_start(stream_, element_, coarse, sigma, noise, shape, latent_fp32,
               latent == latent_fp32 ? nullptr : latent, next);
}

void CudaStages::euler_step(const void* velocity, float step, std::size_t tiles, float* latent_fp32,
                            void* latent, const ConditionRow& next) const {
  const Range range("step");
  launch_step(stream_, element_, velocity, step, static_cast<std::int64_t>(tiles * geometry_.latent_size()),
              latent_fp32, latent == latent_fp32 ? nullptr : latent, next);
}

void CudaStages::average_over_time(const void* images, void* decoded, TileRun run, float* state,
                                   float* maps) const {
  const Range range("temporal");
  const TemporalShape shape(geometry_.engine_height, geometry_.engine_width);
  const auto before = static_cast<std::ptrdiff_t>(run.tiles[0] * kTemporalPlanes) * shape.plane();
  launch_average_over_time(stream_, element_, shape, run.count, images, decoded, state + before, maps);
}

void CudaStages::store_frame(const void* decoded, std::size_t tile) const {
  const Range range("store");
  const TileTables& tables = tiles_[tile];
  const StoreView view{tables.height,           tables.width,
                       geometry_.engine_height, geometry_.engine_width,
                       geometry_.tiles[tile].y, geometry_.tiles[tile].x,
                       geometry_.scaled_height, geometry_.scaled_width,
                       tables.row_ramp.get(),   tables.column_ramp.get()};
  const Target target = make_target(out_, nullptr, geometry_.scaled_height, geometry_.scaled_width);
  if (!sum_) return launch_store(stream_, element_, params_, out_.format, decoded, view, target);
  launch_add_tile(stream_, element_, params_, decoded, view, sum_.get());
  if (tile + 1 == tiles_.size()) {
    launch_blend_tiles(stream_, params_, out_.format, blend_weights_.get(), sum_.get(), target);
  }
}

void CudaStages::clear_sums() const noexcept {
  if (!sum_) return;
  ELIR_CUDA_LOG(cudaMemsetAsync(sum_.get(), 0, geometry_.scaled_size() * sizeof(float), stream_));
}

}  // namespace elir::cuda
