"""NIQE: how far an image's statistics are from those of undamaged photos. Lower is better; no reference is needed.

Source: Mittal, Soundararajan, Bovik, "Making a 'Completely Blind' Image Quality Analyzer", IEEE SPL 2013. The
model of undamaged photos is fitted to the photos that are given, so figures compare with each other, not with
those of the authors' model.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt
from scipy.special import gamma

Image = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float64]
PATCH = 96
#: Share of the sharpest patch's sharpness that a patch needs to be in the model.
SHARP = 0.75
_SHAPES = np.arange(0.2, 10.001, 0.001)
_RATIOS = gamma(2 / _SHAPES) ** 2 / (gamma(1 / _SHAPES) * gamma(3 / _SHAPES))


def _normalized(gray: Array) -> tuple[Array, Array]:
    """Mean-subtracted contrast-normalized coefficients, and the local deviations."""
    mean = cv2.GaussianBlur(gray, (7, 7), 7 / 6)
    deviation = np.sqrt(np.abs(cv2.GaussianBlur(gray * gray, (7, 7), 7 / 6) - mean * mean))
    return np.asarray((gray - mean) / (deviation + 1.0)), np.asarray(deviation)


def _asymmetric(values: Array) -> tuple[float, float, float, float]:
    """Shape, left and right scale, and mean of the asymmetric generalized Gaussian that fits by its moments."""
    left = np.sqrt(np.mean(values[values < 0] ** 2)) if np.any(values < 0) else 1e-6
    right = np.sqrt(np.mean(values[values > 0] ** 2)) if np.any(values > 0) else 1e-6
    ratio = left / right
    moment = np.mean(np.abs(values)) ** 2 / max(np.mean(values**2), 1e-12)
    target = moment * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shape = float(_SHAPES[int(np.argmin((_RATIOS - target) ** 2))])
    scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    mean = (right - left) * scale * gamma(2 / shape) / gamma(1 / shape)
    return shape, float(left * scale), float(right * scale), float(mean)


def _features(patch: Array) -> list[float]:
    shape, left, right, _ = _asymmetric(patch)
    found = [shape, (left + right) / 2]
    for down, along in ((0, 1), (1, 0), (1, 1), (1, -1)):
        shifted = np.roll(patch, (down, along), axis=(0, 1))
        shape, left, right, mean = _asymmetric(patch * shifted)
        found += [shape, mean, left, right]
    return found


def patch_features(image: Image) -> tuple[Array, Array]:
    """36 features of each patch of 96 pixels ``[patches, 36]``, and each patch's sharpness ``[patches]``."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)
    rows, columns = gray.shape[0] // PATCH, gray.shape[1] // PATCH
    gray = np.asarray(gray[: rows * PATCH, : columns * PATCH])
    half = cv2.resize(gray, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    levels = [(_normalized(gray), PATCH), (_normalized(np.asarray(half, np.float64)), PATCH // 2)]
    features, sharpness = [], []
    for y in range(rows):
        for x in range(columns):
            row: list[float] = []
            for (coefficients, _), size in levels:
                row += _features(coefficients[y * size : (y + 1) * size, x * size : (x + 1) * size])
            features.append(row)
            sharpness.append(levels[0][0][1][y * PATCH : (y + 1) * PATCH, x * PATCH : (x + 1) * PATCH].mean())
    return np.array(features), np.array(sharpness)


class Niqe:
    """A model of undamaged photos."""

    def __init__(self, photos: Iterable[Image]) -> None:
        """Fit the model to the sharp patches of ``photos`` ``[H, W, 3]`` RGB."""
        chosen = []
        for photo in photos:
            features, sharpness = patch_features(photo)
            if len(features):
                chosen.append(features[sharpness > SHARP * sharpness.max()])
        pristine = np.concatenate(chosen)
        self.mean, self.covariance = pristine.mean(axis=0), np.cov(pristine.T)

    def __call__(self, image: Image) -> float:
        """The distance of an image of at least 192x192 pixels."""
        features, _ = patch_features(image)
        difference = features.mean(axis=0) - self.mean
        covariance = (np.cov(features.T) + self.covariance) / 2
        return float(np.sqrt(difference @ np.linalg.pinv(covariance) @ difference))
