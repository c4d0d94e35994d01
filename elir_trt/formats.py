"""How the bytes of a frame are to be read: pixel formats, and what arrays of each look like."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from elir_trt import _core
from elir_trt.errors import FrameError

Frame = npt.NDArray[np.uint8]
#: The core's table of formats, by FFmpeg's names. Frames are arrays of ``dtype``: packed ones ``[H, W, channels]``,
#: gray ``[H, W]``, those of luma and chroma all planes below one another, ``[rows, W]``, as in OpenCV.
FORMATS: Mapping[str, _core.PixelFormat] = MappingProxyType(
    {format.name: format for format in _core.formats()}
)
#: A name of :data:`FORMATS`.
PixelFormat = str
Matrix = Literal["bt601", "bt709"]


@dataclass(frozen=True)
class Pixels:
    """How frames are stored; see :meth:`Restorer.stream`."""

    format: PixelFormat
    output_format: PixelFormat
    matrix: Matrix
    full_range: bool

    def size_of(self, frame: Any) -> tuple[int, int]:
        """Height and width of the picture in an array.

        Raises:
            FrameError: it is no frame of this format.
        """
        format = FORMATS[self.format]
        shape = tuple(int(side) for side in frame.shape)
        good = 0 not in shape and _type_of(frame) == format.dtype
        if format.channels:
            expected = "HxW" + (f"x{format.channels}" if format.channels > 1 else "")
            good = good and len(shape) == (2 if format.channels == 1 else 3)
            good = good and (format.channels == 1 or shape[2] == format.channels)
            height = shape[0] if shape else 0
        else:
            # So many rows of the array stand for so many rows of the picture.
            rows, of = _rows(format)
            down, across = format.subsampling
            expected = f"(H * {rows}{f' / {of}' if of > 1 else ''})xW"
            if (down, across) != (1, 1):
                expected += (
                    f" with {'H and W' if down > 1 and across > 1 else 'W' if across > 1 else 'H'} even"
                )
            good = good and len(shape) == 2 and shape[0] % rows == 0 and shape[1] % across == 0
            height = shape[0] * of // rows if shape else 0
            good = good and height % down == 0
        if not good:
            found = "x".join(str(n) for n in shape)
            raise FrameError(
                f"frame is {frame.dtype} of shape {found}; expected {format.dtype} of shape {expected}"
            )
        return height, shape[1]


def _rows(format: _core.PixelFormat) -> tuple[int, int]:
    """How many rows of an array stand for how many rows of a picture, in lowest terms."""
    shared = math.prod(format.subsampling)
    common = math.gcd(shared + 2, shared)
    return (shared + 2) // common, shared // common


def _type_of(frame: Any) -> str:
    return str(frame.dtype).rsplit(".", 1)[-1]


def check_whole(name: str, value: Any) -> int:
    """A whole number as Python has it.

    Raises:
        ValueError: ``value`` is none.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {value!r}; expected a whole number") from None


def check_size(size: Any) -> tuple[int, int] | None:
    """Height and width of frames, or None.

    Raises:
        ValueError: ``size`` is neither.
    """
    if size is None:
        return None
    try:
        height, width = (operator.index(side) for side in size)
    except (TypeError, ValueError):
        height, width = 0, 0
    if height < 1 or width < 1:
        raise ValueError(f"size is {size!r}; expected height and width in pixels, such as (1080, 1920)")
    return height, width
