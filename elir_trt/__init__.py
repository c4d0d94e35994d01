"""Latent flow image restoration (ELIR) as engines, a C++ core and streams of frames.

Open a bundle, or a restorer that ships with the package, and restore images or streams::

    import elir_trt

    restorer = elir_trt.open("camera")
    restored = restorer(image)  # H x W x 3, uint8, RGB

    with restorer.stream(depth=3) as stream:
        for result in stream.map(frames):
            show(result.frame)

Bundles are built once, on the machine that runs them, by ``elir-trt build`` or :func:`elir_trt.building.build`.
Importing the package imports none of torch, onnx, tensorrt and openvino.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from elir_trt.errors import (
    BackendError,
    BuildError,
    BundleError,
    CalibrationError,
    CheckpointError,
    DeviceError,
    ElirError,
    ElirWarning,
    ExportError,
    FrameError,
    MediaError,
    RecipeError,
)

if TYPE_CHECKING:
    from elir_trt.bundle import Bundle
    from elir_trt.restorer import Restorer, open
    from elir_trt.stream import Result, Stream

__version__ = "0.1.0"

_LAZY = {
    "Bundle": "elir_trt.bundle",
    "Restorer": "elir_trt.restorer",
    "Result": "elir_trt.stream",
    "Stream": "elir_trt.stream",
    "open": "elir_trt.restorer",
}

__all__ = [
    "BackendError",
    "BuildError",
    "Bundle",
    "BundleError",
    "CalibrationError",
    "CheckpointError",
    "DeviceError",
    "ElirError",
    "ElirWarning",
    "ExportError",
    "FrameError",
    "MediaError",
    "RecipeError",
    "Restorer",
    "Result",
    "Stream",
    "open",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        import importlib

        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_LAZY))
