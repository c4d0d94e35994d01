#include "ladder.hpp"

#include <algorithm>
#include <cmath>

namespace elir {

namespace {

constexpr float kQuantile = 0.99F;
constexpr float kToSpare = 1.1F;    // of what a rung needs, to climb to it
constexpr int kCalm = 8;            // frames with time to spare before a step more
constexpr int kCalmUnrestored = 2;  // and before restoring again
constexpr int kFirstPatience = 32, kMostPatience = 512;

}  // namespace

void Window::add(float value) {
  if (values_.size() < kMost) {
    values_.push_back(value);
    return;
  }
  values_[next_] = value;
  next_ = (next_ + 1) % kMost;
}

float Window::quantile(float part) const {
  if (values_.empty()) return 0.0F;
  sorted_ = values_;
  const auto at = static_cast<std::ptrdiff_t>(std::lround(part * static_cast<float>(sorted_.size() - 1)));
  std::nth_element(sorted_.begin(), sorted_.begin() + at, sorted_.end());
  return sorted_[static_cast<std::size_t>(at)];
}

void Ladder::note(int steps, float total, float in_steps) {
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

int Ladder::choose(int wanted, float left) {
  const auto highest = [&](float factor) {
    int steps = wanted;
    while (steps > kUnrestored && needed(steps) * factor > left) --steps;
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
  if (rung_ != kUnrestored) {
    passed_ = patience_ = 0;
    return std::min(rung_, wanted);
  }
  // Nothing is learnt of frames that are not restored. Each try that was in vain doubles the wait for the
  // next.
  if (patience_ == 0) patience_ = kFirstPatience;
  if (++passed_ < patience_ || left <= 0.0F) return kUnrestored;
  passed_ = 0;
  patience_ = std::min(2 * patience_, kMostPatience);
  return 0;
}

}  // namespace elir
