"""Backends: what compiles and runs the parts. One file and one line of the registry each.

No other room names a backend or knows its files: what differs between them is asked of their objects.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
from typing import cast

from elir_trt.backends.base import (
    Backend,
    Buffers,
    Compiled,
    CompileOptions,
    Engines,
    EngineSource,
    Enqueue,
    PartSource,
    Probe,
    ReferenceBackend,
    Run,
    TunableBackend,
    TunedSource,
)
from elir_trt.errors import BackendError

__all__ = [
    "REGISTRY",
    "Backend",
    "Buffers",
    "CompileOptions",
    "Compiled",
    "EngineSource",
    "Engines",
    "Enqueue",
    "PartSource",
    "Probe",
    "ReferenceBackend",
    "Run",
    "TunableBackend",
    "TunedSource",
    "form_for_all",
    "get",
    "names",
    "reference",
    "registry",
    "versions",
]

#: Where each backend's object is, ``module:name``; on a device that several run on, the first is preferred.
REGISTRY: dict[str, str] = {
    "tensorrt": "elir_trt.backends.tensorrt:TENSORRT",
    "tensorrt-rtx": "elir_trt.backends.tensorrt:TENSORRT_RTX",
    "openvino": "elir_trt.backends.openvino:OPENVINO",
    "torch": "elir_trt.backends.torch:TORCH",
}
#: The backend that runs float32 parts, to compare others with.
REFERENCE = "openvino"


def names() -> tuple[str, ...]:
    """The names of all backends, installed or not."""
    return tuple(REGISTRY)


def registry() -> tuple[Backend, ...]:
    """All backends, installed or not, the preferred ones first."""
    return tuple(get(name) for name in REGISTRY)


def get(name: str) -> Backend:
    """The backend of this name.

    Raises:
        BackendError: there is none.
    """
    if name not in REGISTRY:
        raise BackendError(f"backend is {name!r}; allowed: {', '.join(REGISTRY)}")
    return _object(REGISTRY[name])


def reference() -> ReferenceBackend:
    """The backend that runs float32 parts, to compare others with."""
    return cast(ReferenceBackend, get(REFERENCE))


def form_for_all(onnx: bytes) -> bytes:
    """An ONNX file of a part in floats in the form that every backend takes in every version, as it is kept.

    Needs the package onnx; what compiles the file does not.
    """
    from elir_trt.backends.tensorrt_rewrite import for_tensorrt

    return for_tensorrt(onnx)


def versions() -> dict[str, str]:
    """Installed versions of the packages that backends need, by the names that package indexes have."""
    found: dict[str, str] = {}
    for backend in registry():
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[backend.distribution] = importlib.metadata.version(backend.distribution)
    return found


@functools.cache
def _object(place: str) -> Backend:
    module, _, name = place.partition(":")
    return cast(Backend, getattr(importlib.import_module(module), name))
