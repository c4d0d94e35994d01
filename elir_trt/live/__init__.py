"""Live: cameras that come and go, sinks that do not wait for each other, and a page to watch it all.

A camera into a file and a page, in Python::

    import elir_trt
    from elir_trt.live import Fanout, Session, Settings, open_sink, open_source

    with open_source("rtsp://camera/stream", max_age_ms=500) as source:
        sink = Fanout({"file": open_sink("out.mp4")}, monitor=source.monitor)
        Session(source, sink, elir_trt.open, Settings("camera")).run()

Frames take the same way as those of files: a :class:`LiveSource` is a source, a :class:`Fanout` a sink, and between
them is :func:`elir_trt.io.pump`. docs/live.md has the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from elir_trt.lazy import lazily

if TYPE_CHECKING:
    from elir_trt.live.fanout import Fanout, LiveSink
    from elir_trt.live.frame import LiveFrame
    from elir_trt.live.monitor import Monitor
    from elir_trt.live.session import Session, Settings
    from elir_trt.live.sinks.opening import open_sink
    from elir_trt.live.source import LiveSource, Reconnecting
    from elir_trt.live.sources.opening import SourceOptions, open_source
    from elir_trt.live.web.server import Page

__all__ = [
    "Fanout",
    "LiveFrame",
    "LiveSink",
    "LiveSource",
    "Monitor",
    "Page",
    "Reconnecting",
    "Session",
    "Settings",
    "SourceOptions",
    "open_sink",
    "open_source",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Fanout": "elir_trt.live.fanout",
        "LiveFrame": "elir_trt.live.frame",
        "LiveSink": "elir_trt.live.fanout",
        "LiveSource": "elir_trt.live.source",
        "Monitor": "elir_trt.live.monitor",
        "Page": "elir_trt.live.web.server",
        "Reconnecting": "elir_trt.live.source",
        "Session": "elir_trt.live.session",
        "Settings": "elir_trt.live.session",
        "SourceOptions": "elir_trt.live.sources.opening",
        "open_sink": "elir_trt.live.sinks.opening",
        "open_source": "elir_trt.live.sources.opening",
    },
)
