#include "pace.hpp"

#include <algorithm>
#include <cmath>

namespace elir {

namespace {

// Quantile of a part's times that stands for the machine as it is when nothing disturbs it: for up to three
// quarters of the frames something may.
constexpr float kUndisturbed = 0.25F;
// So much slower than the last frames is no chance.
constexpr float kSuddenly = 1.2F;

}  // namespace

void Window::add(float value) {
  if (warm_up_ < kWarmUp) {
    ++warm_up_;
    provisional_ = value;
    return;
  }
  if (values_.size() < most_) {
    values_.push_back(value);
    return;
  }
  values_[next_] = value;
  next_ = (next_ + 1) % most_;
}

float Window::quantile(float part) const {
  if (values_.empty()) return provisional_;
  sorted_ = values_;
  const auto count = static_cast<float>(sorted_.size());
  const float known = std::max(0.5F, 1.0F - 2.0F / count);
  const auto at = static_cast<std::ptrdiff_t>(std::lround(std::min(part, known) * (count - 1.0F)));
  std::nth_element(sorted_.begin(), sorted_.begin() + at, sorted_.end());
  return sorted_[static_cast<std::size_t>(at)];
}

void Pace::note(int steps, const PartTimes& times, std::size_t runs) {
  const float each = 1.0F / static_cast<float>(std::max<std::size_t>(runs, 1));
  const bool direct = times.direct > 0.0F;
  // Steps that were never timed say nothing of how slow a frame with some is.
  if (direct ? direct_known() : known_ && (steps == 0 || !step_.empty())) {
    const float usually = direct ? usual_direct(runs) : usual(steps, runs);
    const float took =
        times.encoder + times.coarse + times.steps + times.decoder + times.direct + times.other;
    if (usually > 0.0F) note_slowness(took / usually);
  }
  const float before = direct ? usual_direct(1) : usual(1, 1);
  const bool measured = direct ? direct_known() : known_;
  other_.add(times.other);
  usual_.other = other_.quantile(kUndisturbed);
  if (direct) {
    direct_.add(times.direct * each);
    usual_.direct = direct_.quantile(kUndisturbed);
    if (measured) rescale(before, usual_direct(1));
    return;
  }
  encoder_.add(times.encoder * each);
  coarse_.add(times.coarse * each);
  if (steps > 0) step_.add(times.steps * each / static_cast<float>(steps));
  decoder_.add(times.decoder * each);
  usual_.encoder = encoder_.quantile(kUndisturbed);
  usual_.coarse = coarse_.quantile(kUndisturbed);
  usual_.steps = step_.quantile(kUndisturbed);
  usual_.decoder = decoder_.quantile(kUndisturbed);
  // A step that was timed in the warm-up alone would never be tried again.
  const float others = usual_.encoder + usual_.coarse + usual_.decoder;
  if (!step_.warmed_up()) usual_.steps = std::min(usual_.steps, others);
  if (measured) rescale(before, usual(1, 1));
  known_ = true;
}

void Pace::rescale(float before, float after) {
  if (!(before > 0.0F && after > 0.0F)) return;
  for (float& slowness : lately_) slowness *= before / after;
}

void Pace::note_slowness(float slowness) {
  if (lately_.size() < kLately) {
    lately_.push_back(slowness);
    return;
  }
  lately_[next_] = slowness;
  next_ = (next_ + 1) % kLately;
}

float Pace::usual_engines(int steps, std::size_t runs) const {
  return static_cast<float>(runs) *
         (usual_.encoder + usual_.coarse + static_cast<float>(steps) * usual_.steps + usual_.decoder);
}

float Pace::usual(int steps, std::size_t runs) const {
  return usual_engines(steps, runs) + usual_.other;
}

float Pace::usual_direct(std::size_t runs) const {
  return static_cast<float>(runs) * usual_.direct + usual_.other;
}

float Pace::slowness() const {
  if (lately_.empty()) return 1.0F;
  const float first = lately_.front(), last = lately_.back();
  const float least = std::min(first, last), most = std::max(first, last);
  // The median; of two the slower one.
  const float middle = lately_.size() < kLately ? most : std::max(least, std::min(most, lately_[1]));
  return std::max(1.0F, middle);
}

float Pace::slowness_of(const Progress& progress) const {
  float usually = usual_engines(progress.steps, progress.runs_done) + usual_.encoder;
  if (progress.at != Checkpoint::encoded) usually += usual_.coarse;
  usually += static_cast<float>(progress.taken) * usual_.steps;
  const PartTimes& times = progress.times;
  const float took = times.encoder + times.coarse + times.steps + times.decoder;
  float slowness = usually > 0.0F ? std::max(1.0F, took / usually) : 1.0F;
  if (progress.runs_done > 0) return slowness;
  // The load may have begun within the frame: the slowest of its parts tells most of what comes.
  const auto look = [&](float part, float usual_part) {
    if (usual_part > 0.0F) slowness = std::max(slowness, part / usual_part);
  };
  look(times.encoder, usual_.encoder);
  look(times.coarse, usual_.coarse);
  look(times.steps, static_cast<float>(progress.taken) * usual_.steps);
  return slowness;
}

float Pace::remaining(const Progress& progress, int steps) const {
  float usually = usual_engines(steps, progress.runs_left) + usual_.decoder + usual_.other;
  if (progress.at == Checkpoint::encoded) usually += usual_.coarse;
  usually += static_cast<float>(std::max(steps - progress.taken, 0)) * usual_.steps;
  float slower = slowness_of(progress);
  // After the last part but one nobody asks any more. If load began while it ran, it hit some of it only.
  const bool last = progress.at != Checkpoint::encoded && progress.taken >= steps && progress.runs_left == 0;
  const float lately = slowness();
  if (last && slower > kSuddenly * lately) slower = std::max(slower, kMuchSlower * lately);
  return slower * usually;
}

int Pace::allowed(const Progress& progress, float left) const {
  if (!known_) return progress.steps;
  int steps = progress.steps;
  while (steps > kUnrestored && remaining(progress, steps) > left) {
    // Tiles of one frame are given the same steps.
    if (progress.runs_done > 0) return kUnrestored;
    steps = progress.taken > 0 && steps > 0 ? 0 : steps - 1;
  }
  return steps;
}

}  // namespace elir
