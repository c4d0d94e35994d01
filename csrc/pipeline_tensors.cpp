// What lies between the parts, and what a caller binds, sets and reads of it.
#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <string>

#include "pipeline.hpp"
#include "temporal.hpp"

namespace elir {

namespace {

std::string shape_text(const std::vector<std::size_t>& shape) {
  std::string text;
  for (const std::size_t side : shape) text += (text.empty() ? "[" : ", ") + std::to_string(side);
  return text + "]";
}

}  // namespace

void Pipeline::add_buffer(const char* name, std::vector<std::size_t> shape) {
  std::size_t count = 1;
  for (const std::size_t side : shape) count *= side;
  buffers_.push_back({name, std::move(shape), device_->element(),
                      device_->allocate(count * element_size(device_->element()))});
}

const Pipeline::Buffer& Pipeline::buffer(const std::string& name) const {
  for (const Buffer& buffer : buffers_) {
    if (buffer.name == name) return buffer;
  }
  std::string names;
  for (const Buffer& buffer : buffers_) names += (names.empty() ? "" : ", ") + buffer.name;
  throw std::invalid_argument("buffer is '" + name + "'; allowed: " + names);
}

void* Pipeline::reserve(std::size_t bytes) {
  reserved_.push_back(device_->allocate(bytes));
  return reserved_.back().get();
}

void Pipeline::set_part(const std::string& part, Enqueue enqueue) {
  if (part == "encoder") {
    parts_.encoder = std::move(enqueue);
  } else if (part == "coarse") {
    parts_.coarse = std::move(enqueue);
  } else if (part == "velocity") {
    parts_.velocity = std::move(enqueue);
  } else if (part == "decoder") {
    parts_.decoder = std::move(enqueue);
  } else if (part == "direct") {
    parts_.direct = std::move(enqueue);
  } else {
    throw std::invalid_argument("part is '" + part +
                                "'; allowed: encoder, coarse, velocity, decoder, direct");
  }
}

void Pipeline::set_noise(const float* field, std::size_t count) {
  if (options_.noise != Noise::fixed) {
    throw std::invalid_argument("noise can be given only to a stream with fixed noise and at least one step");
  }
  if (count != field_size()) {
    throw std::invalid_argument("noise has " + std::to_string(count) + " numbers; expected " +
                                std::to_string(field_size()));
  }
  need_field();
  device_->write(field, count, Element::float32, field_.get());
  own_field_ = true;
}

std::vector<std::size_t> Pipeline::temporal_shape() const {
  if (!options_.average_over_time) {
    throw std::invalid_argument("this stream averages nothing over time; expected temporal='auto'");
  }
  return {geometry_.tiles.size(), kTemporalPlanes, static_cast<std::size_t>(geometry_.engine_height),
          static_cast<std::size_t>(geometry_.engine_width)};
}

std::size_t Pipeline::temporal_numbers() const {
  std::size_t numbers = 1;
  for (const std::size_t side : temporal_shape()) numbers *= side;
  return numbers;
}

void Pipeline::read_temporal(float* state) const {
  device_->read(temporal_state_.get(), temporal_numbers(), Element::float32, state);
}

void Pipeline::set_temporal(const float* state, const std::vector<std::size_t>& shape) {
  const std::vector<std::size_t> own = temporal_shape();
  if (shape != own) {
    throw std::invalid_argument("state is " + shape_text(shape) + "; this stream keeps " + shape_text(own));
  }
  device_->write(state, temporal_numbers(), Element::float32, temporal_state_.get());
}

}  // namespace elir
