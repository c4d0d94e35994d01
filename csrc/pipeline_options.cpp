#include <cmath>
#include <stdexcept>
#include <string>

#include "pipeline.hpp"

namespace elir {

namespace {

constexpr int kMaxSteps = 1024;
constexpr std::size_t kMaxBatch = 64;

}  // namespace

int PipelineOptions::max_steps() const {
  const std::size_t rows = table.size() / condition_width;
  int most = 0;
  while (std::size_t(most + 1) * std::size_t(most + 2) / 2 <= rows && most < kMaxSteps) {
    ++most;
  }
  return most;
}

void PipelineOptions::check() const {
  if (!std::isfinite(sigma) || sigma < 0.0F) {
    throw std::invalid_argument("sigma is " + std::to_string(sigma) + "; expected 0 or more");
  }
  if (condition_width < 1 || condition_width > (1U << 20)) {
    throw std::invalid_argument("table has rows of " + std::to_string(condition_width) +
                                " numbers; expected 1 to 1048576");
  }
  const int most = max_steps();
  if (table.size() != std::size_t(most) * std::size_t(most + 1) / 2 * condition_width || steps > most) {
    throw std::invalid_argument("table has " + std::to_string(table.size() / condition_width) +
                                " rows; expected K * (K + 1) / 2 with K up to " + std::to_string(kMaxSteps) +
                                ", and at least steps, " + std::to_string(steps));
  }
  if (steps < 0) {
    throw std::invalid_argument("steps is " + std::to_string(steps) + "; expected 0 or more");
  }
  if (still && !(*still >= 0.0F && *still <= kMostTolerance)) {
    throw std::invalid_argument("still is " + std::to_string(*still) + "; expected 0 (exact) to " +
                                std::to_string(kMostTolerance) + " levels");
  }
  if (still && noise == Noise::per_frame && max_steps() > 0) {
    throw std::invalid_argument(
        "still is of frames that are the same where their input is; expected noise 'fixed' or 'off'");
  }
  if (batch < 1 || batch > kMaxBatch) {
    throw std::invalid_argument("batch is " + std::to_string(batch) + "; expected 1 to " +
                                std::to_string(kMaxBatch));
  }
}

}  // namespace elir
