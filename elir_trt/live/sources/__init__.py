"""What a live run reads from: a class a kind, and :func:`open_source`, which knows them by how they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elir_trt.lazy import lazily

if TYPE_CHECKING:
    from elir_trt.live.sources.camera import Camera
    from elir_trt.live.sources.network import NetworkCamera
    from elir_trt.live.sources.opening import SourceOptions, open_source, parse_source
    from elir_trt.live.sources.pattern import TestPattern
    from elir_trt.live.sources.pipeline import Pipeline
    from elir_trt.live.sources.playback import Playback

__all__ = [
    "Camera",
    "NetworkCamera",
    "Pipeline",
    "Playback",
    "SourceOptions",
    "TestPattern",
    "open_source",
    "parse_source",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Camera": "elir_trt.live.sources.camera",
        "NetworkCamera": "elir_trt.live.sources.network",
        "Pipeline": "elir_trt.live.sources.pipeline",
        "Playback": "elir_trt.live.sources.playback",
        "SourceOptions": "elir_trt.live.sources.opening",
        "TestPattern": "elir_trt.live.sources.pattern",
        "open_source": "elir_trt.live.sources.opening",
        "parse_source": "elir_trt.live.sources.opening",
    },
)
