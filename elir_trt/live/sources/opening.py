"""Which source a text on the command line means."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from elir_trt.errors import ElirError
from elir_trt.io.source import Source
from elir_trt.live.monitor import Monitor
from elir_trt.live.source import LiveSource, Reconnecting

Kind = Literal["test", "camera", "network", "pipeline", "file"]

_SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "srt")
_PATTERN = re.compile(r"test(?::(\d+)x(\d+))?(?:@(\d+(?:\.\d+)?))?$")
_DEVICE = re.compile(r"(?:v4l2:)?(/dev/video\d+)$|(\d+)$")


@dataclass(frozen=True)
class SourceOptions:
    """How sources are opened; each kind takes what concerns it.

    Attributes:
        size: height and width to ask a camera for.
        rate: frames per second to ask a camera for.
        fourcc: of a camera's pixels, such as "MJPG".
        transport: of RTSP, "tcp" or "udp".
        realtime: play a file as a camera.
        loop: for ever.
        timeout_s: of the network.
    """

    size: tuple[int, int] | None = None
    rate: float | None = None
    fourcc: str | None = None
    transport: Literal["tcp", "udp"] = "tcp"
    realtime: bool = False
    loop: bool = False
    timeout_s: float = 5.0


def parse_source(text: str) -> tuple[Kind, str]:
    """What kind of source a text means, and its name without what says the kind.

    Args:
        text: "test", "test:640x360@30", "/dev/video0", "v4l2:/dev/video0", "0", an address, "gst:PIPELINE", a
            pipeline with "!" in it, or a file.

    Raises:
        ElirError: it is none of them.
    """
    if _PATTERN.match(text):
        return "test", text
    device = _DEVICE.match(text)
    if device:
        return "camera", device[1] or f"/dev/video{device[2]}"
    scheme, separator, _ = text.partition("://")
    if separator and scheme.lower() in _SCHEMES:
        return "network", text
    if text.startswith("gst:"):
        return "pipeline", text[4:].strip()
    if " ! " in text:
        return "pipeline", text
    if Path(text).is_file():
        return "file", text
    raise ElirError(
        f"{text}: no source of that name; expected test or test:640x360@30, /dev/video0, an address "
        f"({', '.join(f'{name}://' for name in _SCHEMES)}), gst:PIPELINE, or a video file with --realtime"
    )


def connector(text: str, options: SourceOptions) -> tuple[Kind, str, Callable[[], Source]]:
    """The kind and the name of a source, and what opens it.

    Raises:
        ElirError: the text means no source, or a file is not to be played.
    """
    kind, name = parse_source(text)

    def connect() -> Source:
        if kind == "test":
            from elir_trt.live.sources.pattern import TestPattern

            found = _PATTERN.match(name)
            assert found is not None
            size = (int(found[2]), int(found[1])) if found[1] else options.size or (360, 640)
            try:
                return TestPattern(size, float(found[3] or options.rate or 30.0))
            except ValueError as error:
                raise ElirError(str(error)) from None
        if kind == "camera":
            from elir_trt.live.sources.camera import Camera

            return Camera(name, size=options.size, rate=options.rate, fourcc=options.fourcc)
        if kind == "network":
            from elir_trt.live.sources.network import NetworkCamera

            return NetworkCamera(name, transport=options.transport, timeout_s=options.timeout_s)
        if kind == "pipeline":
            from elir_trt.live.sources.pipeline import open_pipeline

            return open_pipeline(name)
        from elir_trt.live.sources.playback import Playback

        return Playback(name, loop=options.loop)

    if kind == "file" and not options.realtime:
        raise ElirError(
            f"{text} is a file: --realtime plays it as a camera, and elir-trt run restores all of its frames"
        )
    return kind, name, connect


def open_source(
    text: str,
    options: SourceOptions | None = None,
    *,
    max_age_ms: float | None = None,
    reconnecting: Reconnecting | None = None,
    monitor: Monitor | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> LiveSource:
    """Open what a text means as a live source.

    Args:
        text: see :func:`parse_source`.
        options: of the source.
        max_age_ms, reconnecting, monitor, say: see :class:`elir_trt.live.LiveSource`.

    Raises:
        ElirError: there is no such source, or it cannot be opened.
    """
    kind, name, connect = connector(text, options or SourceOptions())
    return LiveSource(
        connect,
        name=name,
        max_age_ms=max_age_ms,
        reconnecting=reconnecting,
        finite=kind == "file",
        monitor=monitor,
        say=say,
    )
