"""Backends: what runs a part.

A backend opens the engines of a bundle for one frame geometry and gives the core one callable per part,
``enqueue(stream_handle)``, whose tensors are bound to buffers that the core owns. The core calls it: once per
frame on the host device, while recording on CUDA.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

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

    def view(self, name: str) -> Any:
        """That tensor for other libraries, by DLPack, on any device."""

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

    def stream_closed(self) -> None:
        """A stream takes no more frames; may be called several times."""


#: Backends and their devices, the fastest first.
DEVICES: Mapping[str, tuple[str, ...]] = {
    "tensorrt": ("cuda",),
    "tensorrt-rtx": ("cuda",),
    "torch": ("cuda", "cpu"),
    "openvino": ("cpu",),
}
#: What is done with engines that the GPU or its TensorRT refuses.
OnEngineError = Literal["fallback", "rebuild", "raise"]


def open_backend(
    bundle: Bundle, name: str = "auto", device: str = "auto", on_engine_error: OnEngineError = "fallback"
) -> Backend:
    """Open the bundle's engines with a backend.

    With "auto" the GPU is used where there is one and the bundle has engines that it takes.

    Args:
        bundle: a bundle that was opened.
        name: "auto" or the name of a backend: "tensorrt", "tensorrt-rtx", "torch" or "openvino".
        device: "auto", "cpu" or "cuda".
        on_engine_error: what to do with engines that the GPU or its TensorRT refuses: "fallback" uses the next
            backend
            that is allowed, and warns why; "rebuild" builds them again where the bundle is portable, once, and
            warns that it does; "raise" raises.

    Raises:
        BackendError: the backend is unknown, not installed, or the bundle has no engines for it.
        DeviceError: the device is unknown or not usable; the message says why.
    """
    for what, found, allowed in (
        ("backend", name, ("auto", *DEVICES)),
        ("device", device, ("auto", "cpu", "cuda")),
        ("on_engine_error", on_engine_error, ("fallback", "rebuild", "raise")),
    ):
        if found not in allowed:
            kind = {"backend": BackendError, "device": DeviceError}.get(what, ValueError)
            raise kind(f"{what} is {found!r}; allowed: {', '.join(allowed)}")
    if name != "auto" and device != "auto" and device not in DEVICES[name]:
        raise DeviceError(f"device is {device!r}; the backend {name} runs on {', '.join(DEVICES[name])}")
    problem = _core.cuda_problem()
    if problem and (device == "cuda" or DEVICES.get(name) == ("cuda",)):
        raise DeviceError(f"the device cuda is not usable here: {problem}")
    candidates = _candidates(bundle, name, device, gpu=not problem)
    for place, (backend, on) in enumerate(candidates):
        last = place + 1 == len(candidates)
        try:
            return _open(bundle, backend, on)
        except BackendError as error:
            if on_engine_error == "rebuild" and backend.startswith("tensorrt"):
                return _rebuilt(bundle, backend, error)
            if on_engine_error == "raise" or last:
                raise
            following = candidates[place + 1]
            where = "the CPU" if following[1] == "cpu" else following[0]
            warnings.warn(f"{error}; using {where} instead", ElirWarning, stacklevel=3)
    raise AssertionError("unreachable")


def _candidates(bundle: Bundle, name: str, device: str, gpu: bool) -> list[tuple[str, str]]:
    """Backends and devices to try, in this order."""
    built = bundle.manifest.specification.backends
    if name != "auto":
        on_gpu = "cuda" in DEVICES[name] and gpu and device != "cpu"
        return [(name, "cuda" if on_gpu else DEVICES[name][-1])]
    found: list[tuple[str, str]] = []
    if gpu and device != "cpu":
        here = (*tensorrt_api.installed(), "torch")
        found += [(backend, "cuda") for backend in DEVICES if backend in built and backend in here]
        if device == "cuda" and not found:
            raise BackendError(
                f"{bundle.path}: no engines for the GPU with a TensorRT that is installed here: the bundle has "
                f"{', '.join(built)}, installed are {', '.join(tensorrt_api.installed()) or 'none'}"
            )
    if device != "cuda":
        on_cpu = [backend for backend in ("openvino", "torch") if backend in built]
        found += [(backend, "cpu") for backend in on_cpu[:1]]
    return found or [("openvino", "cpu")]


def _rebuilt(bundle: Bundle, flavour: str, error: BackendError) -> Backend:
    from elir_trt.building.builder import rebuild_engines

    warnings.warn(f"{error}; building them again for this machine", ElirWarning, stacklevel=4)
    kind: Literal["tensorrt", "tensorrt-rtx"] = "tensorrt" if flavour == "tensorrt" else "tensorrt-rtx"
    return _open(Bundle(rebuild_engines(bundle, kind)), flavour, "cuda")


def _open(bundle: Bundle, name: str, device: str) -> Backend:
    if name == "openvino":
        from elir_trt.backends.openvino import OpenVinoBackend

        return OpenVinoBackend(bundle)
    if name == "torch":
        from elir_trt.backends.torch import TorchBackend

        return TorchBackend(bundle, device)
    from elir_trt.backends.tensorrt import TensorRtBackend

    return TensorRtBackend(bundle, "tensorrt" if name == "tensorrt" else "tensorrt-rtx")


@dataclass(frozen=True)
class Probe:
    """Whether a backend can be used here: its version, or the reason why not."""

    usable: bool
    version: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class _Known:
    name: str
    devices: tuple[str, ...]

    def probe(self) -> Probe:
        """Look whether it is installed."""
        module = self.name.replace("-", "_")
        try:
            return Probe(True, version=importlib.metadata.version(module))
        except importlib.metadata.PackageNotFoundError:
            return Probe(False, reason=f"{module} is not installed")


def registry() -> tuple[_Known, ...]:
    """All backends, the fastest first."""
    return tuple(_Known(name, devices) for name, devices in DEVICES.items())


def names() -> tuple[str, ...]:
    """Their names."""
    return tuple(DEVICES)
