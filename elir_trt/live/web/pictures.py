"""Frames as browsers take them: JPEG, with what there is to say about them."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from elir_trt.errors import MediaError
from elir_trt.extras import needs
from elir_trt.io.source import Frame

with needs("cv2", extra="image", what="the page of a live run"):
    import cv2

if TYPE_CHECKING:
    from elir_trt.stream import Result

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Picture:
    """A frame, restored and as it came, for any number of viewers.

    Attributes:
        number: counts up.
        header: of :meth:`message`, besides the sizes of its parts.
        before, after: JPEG; ``before`` is None where nobody compares.
    """

    number: int
    header: dict[str, Any]
    before: bytes | None
    after: bytes

    def message(self, *, compare: bool) -> bytes:
        """For a WebSocket: the header's length (4 bytes, little-endian), the header as JSON, the picture as it came
        (where it is wanted), the restored one."""
        before = self.before if compare and self.before is not None else b""
        header = {**self.header, "id": self.number, "before": len(before), "after": len(self.after)}
        text = json.dumps(header, separators=(",", ":")).encode()
        return b"".join((_LENGTH.pack(len(text)), text, before, self.after))


def header_of(result: Result, captured_s: float) -> dict[str, Any]:
    """What a page shows of a result.

    Args:
        result: of the stream.
        captured_s: when its frame was taken, in seconds of :func:`time.monotonic`.
    """
    return {
        "captured_ms": round(captured_s * 1e3, 3),
        "latency_ms": round(result.latency_ms, 3),
        "rung": result.rung,
        "reason": result.reason,
        "stages": {name: round(value, 3) for name, value in result.stages.items() if value},
    }


def as_bgr(frame: Frame, pixel_format: str) -> npt.NDArray[np.uint8]:
    """The pixels of a source's frame as OpenCV takes them, ``[H, W, 3]`` uint8.

    Args:
        frame: of the source.
        pixel_format: of it, a name of :data:`elir_trt.formats.FORMATS`.

    Raises:
        MediaError: pictures are not made of that format.
    """
    pixels: npt.NDArray[Any] = np.asarray(frame.pixels)
    codes = {"rgb24": cv2.COLOR_RGB2BGR, "rgba": cv2.COLOR_RGBA2BGR, "bgra": cv2.COLOR_BGRA2BGR}
    codes |= {"gray": cv2.COLOR_GRAY2BGR, "nv12": cv2.COLOR_YUV2BGR_NV12, "yuv420p": cv2.COLOR_YUV2BGR_I420}
    if pixel_format == "bgr24":
        return pixels
    if pixel_format == "rgb48le":
        pixels, pixel_format = (pixels >> 8).astype(np.uint8), "rgb24"
    if pixel_format not in codes:
        raise MediaError(
            f"the page shows no frames in {pixel_format}; allowed: bgr24, rgb48le, {', '.join(codes)}"
        )
    return np.asarray(cv2.cvtColor(pixels, codes[pixel_format]), np.uint8)


def as_jpeg(bgr: npt.NDArray[np.uint8], quality: int) -> bytes:
    """A picture, ``[H, W, 3]``, as JPEG of a quality from 1 to 100."""
    return _encoded(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])


def as_png(bgr: npt.NDArray[np.uint8]) -> bytes:
    """A picture, ``[H, W, 3]``, as PNG."""
    return _encoded(".png", bgr, [])


def _encoded(suffix: str, bgr: npt.NDArray[np.uint8], options: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, bgr, options)
    if not done:
        raise MediaError(f"OpenCV makes no {suffix} of a {bgr.shape[1]}x{bgr.shape[0]} picture")
    return data.tobytes()
