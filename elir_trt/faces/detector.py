"""What finds faces: the one thing that is asked of a detector, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from elir_trt.extras import needs
from elir_trt.formats import Frame

#: Coordinates of points, ``[N, 2]``, x before y, in pixels whose centres have whole numbers.
Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Detection:
    """A face in a picture.

    Attributes:
        box: left, top, width and height in pixels; may reach beyond the picture.
        landmarks: ``[5, 2]``, x and y in pixels: the eye and later the corner of the mouth that lie further left in
            an upright face come first: eye, eye, tip of the nose, corner, corner.
        score: how sure the detector is, 0 to 1.
    """

    box: tuple[float, float, float, float]
    landmarks: Points
    score: float


class Detector(Protocol):
    """Finds faces. Used by one thread of each stream, so by several at once where there are several streams.

    Attributes:
        name: that with which films are told apart that were begun with another detector.
    """

    @property
    def name(self) -> str: ...

    def detect(self, image: Frame) -> list[Detection]:
        """Find the faces of a picture, ``[H, W, 3]`` uint8, RGB, C-contiguous. What it raises fails the frame."""


def shrunk(image: Frame, longest_side: int) -> tuple[Frame, float]:
    """A picture whose sides are at most ``longest_side``, and its pixels per pixel of ``image``."""
    height, width = image.shape[:2]
    if max(height, width) <= longest_side:
        return image, 1.0
    with needs("cv2", extra="faces", what="finding faces"):
        import cv2
    scale = longest_side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8), scale


def enlarged(detection: Detection, scale: float) -> Detection:
    """A detection in the picture that :func:`shrunk` was given."""
    if scale == 1.0:
        return detection
    left, top, width, height = detection.box
    return Detection(
        box=((left + 0.5) / scale - 0.5, (top + 0.5) / scale - 0.5, width / scale, height / scale),
        landmarks=(detection.landmarks + 0.5) / scale - 0.5,
        score=detection.score,
    )
