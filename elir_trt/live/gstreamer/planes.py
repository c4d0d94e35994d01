"""Video frames of GStreamer as arrays, without a copy where the layout allows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from elir_trt.formats import PixelFormat

FORMATS: dict[str, PixelFormat] = {"RGB": "rgb24", "BGR": "bgr24", "NV12": "nv12", "I420": "yuv420p"}
"""GStreamer's names of the formats that the element takes, and the package's."""

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Layout:
    """Where the planes of a frame lie in a buffer.

    Attributes:
        format: a key of :data:`FORMATS`.
        height, width: of the frame.
        offsets: of each plane's first byte.
        pitches: bytes from one row to the next, of each plane.
    """

    format: str
    height: int
    width: int
    offsets: Sequence[int]
    pitches: Sequence[int]

    @property
    def planes(self) -> list[tuple[int, int]]:
        """Rows and used bytes of a row, of each plane."""
        height, width = self.height, self.width
        if self.format in ("RGB", "BGR"):
            return [(height, 3 * width)]
        half = (height + 1) // 2, (width + 1) // 2
        if self.format == "NV12":
            return [(height, width), (half[0], 2 * half[1])]
        return [(height, width), half, half]

    @property
    def is_packed(self) -> bool:
        """Whether the planes follow each other without gaps, as the package takes them."""
        at = self.offsets[0]
        for (rows, used), offset, pitch in zip(self.planes, self.offsets, self.pitches, strict=False):
            if offset != at or pitch != used:
                return False
            at += rows * used
        return True

    def views(self, data: Bytes) -> list[Bytes]:
        """The planes, ``[rows, bytes]`` each, in the buffer itself."""
        return [
            np.lib.stride_tricks.as_strided(data[offset:], (rows, used), (pitch, 1))
            for (rows, used), offset, pitch in zip(self.planes, self.offsets, self.pitches, strict=False)
        ]

    def shape(self) -> tuple[int, ...]:
        """Of the array that a stream takes."""
        if self.format in ("RGB", "BGR"):
            return self.height, self.width, 3
        return self.height * 3 // 2, self.width

    def array(self, data: Bytes) -> Bytes:
        """The frame as a stream takes it: a view of the buffer; a copy where planes of I420 or NV12 have gaps.

        Args:
            data: the bytes of the buffer.
        """
        if self.format in ("RGB", "BGR"):
            pitch = self.pitches[0]
            return np.lib.stride_tricks.as_strided(data[self.offsets[0] :], self.shape(), (pitch, 3, 1))
        if self.is_packed:
            size = self.height * self.width * 3 // 2
            return data[self.offsets[0] : self.offsets[0] + size].reshape(self.shape())
        return np.concatenate([view.reshape(-1) for view in self.views(data)]).reshape(self.shape())

    def fill(self, data: Bytes, frame: Bytes) -> None:
        """Write a result into a buffer.

        Args:
            data: the bytes of the buffer.
            frame: as a stream gives it.
        """
        flat, at = frame.reshape(-1), 0
        for view in self.views(data):
            rows, used = view.shape
            np.copyto(view, flat[at : at + rows * used].reshape(rows, used))
            at += rows * used
