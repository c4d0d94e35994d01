// How a frame lies on the engines, as Python says it.
#pragma once

#include <pybind11/pybind11.h>

namespace elir::python {

void bind_geometry(pybind11::module_& module);

}  // namespace elir::python
