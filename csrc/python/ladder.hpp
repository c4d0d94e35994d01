// How much of a restoration a deadline leaves time for, by itself.
#pragma once

#include <pybind11/pybind11.h>

namespace elir::python {

void bind_ladder(pybind11::module_& module);

}  // namespace elir::python
