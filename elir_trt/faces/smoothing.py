"""Smoothing of points over time: the one-euro filter (Casiez, Roussel and Vogel, CHI 2012)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

#: Of points that stand still, in Hz: what changes faster is taken for jitter.
STILL_CUTOFF_HZ = 1.5
#: Further Hz for a speed of one face per second, so that what moves is not late.
CUTOFF_PER_SPEED_HZ = 6.0
#: Of the speed itself.
SPEED_CUTOFF_HZ = 1.0


class OneEuro:
    """A low pass over points that opens with their speed, which is measured in sizes of the face per second."""

    def __init__(self, points: npt.NDArray[np.float64]) -> None:
        """Begin at points ``[N, 2]``, in pixels."""
        self.points = points.copy()
        self._speeds = np.zeros_like(points)

    def update(
        self, points: npt.NDArray[np.float64], seconds: float, face_size_px: float
    ) -> npt.NDArray[np.float64]:
        """Take the points of the next frame, ``seconds`` later; gives them smoothed."""
        speeds = (points - self.points) / (seconds * face_size_px)
        self._speeds += _weight(SPEED_CUTOFF_HZ, seconds) * (speeds - self._speeds)
        speed = float(np.sqrt(np.mean(np.sum(self._speeds**2, axis=1))))
        weight = _weight(STILL_CUTOFF_HZ + CUTOFF_PER_SPEED_HZ * speed, seconds)
        self.points = self.points + weight * (points - self.points)
        return self.points


def _weight(cutoff_hz: float, seconds: float) -> float:
    """Of the newest sample, in a low pass of first order."""
    return 1.0 / (1.0 + 1.0 / (2 * math.pi * cutoff_hz * seconds))
