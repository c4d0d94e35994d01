// What a stream is made of, from Python's words and numbers.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <memory>
#include <string>

#include "../stream.hpp"

namespace elir::python {

// All of a stream but its geometry.
struct StreamOptions {
  elir::PipelineOptions pipeline;
  elir::CudaOptions cuda;  // of the host: its element alone, which is float32
  bool on_host = true;
  bool results_on_device = false;
  std::size_t depth = 0;
  elir::Drop drop = elir::Drop::block;
  elir::Latency latency;
  std::string format, output_format, matrix;  // by their names
  bool full_range = false;

  // Everything is allocated here: without the GIL. Throws as Pipeline, Stream and make_cuda_device do.
  std::unique_ptr<Stream> open(const elir::Geometry& geometry) const;
};

// "float32", "float16" or "bfloat16".
const char* element_name(elir::Element element);

void bind_options(pybind11::module_& module);

}  // namespace elir::python
