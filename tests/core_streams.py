"""Streams of the core alone, with parts that are Python functions."""

from __future__ import annotations

from typing import Any

import numpy as np

from elir_trt import _core

RNG = np.random.default_rng(0)


def make(frame: tuple[int, int], engine: tuple[int, int], **changes: Any) -> _core.Stream:
    options: dict[str, Any] = {
        "frame_height": frame[0],
        "frame_width": frame[1],
        "engine_height": engine[0],
        "engine_width": engine[1],
        "scaled_height": frame[0],
        "scaled_width": frame[1],
        "scale_y": 1.0,
        "scale_x": 1.0,
        "interpolation": "bicubic",
        "tiles": [(0, 0)],
        "downscale": 4,
        "latent_channels": 5,
        "sigma": 0.0,
        "steps": 0,
        "table": np.zeros((0, 3), np.float32),
    }
    options.update(changes)
    return _core.Stream(**options)


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
