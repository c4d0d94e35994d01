// Runs the core over random sizes and from several threads; meant for the sanitizers.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>

#include "kernels.hpp"
#include "stream.hpp"

namespace {

#define CHECK(condition)                                                   \
  do {                                                                     \
    if (!(condition)) {                                                    \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                        \
    }                                                                      \
  } while (false)

struct Case {
  elir::Geometry geometry;
  elir::PipelineOptions options;
};

// A way to store frames of this size; rgb24 where its sides do not fit.
elir::Pixels make_pixels(int format, bool other, int height, int width) {
  const elir::Pixels found{elir::kPixelFormats[std::size_t(format)], other, !other};
  const bool even = height % 2 == 0 && width % 2 == 0;
  return even ? found : elir::Pixels{found.format.has_chroma() ? elir::kPixelFormats[0] : found.format};
}

Case make_case(std::mt19937& random) {
  const auto pick = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  Case made;
  elir::Geometry& g = made.geometry;
  g.downscale = 1 << pick(0, 3);
  g.latent_channels = pick(1, 9);
  g.frame_height = pick(1, 40);
  g.frame_width = pick(1, 40);
  const int factor = pick(1, 3);
  g.scaled_height = g.frame_height * factor;
  g.scaled_width = g.frame_width * factor;
  g.scale_y = g.scale_x = factor;
  g.nearest = pick(0, 1) == 1;
  g.engine_height = g.downscale * pick(1, 8);
  g.engine_width = g.downscale * pick(1, 8);
  for (int y = 0; y < g.scaled_height; y += g.engine_height) {
    for (int x = 0; x < g.scaled_width; x += g.engine_width) g.tiles.push_back({y, x});
  }
  made.options.sigma = 0.1F;
  made.options.steps = pick(0, 3);
  made.options.condition_width = 5;
  made.options.table.assign(std::size_t(made.options.steps * (made.options.steps + 1) / 2) * 5, 1.0F);
  made.options.batch = std::size_t(pick(1, 3));
  made.options.noise = pick(0, 1) == 1 ? elir::Noise::fixed : elir::Noise::per_frame;
  made.options.in = make_pixels(pick(0, int(elir::kPixelFormats.size()) - 1), pick(0, 1) == 1, g.frame_height,
                                g.frame_width);
  made.options.out = make_pixels(pick(0, int(elir::kPixelFormats.size()) - 1), pick(0, 1) == 1,
                                 g.scaled_height, g.scaled_width);
  return made;
}

// Parts that pass frames through: the decoder gives back what the encoder was given.
void set_parts(elir::Pipeline& pipeline, std::atomic<int>& fail) {
  auto* image = static_cast<float*>(pipeline.buffer("image").memory.get());
  auto* decoded = static_cast<float*>(pipeline.buffer("decoded").memory.get());
  const std::size_t count = pipeline.buffer("image").shape[0] * pipeline.geometry().image_size();
  pipeline.set_part("encoder", [&fail](std::uintptr_t) {
    if (fail.exchange(0) == 1) throw std::runtime_error("broken on purpose");
  });
  pipeline.set_part("coarse", [](std::uintptr_t) {});
  pipeline.set_part("velocity", [](std::uintptr_t) {});
  pipeline.set_part("decoder", [=](std::uintptr_t) {
    for (std::size_t i = 0; i < count; ++i) decoded[i] = image[i];
  });
}

void run_case(std::mt19937& random) {
  Case made = make_case(random);
  std::atomic<int> fail{0};
  auto pipeline = std::make_unique<elir::Pipeline>(elir::make_host_device(), made.geometry, made.options);
  set_parts(*pipeline, fail);
  elir::Stream stream(std::move(pipeline), 3, elir::Drop::block);
  stream.start();
  const elir::Pixels& in = made.options.in;
  const std::size_t bytes = in.bytes(made.geometry.frame_height, made.geometry.frame_width);
  const elir::Pixels& out = made.options.out;
  // What comes back is what went in where nothing is lost on the way.
  const bool kept = in.is_rgb() && std::string(in.format.name) == out.format.name && !made.geometry.scaled();
  std::vector<std::uint8_t> frame(bytes);
  for (std::uint8_t& value : frame) value = static_cast<std::uint8_t>(random());
  constexpr int kFrames = 8;
  fail = 1;  // the first frame fails, the others do not
  std::thread submitter([&] {
    for (int i = 0; i < kFrames; ++i) {
      const auto index =
          stream.submit([&](std::uint8_t* to, elir::FrameJob&) { std::copy(frame.begin(), frame.end(), to); },
                        {i * 0.5, std::nullopt, {}}, std::nullopt, nullptr);
      CHECK(index && *index == static_cast<std::uint64_t>(i));
    }
    stream.close();
  });
  for (int i = 0; i < kFrames; ++i) {
    bool same = true;
    const elir::FrameResult result = stream.result(
        [&](const elir::FrameMemory* from) {
          if (from == nullptr || !kept) return;
          for (std::size_t k = 0; k < bytes; ++k) same = same && from->get()[k] == frame[k];
        },
        std::nullopt, nullptr);
    CHECK(result.failed == (i == 0));
    CHECK(same);
  }
  submitter.join();
  bool closed = false;
  try {
    stream.result([](const elir::FrameMemory*) {}, std::nullopt, nullptr);
  } catch (const elir::Closed&) {
    closed = true;
  }
  CHECK(closed);
  CHECK(stream.counts().completed == kFrames - 1 && stream.counts().failed == 1);
}

void dropping(elir::Drop drop) {
  std::mt19937 random(7);
  Case made = make_case(random);
  std::atomic<int> fail{0};
  auto pipeline = std::make_unique<elir::Pipeline>(elir::make_host_device(), made.geometry, made.options);
  set_parts(*pipeline, fail);
  elir::Stream stream(std::move(pipeline), 2, drop);
  stream.start();
  for (int i = 0; i < 200; ++i)
    stream.submit([](std::uint8_t*, elir::FrameJob&) {}, {}, std::nullopt, nullptr);
  const elir::Counts counts = stream.counts();
  CHECK(counts.submitted == 200 && counts.dropped >= 190);
  // Left with frames in the ring: the destructor ends the worker.
}

}  // namespace

int main() {
  for (int value = 0; value < 256; ++value) {
    CHECK(elir::to_word<std::uint8_t>(elir::from_word(static_cast<std::uint8_t>(value))) == value);
  }
  CHECK(elir::to_word<std::uint8_t>(-1.0F) == 0 && elir::to_word<std::uint8_t>(2.0F) == 255 &&
        elir::to_word<std::uint8_t>(0.5F / 255.0F) == 0);
  CHECK(elir::reflect(-1, 1) == 0 && elir::reflect(-2, 5) == 2 && elir::reflect(9, 5) == 1);
  std::mt19937 random(1);
  for (int i = 0; i < 60; ++i) run_case(random);
  dropping(elir::Drop::oldest);
  dropping(elir::Drop::newest);
  std::puts("core_test: all passed");
  return 0;
}
