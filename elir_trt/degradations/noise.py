"""Noise, and rounding to 8 bits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Pixels = npt.NDArray[np.float32]


def gaussian_noise(image: Pixels, sigma: float, rng: np.random.Generator) -> Pixels:
    """Add white Gaussian noise; ``image`` and ``sigma`` in units of 0 to 255. Not clipped."""
    return image + rng.standard_normal(image.shape, dtype=np.float32) * np.float32(sigma)


def sensor_noise(linear: Pixels, shot: float, read: float, rng: np.random.Generator) -> Pixels:
    """Replace linear light by what a sensor counts: variance ``shot * linear + read ** 2``. Not clipped.

    Source: Foi et al., "Practical Poissonian-Gaussian Noise Modeling and Fitting for Single-Image Raw-Data",
    IEEE TIP 2008.

    Args:
        linear: linear light, any shape, 1 where the sensor is full.
        shot: variance of the photons' noise at full light, so ``1 / shot`` photons fill the sensor; above 0.
        read: standard deviation of the electronics' noise.
        rng: draws the noise.
    """
    counted = rng.poisson(np.maximum(linear, 0.0) / shot).astype(np.float32) * np.float32(shot)
    return counted + rng.standard_normal(linear.shape, dtype=np.float32) * np.float32(read)


def to_uint8(image: Pixels) -> Image:
    """Round and clip to 8 bits."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
