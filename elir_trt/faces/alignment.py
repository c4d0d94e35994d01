"""Alignment: where a face lies in its frame, as the similarity that takes it to the template."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from elir_trt.faces.detector import Points

#: ``[2, 3]``: from x, y, 1 of one picture to x, y of another.
Matrix = npt.NDArray[np.float64]
#: Sides of an aligned face in pixels.
SIDE = 512
#: Where the five landmarks of an aligned face lie, in pixels of 512x512: those of facexlib, which GFPGAN and the
#: restorers after it were trained with (the mean of FFHQ's faces, found by RetinaFace).
TEMPLATE: Points = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)
EYE_DISTANCE = float(np.hypot(*(TEMPLATE[1] - TEMPLATE[0])))
"""Pixels between the eyes of the template."""


@dataclass(frozen=True)
class Alignment:
    """A similarity (rotation, one scale, shift; never mirrored) from a frame to the template.

    Attributes:
        matrix: ``[2, 3]``, from pixels of the frame to pixels of the aligned face.
        residual: root mean square distance of the moved landmarks from the template's, in distances between the
            template's eyes. Some 0.05 for a face that looks at the camera; a profile has more than 0.2.
    """

    matrix: Matrix
    residual: float

    @property
    def scale(self) -> float:
        """Pixels of the aligned face per pixel of the frame."""
        return scale_of(self.matrix)


def align(landmarks: Points) -> Alignment | None:
    """The similarity that brings landmarks nearest to the template, in the sense of least squares.

    As numbers in the complex plane, points of the frame go to ``a * z + b``: the two are found by linear regression,
    and there is no reflection to exclude (the same optimum as that of Umeyama, PAMI 1991).

    Args:
        landmarks: ``[5, 2]``, see :class:`elir_trt.faces.Detection`.

    Returns:
        None: the landmarks are one point, or not finite.
    """
    found = landmarks[:, 0] + 1j * landmarks[:, 1]
    wanted = TEMPLATE[:, 0] + 1j * TEMPLATE[:, 1]
    centred = found - found.mean()
    spread = float(np.sum(np.abs(centred) ** 2))
    if not math.isfinite(spread) or spread < 1e-6:
        return None
    a = complex(np.sum(np.conj(centred) * (wanted - wanted.mean())) / spread)
    if abs(a) < 1e-6:
        return None
    b = complex(wanted.mean() - a * found.mean())
    residual = float(np.sqrt(np.mean(np.abs(a * found + b - wanted) ** 2))) / EYE_DISTANCE
    matrix = np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])
    return Alignment(matrix, residual)


def inverse(matrix: Matrix) -> Matrix:
    """The way back."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.hstack([linear, -linear @ matrix[:, 2:]])


def after(second: Matrix, first: Matrix) -> Matrix:
    """``first``, then ``second``."""
    return np.hstack([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2:] + second[:, 2:]])


def scale_of(matrix: Matrix) -> float:
    """Pixels of the target per pixel of the source."""
    return math.sqrt(abs(float(np.linalg.det(matrix[:, :2]))))


def resizing(before: tuple[int, int], now: tuple[int, int]) -> Matrix:
    """From a picture of one height and width to the same picture in another; edges fall on edges."""
    down, across = now[0] / before[0], now[1] / before[1]
    return np.array([[across, 0.0, (across - 1) / 2], [0.0, down, (down - 1) / 2]])
