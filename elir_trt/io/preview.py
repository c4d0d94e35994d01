"""A picture of how far the work is: the newest frame, before and after side by side."""

from __future__ import annotations

import os
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from elir_trt.errors import ElirWarning, MediaError
from elir_trt.extras import needs
from elir_trt.io.compare import side_by_side
from elir_trt.io.images import write_image
from elir_trt.io.paths import check_writable
from elir_trt.io.source import Frame

with needs("cv2", extra="image", what="pictures of the work"):
    import cv2

if TYPE_CHECKING:
    from elir_trt.stream import Result

_EACH_S = 1.0
_HEIGHT, _WIDTH = 360, 1280


class Preview:
    """Writes a small picture of the newest frame, at most once a second, whole each time: call it with each result.

    A picture that cannot be written ends the pictures, with one ElirWarning, and not the work.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Args: path: the picture, such as a .jpg.

        Raises:
            MediaError: the name or the folder does not allow it.
        """
        self.path = check_writable(path, "image", overwrite=True)
        self._next_s = 0.0

    def __call__(self, result: Result, frame: Frame) -> None:
        """Write the picture, if a second has gone by."""
        now = time.monotonic()
        if now < self._next_s:
            return
        self._next_s = now + _EACH_S
        try:
            write_image(self.path, _small(side_by_side(frame.pixels, result.frame)))
        except MediaError as error:
            self._next_s = float("inf")
            warnings.warn(f"{error}; the work goes on without it", ElirWarning, stacklevel=2)


def _small(pixels: Any) -> Any:
    """Eight bits, at most 1280x360."""
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    height, width = pixels.shape[:2]
    scale = min(1.0, _HEIGHT / height, _WIDTH / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return pixels if scale == 1.0 else cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
