"""Which sink a text on the command line means."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from elir_trt.errors import ElirError
from elir_trt.io.paths import WRITABLE_VIDEOS
from elir_trt.io.sink import Sink

_DEVICE = re.compile(r"(?:v4l2:)?(/dev/video\d+)$")


def open_sink(
    text: str,
    *,
    codec: str | None = None,
    crf: int | None = None,
    preset: str | None = None,
    rate: float = 30.0,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Sink:
    """The sink that a text means.

    Args:
        text: "window", "/dev/video9" for a loopback device, an address (rtsp, rtmp, srt, udp, tcp), or a video file.
        codec, crf, preset: see :class:`elir_trt.io.encoding.EncodeOptions`; for files and addresses.
        rate: frames per second that are expected.
        overwrite: replace an existing file.
        say: called with a line when something happens to it.

    Raises:
        ElirError: it means none, or that sink cannot be opened.
    """
    if text == "window":
        from elir_trt.live.sinks.window import Window

        return Window()
    device = _DEVICE.match(text)
    if device:
        from elir_trt.live.sinks.loopback import Loopback

        return Loopback(device[1])
    if "://" not in text and Path(text).suffix.lower() not in WRITABLE_VIDEOS:
        raise ElirError(
            f"{text}: no output of that name; expected window, /dev/video9, an address (rtsp://, rtmp://, srt://, "
            f"udp://), or a file with {', '.join(WRITABLE_VIDEOS)}"
        )
    from elir_trt.io.encoding import EncodeOptions
    from elir_trt.live.sinks.encoding import LiveEncodeOptions

    options = LiveEncodeOptions(
        EncodeOptions(codec, crf, preset), Fraction(rate).limit_denominator(1001), low_delay="://" in text
    )
    if "://" in text:
        from elir_trt.live.sinks.broadcast import Broadcast

        if codec is None:
            encode = replace(options.encode, codec="h264", crf=23 if crf is None else crf)
            options = replace(options, encode=encode)
        return Broadcast(text, options=options, say=say)
    from elir_trt.live.sinks.recording import Recording

    return Recording(text, options=options, overwrite=overwrite, say=say)
