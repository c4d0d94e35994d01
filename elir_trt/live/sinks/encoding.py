"""How live frames are encoded: at once, with the times that they were taken at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy.typing as npt

from elir_trt.io.encoding import EncodeOptions, Encoding, FrameMaker, choose
from elir_trt.io.source import Frame
from elir_trt.live.frame import LiveFrame

TIME_BASE = Fraction(1, 90_000)
"""Of live video: frames come when they come, and no rate divides their times."""

_PRESETS = {"libx264": "veryfast", "libx265": "ultrafast", "libsvtav1": "11"}


@dataclass(frozen=True)
class LiveEncodeOptions:
    """What a user asks of the encoder of a live run.

    Attributes:
        encode: codec, quality, preset, pixel format, see :class:`elir_trt.io.encoding.EncodeOptions`.
        rate: frames per second that are expected; only rate control looks at it.
        low_delay: give each frame at once, which costs quality.
    """

    encode: EncodeOptions
    rate: Fraction = Fraction(30)
    low_delay: bool = False


def live_encoding(container: str, size: tuple[int, int], options: LiveEncodeOptions) -> Encoding:
    """How frames of a size are encoded.

    Args:
        container: a value of :data:`elir_trt.io.encoding.CONTAINERS`.
        size: height and width.
        options: of the user.

    Raises:
        MediaError: the encoder is not here, or the container holds no such stream.
    """
    found, _ = choose(container, None, size, options.rate, options.encode)
    extra = dict(found.options)
    if options.encode.preset is None and found.codec in _PRESETS:
        extra["preset"] = _PRESETS[found.codec]
    if options.low_delay and found.codec in ("libx264", "libx265"):
        extra["tune"] = "zerolatency"
        extra["g"] = str(round(2 * options.rate))  # who comes late waits two seconds at most
    return replace(found, time_base=TIME_BASE, options=extra)


class FrameTimer:
    """Gives frames their times, counted from the first, in ticks of :data:`TIME_BASE`, which rise."""

    def __init__(self) -> None:
        self._start_s: float | None = None
        self._last = -1

    def __call__(self, frame: Frame) -> int:
        """The time of a frame."""
        taken_s = frame.captured_s if isinstance(frame, LiveFrame) else frame.timestamp_s
        if taken_s is None:
            taken_s = (self._start_s or 0.0) + float((self._last + 3000) * TIME_BASE)
        if self._start_s is None:
            self._start_s = taken_s
        self._last = max(self._last + 1, round((taken_s - self._start_s) / TIME_BASE))
        return self._last


class LiveEncoder:
    """Frames to packets, through an encoder that is open.

    Args of the constructor: ``encoding``, and ``context``: PyAV's encoder or stream of it.
    """

    def __init__(self, encoding: Encoding, context: Any) -> None:
        self._make = FrameMaker(encoding)
        self._context = context

    def encode(self, rgb: npt.NDArray[Any], pts: int) -> list[Any]:
        """The packets that a frame makes ready."""
        packets: list[Any] = self._context.encode(self._make(rgb, pts, 0))
        return packets

    def flush(self) -> list[Any]:
        """The packets of frames that were kept back."""
        packets: list[Any] = self._context.encode(None)
        return packets
