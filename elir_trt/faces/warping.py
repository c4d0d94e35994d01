"""Warping: a picture sampled where a similarity says, without aliasing and without a shift."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from elir_trt.extras import needs
from elir_trt.faces.alignment import Matrix, after, inverse, resizing, scale_of

Floats = npt.NDArray[np.float32]
_MARGIN_PX = 4  # of the source around what is sampled, beside the kernel's own reach
_LOBES = 3


def quad_bounds(matrix: Matrix, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of where a picture of ``size`` (height, width) lies under a matrix."""
    height, width = size
    x, y = (
        np.array([-0.5, width - 0.5, width - 0.5, -0.5]),
        np.array([-0.5, -0.5, height - 0.5, height - 0.5]),
    )
    across, down = matrix[:, :2] @ np.stack([x, y]) + matrix[:, 2:]
    return float(across.min()), float(down.min()), float(across.max()), float(down.max())


def cut_out(image: npt.NDArray[Any], matrix: Matrix, size: tuple[int, int]) -> Floats:
    """Sample a part of a picture; beyond its border it is mirrored.

    Args:
        image: ``[H, W, C]`` uint8, uint16 or float32.
        matrix: from its pixels to those of the result.
        size: height and width of the result.

    Returns:
        ``[height, width, C]`` float32, with the overshoot of the kernels.
    """
    left, top, right, bottom = quad_bounds(inverse(matrix), size)
    reach = _MARGIN_PX + math.ceil(_LOBES / min(1.0, scale_of(matrix)))
    x, y = math.floor(left) - reach, math.floor(top) - reach
    columns = _mirrored(np.arange(x, math.ceil(right) + reach), image.shape[1])
    rows = _mirrored(np.arange(y, math.ceil(bottom) + reach), image.shape[0])
    part = image[rows[:, np.newaxis], columns].astype(np.float32)
    return warp(part, after(matrix, np.array([[1.0, 0.0, x], [0.0, 1.0, y]])), size)


def _mirrored(places: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
    """Places along a side, at any distance, mirrored into it. OpenCV's own border does so step by step."""
    if length == 1:
        return np.zeros_like(places)
    period = 2 * (length - 1)
    within = np.abs(places) % period
    return np.asarray(np.minimum(within, period - within))


def warp(image: Floats, matrix: Matrix, size: tuple[int, int]) -> Floats:
    """Sample a whole picture: bicubic at the exact places, after a low pass (Lanczos) where the result is coarser.

    The low pass is applied at the picture's own resolution, so that what the result can show is hardly touched, and
    nothing is moved by half a pixel. Arguments as :func:`cut_out`.
    """
    with needs("cv2", extra="faces", what="restoring faces"):
        import cv2
    while scale_of(matrix) <= 0.25 and min(image.shape[:2]) >= 2:
        # Far more pixels than are needed: half of them in each direction are still twice as many.
        half = (image.shape[0] // 2, image.shape[1] // 2)
        matrix = after(matrix, inverse(resizing(image.shape[:2], half)))
        image = np.asarray(cv2.resize(image, half[::-1], interpolation=cv2.INTER_AREA), dtype=np.float32)
    scale = scale_of(matrix)
    if scale < 1.0:
        kernel = _low_pass(scale)
        image = np.asarray(
            cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101), dtype=np.float32
        )
    height, width = size
    warped = cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(warped, dtype=np.float32)


def _low_pass(scale: float) -> npt.NDArray[np.float64]:
    """Lanczos's kernel with three lobes, of a picture that will have ``scale`` pixels for each."""
    reach = math.ceil(_LOBES / scale)
    at = np.arange(-reach, reach + 1) * scale
    kernel = np.where(np.abs(at) < _LOBES, np.sinc(at) * np.sinc(at / _LOBES), 0.0)
    return np.asarray(kernel / kernel.sum())
