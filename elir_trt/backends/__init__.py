"""Backends: what runs a part.

A backend opens the engines of a bundle for one frame geometry and gives the core one callable per part,
``enqueue(stream_handle)``, whose tensors are bound to buffers that the core owns. The core calls it: once per
frame on the host device, while recording on CUDA.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from elir_trt import _core
from elir_trt.backends import tensorrt_api
from elir_trt.bundle import Bundle
from elir_trt.errors import BackendError, DeviceError, ElirWarning

#: Runs one part over its bound tensors; the argument is the CUDA stream's handle (0 on the host).
Enqueue = Callable[[int], None]


class Buffers(Protocol):
    """Where the core keeps the tensors of the parts."""

    def buffer(self, name: str) -> npt.NDArray[np.float32]:
        """A view of the tensor ``name`` (see :data:`elir_trt.parts.TENSORS`), on the host device."""

    def address(self, name: str) -> int:
        """Where that tensor lies, on any device."""

    def reserve(self, bytes: int) -> int:
        """Address of memory of the device that lives as long as the stream."""


class Backend(Protocol):
    """Engines of one bundle, ready to be bound.

    Attributes:
        name: such as "openvino".
        precision: "fp32", "bf16" or "fp16".
        device: the core's device that it runs on, "cpu" or "cuda".
        element: type of the parts' tensors, "float32", "float16" or "bfloat16".
    """

    name: str
    precision: str
    device: str
    element: str

    def sizes(self) -> tuple[tuple[int, int], ...] | None:
        """Heights and widths that the engines take; None: any multiple that the recipe allows."""

    def bind(self, size: tuple[int, int], buffers: Buffers) -> Mapping[str, Enqueue]:
        """Bind the four parts for an encoder input of ``size`` (height, width) to the core's buffers."""


#: Backends and their devices, the fastest first.
DEVICES: Mapping[str, str] = {"tensorrt": "cuda", "tensorrt-rtx": "cuda", "openvino": "cpu"}


def open_backend(bundle: Bundle, name: str = "auto", device: str = "auto") -> Backend:
    """Open the bundle's engines with a backend.

    With "auto" the GPU is used where there is one and the bundle has engines that it takes; where it refuses them,
    a warning says why, and the CPU's engines are used.

    Args:
        bundle: a bundle that was opened.
        name: "auto" or the name of a backend: "tensorrt", "tensorrt-rtx" or "openvino".
        device: "auto", "cpu" or "cuda".

    Raises:
        BackendError: the backend is unknown, not installed, or the bundle has no engines for it.
        DeviceError: the device is unknown or not usable; the message says why.
    """
    if name != "auto" and name not in DEVICES:
        raise BackendError(f"backend is {name!r}; allowed: auto, {', '.join(DEVICES)}")
    if device not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"device is {device!r}; allowed: auto, cpu, cuda")
    if name != "auto" and device not in ("auto", DEVICES[name]):
        raise DeviceError(f"device is {device!r}; the backend {name} runs on {DEVICES[name]}")
    problem = _core.cuda_problem()
    if problem and (device == "cuda" or DEVICES.get(name) == "cuda"):
        raise DeviceError(f"the device cuda is not usable here: {problem}")
    built = bundle.manifest.specification.backends
    if name != "auto":
        return _open(bundle, name)
    if not problem and device != "cpu":
        here = [flavour for flavour in tensorrt_api.installed() if flavour in built]
        if device == "cuda" and not here:
            raise BackendError(
                f"{bundle.path}: no engines for the GPU with a TensorRT that is installed here: the bundle has "
                f"{', '.join(built)}, installed are {', '.join(tensorrt_api.installed()) or 'none'}"
            )
        for flavour in here:
            try:
                return _open(bundle, flavour)
            except BackendError as error:
                if device == "cuda" or "openvino" not in built:
                    raise
                warnings.warn(f"{error}; using the CPU instead", ElirWarning, stacklevel=3)
    return _open(bundle, "openvino")


def _open(bundle: Bundle, name: str) -> Backend:
    if name == "openvino":
        from elir_trt.backends.openvino import OpenVinoBackend

        return OpenVinoBackend(bundle)
    from elir_trt.backends.tensorrt import TensorRtBackend

    return TensorRtBackend(bundle, "tensorrt" if name == "tensorrt" else "tensorrt-rtx")
