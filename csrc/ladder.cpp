#include "ladder.hpp"

#include <algorithm>
#include <cmath>

namespace elir {

namespace {

constexpr float kQuantile = 0.99F;
constexpr float kToSpare = 1.1F;    // of what a rung needs, to climb to it
constexpr int kCalm = 8;            // frames with time to spare before a step more
constexpr int kCalmUnrestored = 2;  // and before restoring again
// Frames that pass before one is tried that may come late, of which more than one in a hundred is too many;
// and before one is tried that is given up in time.
constexpr int kFirstPatience = 32, kMostPatience = 128;
constexpr int kFirstGuarded = 4, kMostGuarded = 8;

// One late frame in two hundred keeps the margin where it is.
constexpr float kMarginUp = 1.1F, kMarginDown = 0.9995F, kMostMargin = 4.0F;

}  // namespace

void Ladder::note(int steps, float total, float in_steps) {
  if (try_left_ > 0.0F && total <= try_left_) {
    // What was known of the machine is not true of it any more.
    for (Window* window : {&whole_, &rest_}) window->clear();
    by_steps_.clear();
    whole_then_ = 0.0F;
  }
  try_left_ = 0.0F;
  if (in_steps < 0.0F) {
    by_steps_[steps].add(total);
    return;
  }
  if (steps == 0) {
    whole_.add(total);
    return;
  }
  const float rest = std::max(total - in_steps, 1e-3F);
  rest_.add(rest);
  share_.add(in_steps / (static_cast<float>(steps) * rest));
  whole_then_ = whole_.quantile(kQuantile);
}

float Ladder::needed(int steps) const {
  if (!whole_.empty() || !rest_.empty()) {
    const float whole = whole_.quantile(kQuantile);
    if (steps == 0 && !whole_.empty()) return whole;
    // Steps that were not taken for long are as much slower now as frames without them are.
    const float slower = whole_then_ > 0.0F && whole > 0.0F ? whole / whole_then_ : 1.0F;
    const float rest = rest_.empty() ? whole : slower * rest_.quantile(kQuantile);
    return rest * (1.0F + static_cast<float>(steps) * share_.quantile(0.5F));
  }
  if (by_steps_.empty()) return 0.0F;
  const auto found = by_steps_.find(steps);
  if (found != by_steps_.end()) return found->second.quantile(kQuantile);
  // Guessed from the nearest number of steps: encoder, coarse estimate and decoder are taken for two.
  auto nearest = by_steps_.begin();
  for (auto it = by_steps_.begin(); it != by_steps_.end(); ++it) {
    if (std::abs(it->first - steps) < std::abs(nearest->first - steps)) nearest = it;
  }
  return nearest->second.quantile(kQuantile) * static_cast<float>(steps + 2) /
         static_cast<float>(nearest->first + 2);
}

float Ladder::usually(int steps, std::size_t runs) const {
  const float parts = pace_.usual(steps, runs);
  if (steps > 0 || !pace_.direct_known()) return parts;
  const float direct = pace_.usual_direct(runs);
  return pace_.known() ? std::min(direct, parts) : direct;
}

float Ladder::lately(int steps, std::size_t runs) const {
  return pace_.slowness() * usually(steps, runs);
}

bool Ladder::by_parts(float left, std::size_t runs) const {
  if (!pace_.known()) return true;
  if (!pace_.direct_known()) return false;
  // What cannot be stopped is begun where it is in time even if another process begins as well.
  const float slower = std::max(kMuchSlower, pace_.slowness());
  if (slower * pace_.usual_direct(runs) <= left) return false;
  return pace_.slowness() * pace_.usual(0, runs) <= left;
}

void Ladder::ended(bool late) {
  margin_ = std::clamp(margin_ * (late ? kMarginUp : kMarginDown), 1.0F, kMostMargin);
}

int Ladder::allowed(const Progress& progress, float left) {
  const int steps = pace_.allowed(progress, left / margin_);
  if (steps == kUnrestored) pace_.note_slowness(pace_.slowness_of(progress));
  return steps;
}

void Ladder::note_parts(int steps, const PartTimes& times, std::size_t runs) {
  if (try_left_ > 0.0F) {
    // Restored in time, though there seemed to be none for it: on with that.
    try_left_ = 0.0F;
    rung_ = steps;
    calm_ = passed_ = patience_ = 0;
    pace_.forget_slowness();
  }
  if (runs > 0) pace_.note(steps, times, runs);
}

int Ladder::choose(int wanted, float left, bool guarded, const Runs& runs) {
  const bool paced = guarded && (pace_.known() || pace_.direct_known());
  if (paced) left /= margin_;
  const auto highest = [&](float factor) {
    int steps = wanted;
    while (steps > kUnrestored && (paced ? lately(steps, runs(steps)) : needed(steps)) * factor > left)
      --steps;
    return steps;
  };
  const int fits = left > 0.0F ? highest(1.0F) : kUnrestored;
  if (!begun_ || fits <= rung_) {
    rung_ = fits;
    calm_ = 0;
  } else {
    const int spare = highest(kToSpare);
    calm_ = spare > rung_ ? calm_ + 1 : 0;
    if (calm_ >= (rung_ == kUnrestored ? kCalmUnrestored : kCalm)) {
      rung_ = spare;
      calm_ = 0;
    }
  }
  begun_ = true;
  try_left_ = 0.0F;
  if (rung_ != kUnrestored) {
    passed_ = patience_ = 0;
    return std::min(rung_, wanted);
  }
  // Nothing is learnt of frames that are not restored. Each try that was in vain doubles the wait for the
  // next.
  if (patience_ == 0) patience_ = paced ? kFirstGuarded : kFirstPatience;
  ++passed_;
  if (passed_ < patience_ || left <= 0.0F) return kUnrestored;
  int steps = 0;
  if (paced) {
    // As fast as the machine usually is; where even that is too slow, a try is as rare as without a guard.
    steps = wanted;
    while (steps > kUnrestored && usually(steps, runs(steps)) > left) --steps;
    if (steps == kUnrestored && passed_ < kMostPatience) return kUnrestored;
    steps = std::max(steps, 0);
  }
  passed_ = 0;
  patience_ = std::min(2 * patience_, paced ? kMostGuarded : kMostPatience);
  try_left_ = left;
  return steps;
}

}  // namespace elir
