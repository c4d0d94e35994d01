#include "still.hpp"

#include <algorithm>
#include <cstring>

namespace elir::host {

namespace {

const std::uint8_t* row_of(const Planes& frame, std::size_t plane, int row) {
  return frame.data[plane] + row * frame.pitch[plane];
}

// Adds differences of a row to the sums of its blocks.
template <typename Word>
void add_row(const Word* one, const Word* other, int words, int block, std::uint32_t* sums) {
  for (int first = 0; first < words; first += block) {
    const int end = std::min(words, first + block);
    std::uint32_t sum = 0;
    for (int i = first; i < end; ++i) {
      const int difference = int(one[i]) - int(other[i]);
      sum += static_cast<std::uint32_t>(difference < 0 ? -difference : difference);
    }
    *sums++ += sum;
  }
}

}  // namespace

void KeptInputs::prepare(const StillPlan& plan) {
  plan_ = plan;
  memory_.assign(std::size_t(plan.words) * std::size_t(plan.word), 0);
}

template <typename Word>
bool KeptInputs::differs(const Planes& frame, const TileInput& input) const {
  for (int plane = 0; plane < plan_.planes; ++plane) {
    const PlaneInput& part = input[std::size_t(plane)];
    const Word* kept = reinterpret_cast<const Word*>(memory_.data()) + part.kept;
    for (int top = 0; top < part.rows; top += kStillBlock) {
      const int rows = std::min(kStillBlock, part.rows - top);
      bool same = true;
      for (int y = top; y < top + rows && same; ++y) {
        const Word* row =
            reinterpret_cast<const Word*>(row_of(frame, std::size_t(plane), part.top + y)) + part.left;
        const std::size_t bytes = std::size_t(part.words) * sizeof(Word);
        same = std::memcmp(row, kept + std::ptrdiff_t(y) * part.words, bytes) == 0;
      }
      if (same) continue;
      if (plan_.tolerance256 == 0) return true;
      sums_.assign(std::size_t((part.words + part.block - 1) / part.block), 0);
      for (int y = top; y < top + rows; ++y) {
        const Word* row =
            reinterpret_cast<const Word*>(row_of(frame, std::size_t(plane), part.top + y)) + part.left;
        add_row(row, kept + std::ptrdiff_t(y) * part.words, part.words, part.block, sums_.data());
      }
      for (std::size_t block = 0; block < sums_.size(); ++block) {
        const int words = std::min(part.block, part.words - int(block) * part.block);
        if (is_changed(sums_[block], std::int64_t(words) * rows, plan_.tolerance256)) return true;
      }
    }
  }
  return false;
}

void KeptInputs::compare(const Planes& frame, std::uint8_t* changed) const {
  for (std::size_t tile = 0; tile < plan_.tiles.size(); ++tile) {
    const TileInput& input = plan_.tiles[tile];
    changed[tile] =
        (plan_.word == 1 ? differs<std::uint8_t>(frame, input) : differs<std::uint16_t>(frame, input)) ? 1
                                                                                                       : 0;
  }
}

void KeptInputs::keep(const Planes& frame, const std::vector<bool>& tiles) {
  for (std::size_t tile = 0; tile < plan_.tiles.size(); ++tile) {
    if (!tiles[tile]) continue;
    for (int plane = 0; plane < plan_.planes; ++plane) {
      const PlaneInput& part = plan_.tiles[tile][std::size_t(plane)];
      const std::size_t word = std::size_t(plan_.word);
      const std::size_t bytes = std::size_t(part.words) * word;
      std::uint8_t* kept = memory_.data() + std::size_t(part.kept) * word;
      for (int y = 0; y < part.rows; ++y) {
        std::memcpy(kept + std::size_t(y) * bytes,
                    row_of(frame, std::size_t(plane), part.top + y) + std::size_t(part.left) * word, bytes);
      }
    }
  }
}

}  // namespace elir::host
