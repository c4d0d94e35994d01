"""How the bytes of a frame are to be read: pixel formats, and what arrays of each look like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from elir_trt.errors import FrameError

Frame = npt.NDArray[np.uint8]
#: FFmpeg's names.
PixelFormat = Literal["rgb24", "bgr24", "rgba", "bgra", "gray", "nv12"]
FORMATS = ("rgb24", "bgr24", "rgba", "bgra", "gray", "nv12")


@dataclass(frozen=True)
class Pixels:
    """How frames are stored; see :meth:`Restorer.stream`."""

    format: PixelFormat
    output_format: PixelFormat
    matrix: Literal["bt601", "bt709"]
    full_range: bool

    def size_of(self, frame: Any) -> tuple[int, int]:
        """Height and width of the picture in an array.

        Raises:
            FrameError: it is no frame of this format.
        """
        shape = tuple(int(side) for side in frame.shape)
        channels = {"rgb24": 3, "bgr24": 3, "rgba": 4, "bgra": 4}.get(self.format)
        expected = "HxW" + ("" if channels is None else f"x{channels}")
        good = len(shape) == (2 if channels is None else 3) and 0 not in shape
        if self.format == "nv12":
            expected = "(H * 3 / 2)xW with H and W even"
            good = good and shape[0] % 3 == 0 and shape[1] % 2 == 0
        if not good or (channels is not None and shape[2] != channels) or not _is_uint8(frame):
            found = "x".join(str(n) for n in shape)
            raise FrameError(f"frame is {frame.dtype} of shape {found}; expected uint8 of shape {expected}")
        return (shape[0] * 2 // 3 if self.format == "nv12" else shape[0]), shape[1]


def _is_uint8(frame: Any) -> bool:
    return str(frame.dtype).rsplit(".", 1)[-1] == "uint8"


def check_frame(frame: Any) -> Frame:
    """Return ``frame`` as an array, or raise FrameError that says what is wrong with it."""
    if not isinstance(frame, np.ndarray):
        raise FrameError(f"frame is a {type(frame).__name__}; expected a numpy array [H, W, 3] of uint8")
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        shape = "x".join(str(n) for n in frame.shape)
        raise FrameError(f"frame is {frame.dtype} of shape {shape}; expected uint8 of shape HxWx3")
    return frame
