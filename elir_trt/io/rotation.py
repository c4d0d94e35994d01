"""Turning decoded frames upright, as a video's display matrix says."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import av

Signs = tuple[int, int, int, int]
"""The signs of a display matrix, a b c d; (1, 0, 0, 1) leaves a frame as it is."""


def display_matrix(frame: av.VideoFrame) -> Signs:
    """The signs of the frame's display matrix, if it turns by quarters or mirrors; else identity."""
    side_data: Any = frame.side_data  # typed as a dict, but it is a sequence
    for item in side_data:
        if item.type.name == "DISPLAYMATRIX":
            numbers = struct.unpack("=9i", bytes(item))
            a, b, c, d = (int(np.sign(n)) if abs(n) > 1 << 14 else 0 for n in (*numbers[:2], *numbers[3:5]))
            if (a and d and not b and not c) or (b and c and not a and not d):
                return a, b, c, d
    return 1, 0, 0, 1


def swaps_sides(matrix: Signs) -> bool:
    """Whether height becomes width."""
    return not matrix[0] and not matrix[3]


def degrees(matrix: Signs) -> int:
    """By how much the frame is turned clockwise: 0, 90, 180 or 270."""
    a, b, _, d = matrix
    return (90 if b > 0 else 270) if swaps_sides(matrix) else (180 if a < 0 and d < 0 else 0)


def turn(rgb: npt.NDArray[Any], matrix: Signs) -> npt.NDArray[Any]:
    """Apply a display matrix: x' = a x + c y, y' = b x + d y, with y pointing down."""
    a, b, c, d = matrix
    if (a, d) == (1, 1):
        return rgb
    across, down = a, d
    if swaps_sides(matrix):
        rgb = rgb.swapaxes(0, 1)
        across, down = c, b
    if across < 0:
        rgb = rgb[:, ::-1]
    if down < 0:
        rgb = rgb[::-1]
    return np.ascontiguousarray(rgb)
