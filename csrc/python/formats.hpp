// The table of pixel formats as Python reads it.
#pragma once

#include <pybind11/pybind11.h>

namespace elir::python {

void bind_formats(pybind11::module_& module);

}  // namespace elir::python
