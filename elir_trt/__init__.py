"""Latent flow image restoration (ELIR) as engines, a C++ core and streams of frames.

Open a bundle, or a restorer that ships with the package, and restore images or streams::

    import elir_trt

    restorer = elir_trt.open("camera")
    restored = restorer(image)  # H x W x 3, uint8, RGB

    with restorer.stream(depth=3) as stream:
        for result in stream.map(frames):
            show(result.frame)

Bundles are built once, on the machine that runs them, by ``elir-trt build`` or :func:`elir_trt.building.build`.
Importing the package imports none of torch, onnx, tensorrt, openvino, OpenCV and PyAV.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

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
    MissingPackageError,
    RecipeError,
)
from elir_trt.lazy import lazily

if TYPE_CHECKING:
    from elir_trt.bundle import Bundle
    from elir_trt.restorer import Restorer, open
    from elir_trt.stream import Result, Stream

__version__ = "0.1.0"

if importlib.util.find_spec("elir_trt._core") is None:
    raise ImportError(
        f"{__path__[0]} holds the sources of elir_trt, without the compiled core. Install them, from their folder, "
        "with: pip install '.[all]'. Then run from another folder, or with python -P, because Python looks for "
        "modules in the folder that it runs in first.",
        name="elir_trt._core",
        path=__path__[0],
    )

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
    "MissingPackageError",
    "RecipeError",
    "Restorer",
    "Result",
    "Stream",
    "open",
]


__getattr__, __dir__ = lazily(
    __name__,
    {
        "Bundle": "elir_trt.bundle",
        "Restorer": "elir_trt.restorer",
        "Result": "elir_trt.stream",
        "Stream": "elir_trt.stream",
        "open": "elir_trt.restorer",
    },
)
