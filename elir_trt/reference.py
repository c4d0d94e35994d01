"""Restoring frames with single parts in NumPy: what the core is compared with, and what measures precisions.

The order of the stages is that of the core, and so is the noise, which is the core's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from elir_trt import _core
from elir_trt.backends.base import Array, Run


def to_image(frame: npt.NDArray[np.uint8]) -> Array:
    """``[H, W, 3]`` uint8 to ``[1, 3, H, W]`` in [0, 1]."""
    return np.ascontiguousarray(frame.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255.0))


def noise_of(latent: Array, seed: int, index: int = 0) -> Array:
    """The core's standard normal numbers for a latent ``[1, C, H, W]``: of a stream, or of its frame ``index``."""
    _, channels, height, width = latent.shape
    field: Array = _core.noise_field(seed, channels, height, width, index)
    return field[None]


def euler_latents(velocity: Run, start: Array, rows: Array) -> Iterator[Array]:
    """The latents at t = 0, 1 / K, ... 1 of K Euler steps from ``start``.

    Args:
        velocity: the part.
        start: latent ``[1, C, H, W]``, with its noise.
        rows: of the conditioning table for these steps, ``[K, width]``.
    """
    latent = start
    yield latent
    for k in range(len(rows)):
        moved = velocity({"latent": latent, "condition": rows[k : k + 1]})
        latent = latent + moved / np.float32(len(rows))
        yield latent


def restore(
    parts: Mapping[str, Run], image: Array, rows: Array, *, sigma: float, seed: int, index: int = 0
) -> Array:
    """Restore one image.

    Args:
        parts: the four parts.
        image: ``[1, 3, H, W]`` in [0, 1].
        rows: of the conditioning table, ``[K, width]``; with none the coarse estimate is decoded, without noise.
        sigma: standard deviation of the noise.
        seed, index: of the noise, see :func:`noise_of`.

    Returns:
        ``[1, 3, H, W]`` in [0, 1].
    """
    latent = parts["coarse"]({"encoded": parts["encoder"]({"image": image})})
    if len(rows):
        latent = latent + np.float32(sigma) * noise_of(latent, seed, index)
        *_, latent = euler_latents(parts["velocity"], latent, rows)
    return np.clip(parts["decoder"]({"latent": latent, "image": image}), np.float32(0.0), np.float32(1.0))
