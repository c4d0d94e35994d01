#include "pipeline.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "temporal.hpp"

namespace elir {

namespace {

using Clock = std::chrono::steady_clock;

float milliseconds(Clock::time_point from) {
  return std::chrono::duration<float, std::milli>(Clock::now() - from).count();
}

constexpr const char* kStageNames[kStages] = {"still",    "load",   "encoder", "coarse", "start",
                                              "velocity", "step",   "decoder", "direct", "temporal",
                                              "store",    "launch", "total"};

}  // namespace

const char* stage_name(std::size_t stage) {
  return kStageNames[stage];
}

Pipeline::Pipeline(std::unique_ptr<Device> device, Geometry geometry, PipelineOptions options)
    : device_(std::move(device)), geometry_(std::move(geometry)), options_(std::move(options)) {
  geometry_.check();
  options_.check();
  max_steps_ = options_.max_steps();
  options_.in.check("frame", geometry_.frame_height, geometry_.frame_width);
  options_.out.check("restored frame", geometry_.scaled_height, geometry_.scaled_width);
  const auto size = [](int n) { return static_cast<std::size_t>(n); };
  const std::vector<std::size_t> image = {options_.batch, 3, size(geometry_.engine_height),
                                          size(geometry_.engine_width)};
  const std::vector<std::size_t> latent = {options_.batch, size(geometry_.latent_channels),
                                           size(geometry_.latent_height()), size(geometry_.latent_width())};
  add_buffer("image", image);
  add_buffer("encoded", latent);
  add_buffer("coarse", latent);
  add_buffer("latent", latent);
  add_buffer("condition", {1, options_.condition_width});
  add_buffer("velocity", latent);
  add_buffer("decoded", image);
  image_ = data("image");
  coarse_ = data("coarse");
  latent_ = data("latent");
  condition_ = data("condition");
  velocity_ = data("velocity");
  decoded_ = data("decoded");
  if (max_steps_ == 0 || options_.sigma == 0.0F) options_.noise = Noise::off;
  // The latent that steps add to is float32; engines of another type read a copy of it.
  latent_fp32_ = device_->element() == Element::float32
                     ? buffer("latent").memory
                     : device_->allocate(options_.batch * geometry_.latent_size() * sizeof(float));
  table_ = device_->allocate(options_.table.size() * element_size(device_->element()));
  if (!options_.table.empty()) {
    device_->write(options_.table.data(), options_.table.size(), device_->element(), table_.get());
  }
  if (options_.still) {
    still_.emplace(geometry_.tiles.size(), *options_.still, options_.still_equal_steps);
    options_.keep_tiles = true;
  }
  if (options_.keep_tiles) {
    kept_ =
        device_->allocate(geometry_.tiles.size() * geometry_.image_size() * element_size(device_->element()));
  }
  if (options_.average_over_time) {
    const TemporalShape shape(geometry_.engine_height, geometry_.engine_width);
    temporal_state_ = device_->allocate(temporal_numbers() * sizeof(float));
    temporal_maps_ = device_->allocate(options_.batch * kTemporalMaps *
                                       static_cast<std::size_t>(shape.blocks()) * sizeof(float));
  }
  restored_.assign(geometry_.tiles.size(), false);
  in_order_.resize(geometry_.tiles.size());
  std::iota(in_order_.begin(), in_order_.end(), std::size_t{0});
  // The CPU is given the field when a frame takes a step: without steps it is the largest part of large
  // frames.
  if (options_.steps > 0 || !device_->is_synchronous()) need_field();
  device_->prepare(geometry_, options_.in, options_.out);
  if (still_) device_->prepare_still(StillPlan(geometry_, options_.in, *options_.still));
}

Pipeline::~Pipeline() {
  try {
    device_->synchronize();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "elir_trt: %s\n", error.what());
  }
}

std::size_t Pipeline::field_size() const {
  return std::size_t(geometry_.latent_channels) * std::size_t(geometry_.field_height()) *
         std::size_t(geometry_.field_width());
}

void Pipeline::need_field() {
  if (options_.noise != Noise::off && !field_) field_ = device_->allocate(field_size() * sizeof(float));
}

void Pipeline::draw_field() {
  if (options_.noise == Noise::fixed && field_ && !own_field_) {
    device_->draw_noise(options_.seed, 0, static_cast<float*>(field_.get()));
  }
}

void Pipeline::start() {
  if (!parts_.encoder || !parts_.coarse || !parts_.decoder || (max_steps_ > 0 && !parts_.velocity)) {
    throw std::logic_error("start: a part is missing; set encoder, coarse, velocity and decoder first");
  }
  draw_field();
}

template <typename Call>
void Pipeline::timed(Stage stage, StageTimes& times, Call&& call) {
  const Clock::time_point began = Clock::now();
  try {
    call();
  } catch (const std::exception& error) {
    throw StageError(stage, error.what());
  }
  if (device_->is_synchronous()) times[static_cast<std::size_t>(stage)] += milliseconds(began);
}

void Pipeline::look(const FrameJob& job, StageTimes& times) {
  times.fill(0.0F);
  if (!still_) return;
  timed(Stage::still, times, [&] {
    still_->count_frame();
    device_->compare_inputs(job, still_->changed());
  });
}

void Pipeline::take_still(FrameJob& job) {
  if (!still_ || job.params.unrestored) return;
  std::vector<bool> restored(in_order_.size(), false);
  job.params.reused.assign(in_order_.size(), false);
  job.reused = 0;
  for (const std::size_t tile : in_order_) {
    const bool reused = still_->reuses(tile, job.params.steps);
    job.params.reused[tile] = reused;
    restored[tile] = !reused;
    if (reused) {
      ++job.reused;
      still_->taken(tile);
    } else {
      still_->begun(tile);
    }
  }
  device_->keep_inputs(job, restored);
}

void Pipeline::forget_restored() {
  restored_.assign(restored_.size(), false);
  if (still_) still_->forget();
}

void Pipeline::begin(FrameJob& job, StageTimes& times) {
  const Clock::time_point began = Clock::now();
  if (!still_)
    job.reused =
        static_cast<std::size_t>(std::count(job.params.reused.begin(), job.params.reused.end(), true));
  for (std::size_t tile = 0; tile < restored_.size(); ++tile) {
    if (still_ || !job.params.reuses(tile) || restored_[tile]) continue;
    throw StageError(Stage::store, "tile " + std::to_string(tile) +
                                       " is to be reused, and no frame before this one restored it");
  }
  try {
    if (job.params.steps > 0 && options_.noise != Noise::off && !field_) {
      need_field();
      draw_field();
    }
    take_still(job);
    device_->begin(job, [&] { stages(job, times); });
  } catch (const OutOfTime&) {
    // Of still regions those tiles are kept that are done.
    restored_.assign(restored_.size(), false);
    throw;
  } catch (const StageError&) {
    forget_restored();
    throw;
  } catch (const std::exception& error) {
    forget_restored();
    throw StageError(Stage::total, error.what());
  }
  restored_.assign(restored_.size(), options_.keep_tiles && !job.params.unrestored);
  if (still_ && !job.params.unrestored) {
    for (const std::size_t tile : in_order_) {
      if (!job.params.reused[tile]) still_->restored(tile, job.params.steps);
    }
  }
  const float took = milliseconds(began);
  times[static_cast<std::size_t>(Stage::total)] = took + times[static_cast<std::size_t>(Stage::still)];
  if (!device_->is_synchronous()) times[static_cast<std::size_t>(Stage::launch)] = took;
}

void Pipeline::finish(StageTimes& times) {
  const Clock::time_point began = Clock::now();
  bool finite = false;
  try {
    finite = device_->finish();
  } catch (const std::exception& error) {
    forget_restored();
    throw StageError(Stage::total, error.what());
  }
  times[static_cast<std::size_t>(Stage::total)] += milliseconds(began);
  if (finite) return;
  forget_restored();
  throw StageError(Stage::decoder, "the output holds NaN or infinity");
}

FrameParams Pipeline::params(std::uint64_t index, std::optional<int> steps,
                             const std::vector<std::size_t>& reused) const {
  FrameParams params;
  params.steps = steps.value_or(options_.steps);
  if (params.steps < 0 || params.steps > max_steps_) {
    throw std::invalid_argument("steps is " + std::to_string(params.steps) + "; this stream allows 0 to " +
                                std::to_string(max_steps_));
  }
  if (options_.noise == Noise::per_frame) {
    params.noise_number = static_cast<std::uint32_t>((index + options_.frames_before) % 0xFFFFFFFFU) + 1U;
  }
  if (reused.empty()) return params;
  if (options_.still) {
    throw std::invalid_argument("reuse is of a stream that finds still regions itself; expected still None");
  }
  if (!options_.keep_tiles) {
    throw std::invalid_argument("reuse is of a stream that keeps no tiles; expected keep_tiles");
  }
  params.reused.assign(geometry_.tiles.size(), false);
  for (const std::size_t tile : reused) {
    if (tile >= params.reused.size()) {
      throw std::invalid_argument("reuse has tile " + std::to_string(tile) + "; this stream has " +
                                  std::to_string(params.reused.size()));
    }
    params.reused[tile] = true;
  }
  return params;
}

void Pipeline::stages(FrameJob& job, StageTimes& times) {
  FrameParams& params = job.params;
  if (params.unrestored) return hand_on(times);
  if (options_.noise == Noise::per_frame && params.steps > 0) {
    timed(Stage::start, times, [&] {
      device_->draw_noise(options_.seed, params.noise_number, static_cast<float*>(field_.get()));
    });
  }
  job.runs = plan_runs(params);
  for (std::size_t number = 0; number < job.runs; ++number) run_tiles(job, number, times);
  if (kept_) store_kept(times);
}

void Pipeline::hand_on(StageTimes& times) {
  for (std::size_t first = 0; first < in_order_.size(); first += options_.batch) {
    const TileRun run{&in_order_[first], std::min(options_.batch, in_order_.size() - first)};
    timed(Stage::load, times, [&] { device_->load_frame(run, image_); });
    timed(Stage::store, times, [&] { device_->store_frame(image_, run); });
  }
}

std::size_t Pipeline::plan_runs(const FrameParams& params) {
  planned_.clear();
  if (options_.still.value_or(0.0F) > 0.0F) {
    for (const std::size_t tile : in_order_) {
      if (!params.reuses(tile)) planned_.push_back(tile);
    }
    return runs_of(planned_.size());
  }
  // To the bit: a tile always has the same place among those that the engines take together, so that what
  // becomes of it does not depend on which others are restored with it.
  std::vector<std::size_t> filled(options_.batch, 0);
  for (const std::size_t tile : in_order_) {
    if (params.reuses(tile)) continue;
    const std::size_t place = tile % options_.batch;
    const std::size_t at = filled[place]++ * options_.batch + place;
    if (at >= planned_.size()) planned_.resize(at + 1, kNoTile);
    planned_[at] = tile;
  }
  return runs_of(planned_.size());
}

std::size_t Pipeline::runs_of(std::size_t tiles) const {
  return (tiles + options_.batch - 1) / options_.batch;
}

std::size_t Pipeline::count_runs(const FrameParams& params, int steps) const {
  std::vector<std::size_t> filled(options_.batch, 0);
  for (const std::size_t tile : in_order_) {
    const bool reused = still_ ? still_->reuses(tile, steps) : params.reuses(tile);
    if (!reused) ++filled[tile % options_.batch];
  }
  if (options_.still.value_or(0.0F) > 0.0F) {
    return runs_of(std::accumulate(filled.begin(), filled.end(), std::size_t{0}));
  }
  return *std::max_element(filled.begin(), filled.end());
}

TileRun Pipeline::run_of(std::size_t number) const {
  const std::size_t first = number * options_.batch;
  return {&planned_[first], std::min(options_.batch, planned_.size() - first)};
}

void* Pipeline::kept(std::size_t tile) const {
  return static_cast<std::uint8_t*>(kept_.get()) +
         tile * geometry_.image_size() * element_size(device_->element());
}

void Pipeline::run_tiles(FrameJob& job, std::size_t number, StageTimes& times) {
  const TileRun run = run_of(number);
  timed(Stage::load, times, [&] { device_->load_frame(run, image_); });
  if (job.params.steps == 0 && parts_.direct && !job.params.by_parts) {
    timed(Stage::direct, times, [&] { parts_.direct(device_->stream_handle()); });
  } else {
    run_parts(job, number, times);
  }
  if (!kept_) return store_run(run, decoded_, times);
  const std::size_t bytes = geometry_.image_size() * element_size(device_->element());
  timed(Stage::store, times, [&] {
    run.each([&](std::size_t place, std::size_t tile) {
      device_->copy(static_cast<std::uint8_t*>(decoded_) + place * bytes, kept(tile), bytes);
      // Of a frame that is given up later; a recording is not told one by one.
      if (still_) still_->restored(tile, job.params.steps);
    });
  });
}

void Pipeline::store_run(TileRun run, void* decoded, StageTimes& times) {
  if (temporal_state_) {
    timed(Stage::temporal, times, [&] {
      device_->average_over_time(image_, decoded, run, static_cast<float*>(temporal_state_.get()),
                                 static_cast<float*>(temporal_maps_.get()));
    });
  }
  timed(Stage::store, times, [&] { device_->store_frame(decoded, run); });
}

void Pipeline::store_kept(StageTimes& times) {
  if (!temporal_state_) return store_run({in_order_.data(), in_order_.size()}, kept_.get(), times);
  // The stage goes on over tiles that were not restored again, as if they had been: it needs their input, and
  // must not change what is kept.
  const std::size_t bytes = geometry_.image_size() * element_size(device_->element());
  for (std::size_t first = 0; first < in_order_.size(); first += options_.batch) {
    const TileRun run{&in_order_[first], std::min(options_.batch, in_order_.size() - first)};
    timed(Stage::load, times, [&] { device_->load_frame(run, image_); });
    timed(Stage::temporal, times, [&] { device_->copy(kept(first), decoded_, run.count * bytes); });
    store_run(run, decoded_, times);
  }
}

bool Pipeline::ask(FrameJob& job, std::size_t number, Checkpoint at, int taken, const StageTimes& times) {
  if (!job.guard) return false;
  const auto of = [&](Stage stage) { return times[static_cast<std::size_t>(stage)]; };
  Progress progress;
  progress.at = at;
  progress.steps = job.params.steps;
  progress.taken = taken;
  progress.runs_done = number;
  progress.runs_left = job.runs - number - 1;
  progress.times = {
      of(Stage::encoder), of(Stage::coarse), of(Stage::velocity) + of(Stage::step), of(Stage::decoder), 0.0F,
      of(Stage::load)};
  const int steps = job.guard(progress);
  if (steps == kUnrestored) throw OutOfTime();
  const bool forget = taken > 0 && steps < job.params.steps;
  job.params.steps = steps;
  return forget;
}

void Pipeline::run_parts(FrameJob& job, std::size_t number, StageTimes& times) {
  const FrameParams& params = job.params;
  const TileRun run = run_of(number);
  const std::uintptr_t stream = device_->stream_handle();
  auto* latent_fp32 = static_cast<float*>(latent_fp32_.get());
  timed(Stage::encoder, times, [&] { parts_.encoder(stream); });
  ask(job, number, Checkpoint::encoded, 0, times);
  timed(Stage::coarse, times, [&] { parts_.coarse(stream); });
  ask(job, number, Checkpoint::estimated, 0, times);
  const std::size_t row = options_.condition_width * element_size(device_->element());
  const auto first_row = static_cast<std::size_t>(params.steps * (params.steps - 1) / 2);
  const auto* table = static_cast<const std::uint8_t*>(table_.get()) + first_row * row;
  const auto row_of = [&](int k) {
    return k < params.steps ? ConditionRow{table + std::size_t(k) * row, condition_, row} : ConditionRow{};
  };
  const auto start = [&] {
    const auto* field = params.steps > 0 ? static_cast<const float*>(field_.get()) : nullptr;
    device_->start_latent(coarse_, field, options_.sigma, run, latent_fp32, latent_, row_of(0));
  };
  timed(Stage::start, times, start);
  for (int k = 0; k < params.steps; ++k) {
    timed(Stage::velocity, times, [&] { parts_.velocity(stream); });
    const float step = 1.0F / static_cast<float>(params.steps);
    timed(Stage::step, times,
          [&] { device_->euler_step(velocity_, step, run.count, latent_fp32, latent_, row_of(k + 1)); });
    // Without the other steps it is nothing; the coarse estimate is still there.
    if (ask(job, number, Checkpoint::stepped, k + 1, times)) timed(Stage::start, times, start);
  }
  timed(Stage::decoder, times, [&] { parts_.decoder(stream); });
}

}  // namespace elir
