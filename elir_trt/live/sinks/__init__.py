"""Where a live run's frames go: a class a kind, and :func:`open_sink`, which knows them by how they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elir_trt.lazy import lazily

if TYPE_CHECKING:
    from elir_trt.live.sinks.broadcast import Broadcast
    from elir_trt.live.sinks.loopback import Loopback
    from elir_trt.live.sinks.opening import open_sink
    from elir_trt.live.sinks.recording import Recording
    from elir_trt.live.sinks.window import Window

__all__ = ["Broadcast", "Loopback", "Recording", "Window", "open_sink"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Broadcast": "elir_trt.live.sinks.broadcast",
        "Loopback": "elir_trt.live.sinks.loopback",
        "Recording": "elir_trt.live.sinks.recording",
        "Window": "elir_trt.live.sinks.window",
        "open_sink": "elir_trt.live.sinks.opening",
    },
)
