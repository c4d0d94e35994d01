"""Before and after in one picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from elir_trt.extras import needs

Pixels = npt.NDArray[Any]


def side_by_side(before: Pixels, after: Pixels) -> Pixels:
    """``before`` left of ``after``, both ``[H, W, 3]`` of one type, scaled to the size of ``after``."""
    return np.hstack([resized(before, after.shape), after])


def resized(pixels: Pixels, shape: tuple[int, ...]) -> Pixels:
    """Pixels scaled (bicubic) to the height and width of ``shape``; as they are if they have them."""
    if pixels.shape[:2] == shape[:2]:
        return pixels
    with needs("cv2", extra="image", what="comparing pictures of two sizes"):
        import cv2
    return np.asarray(
        cv2.resize(pixels, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), dtype=pixels.dtype
    )
