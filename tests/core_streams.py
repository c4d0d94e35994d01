"""Streams of the core alone, with parts that are Python functions."""

from __future__ import annotations

from typing import Any

import numpy as np

from elir_trt import _core

RNG = np.random.default_rng(0)


def geometry(frame: tuple[int, int], engine: tuple[int, int], **changes: Any) -> _core.Geometry:
    arguments: dict[str, Any] = {
        "frame": frame,
        "engine": engine,
        "scaled": frame,
        "scale": (1.0, 1.0),
        "interpolation": "bicubic",
        "tiles": [(0, 0)],
        "downscale": 4,
        "latent_channels": 5,
    }
    return _core.Geometry(**{**arguments, **changes})


def options(**changes: Any) -> _core.StreamOptions:
    arguments: dict[str, Any] = {"sigma": 0.0, "steps": 0, "table": np.zeros((0, 3), np.float32)}
    return _core.StreamOptions(**{**arguments, **changes})


#: What of a stream is its geometry.
GEOMETRY = ("scaled", "scale", "interpolation", "tiles", "downscale", "latent_channels")


def make(frame: tuple[int, int], engine: tuple[int, int], **changes: Any) -> _core.Stream:
    shape = {name: changes.pop(name) for name in GEOMETRY if name in changes}
    return _core.Stream(geometry(frame, engine, **shape), options(**changes))


def nothing(handle: int) -> None:
    assert handle == 0


def wire(stream: _core.Stream, **parts: Any) -> _core.Stream:
    """Parts that do nothing, and a decoder that passes the image through, unless others are given."""
    image, decoded = stream.buffer("image"), stream.buffer("decoded")
    all_parts = {"encoder": nothing, "coarse": nothing, "velocity": nothing}
    all_parts["decoder"] = lambda handle: np.copyto(decoded, image)
    for name, part in {**all_parts, **parts}.items():
        stream.set_part(name, part)
    stream.start()
    return stream


def frame_of(height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
