"""Backends: what runs a part.

A backend opens the engines of a bundle for one frame geometry and gives the core one callable per part,
``enqueue(stream_handle)``, whose tensors are bound to buffers that the core owns. The core calls it: once per
frame on the host device, while recording on CUDA.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from elir_trt.bundle import Bundle

#: Runs one part over its bound tensors; the argument is the CUDA stream's handle (0 on the host).
Enqueue = Callable[[int], None]


class Buffers(Protocol):
    """Where the core keeps the tensors of the parts."""

    def buffer(self, name: str) -> npt.NDArray[np.float32]:
        """A view of the tensor ``name`` (see :data:`elir_trt.parts.TENSORS`)."""


class Backend(Protocol):
    """Engines of one bundle, ready to be bound."""

    name: str
    precision: str

    def sizes(self) -> tuple[tuple[int, int], ...] | None:
        """Heights and widths that the engines take; None: any multiple that the recipe allows."""

    def bind(self, size: tuple[int, int], buffers: Buffers) -> Mapping[str, Enqueue]:
        """Bind the four parts for an encoder input of ``size`` (height, width) to the core's buffers."""


def open_backend(bundle: Bundle, name: str = "auto") -> Backend:
    """Open the bundle's engines with a backend.

    Args:
        bundle: a bundle that was opened.
        name: "auto" or the name of a backend ("openvino").

    Raises:
        BackendError: the backend is unknown, not installed, or the bundle has no engines for it.
    """
    from elir_trt.backends.openvino import OpenVinoBackend
    from elir_trt.errors import BackendError

    if name not in ("auto", "openvino"):
        raise BackendError(f"backend is {name!r}; allowed here: auto, openvino")
    return OpenVinoBackend(bundle)
