"""Frames of any pixel format, and their planes."""

from __future__ import annotations

import numpy as np

from elir_trt.formats import FORMATS


def planes_of(frame: np.ndarray, format: str, height: int, width: int) -> tuple[np.ndarray, ...]:
    """Luma, Cb and Cr of a frame, each as large as it is stored."""
    down, across = FORMATS[format].subsampling
    numbers = frame.reshape(-1) >> FORMATS[format].shift
    luma = numbers[: height * width].reshape(height, width)
    chroma = numbers[height * width :]
    if FORMATS[format].planes == 2:
        both = chroma.reshape(height // down, width // across, 2)
        return luma, both[:, :, 0], both[:, :, 1]
    cb, cr = chroma.reshape(2, height // down, width // across)
    return luma, cb, cr


def plane_shapes(format: str, height: int, width: int) -> list[tuple[int, int]]:
    down, across = FORMATS[format].subsampling
    if FORMATS[format].planes == 2:
        return [(height, width), (height // down, width // across * 2)]
    return [(height, width), *[(height // down, width // across)] * 2]


def array_shape(format: str, height: int, width: int) -> tuple[int, ...]:
    channels = FORMATS[format].channels
    if channels:
        return (height, width) if channels == 1 else (height, width, channels)
    return (sum(h * w for h, w in plane_shapes(format, height, width)) // width, width)


def random_frame(format: str, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Random numbers in every component, zeros below them."""
    row = FORMATS[format]
    drawn = rng.integers(0, 2**row.depth, array_shape(format, height, width), dtype=row.dtype)
    return (drawn << row.shift).astype(row.dtype)
