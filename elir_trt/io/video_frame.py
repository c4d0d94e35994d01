"""A frame of a video, and a place between two of them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from elir_trt.io.source import Frame


@dataclass(frozen=True, kw_only=True)
class VideoFrame(Frame):
    """A decoded frame, upright: ``pixels`` are ``[H, W, 3]``, ``timestamp_s`` counts from the file's start.

    Pixels are uint8, or uint16 (all 16 bits used) where the file has more than 8 bits per channel.

    Attributes:
        pts: time of display in ticks of ``time_base``; it rises from frame to frame.
        time_base: seconds per tick.
        duration: ticks that the frame is shown for, 0 if the file does not say.
        alpha: how opaque, ``[H, W]`` of the pixels' type; None: the file has no alpha.
    """

    pts: int
    time_base: Fraction
    duration: int
    alpha: npt.NDArray[Any] | None = None


@dataclass(frozen=True)
class Position:
    """A place between two frames, to go on from.

    Attributes:
        frames: that were given before it.
        pts: of the last of them.
        checksum: of its pixels, see :func:`checksum`.
    """

    frames: int
    pts: int
    checksum: int


def checksum(pixels: npt.NDArray[Any]) -> int:
    """A number that tells frames apart: the CRC-32 of its bytes."""
    return zlib.crc32(np.ascontiguousarray(pixels).data)
