"""Where frames come from and where results go: images, folders, videos, and whatever is added.

Three things, and one class for each new place::

    Source   gives frames (source.py)     VideoReader, ImageSource
    Sink     takes results (sink.py)      VideoSink, ImageSink
    pump     from the one through a restorer to the other: the only loop (pumping.py)

:func:`restore_path` chooses source and sink for files. What needs OpenCV or PyAV is imported when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from elir_trt.lazy import lazily

if TYPE_CHECKING:
    from elir_trt.io.folder import ImageFrame, ImageSink, ImageSource
    from elir_trt.io.images import Image, read_image, write_image
    from elir_trt.io.pumping import PumpReport, pump
    from elir_trt.io.reader import VideoReader
    from elir_trt.io.restore import RestoreReport, restore_path
    from elir_trt.io.sink import Sink
    from elir_trt.io.source import Frame, Source, Unreadable
    from elir_trt.io.video import VideoSink
    from elir_trt.io.video_frame import VideoFrame
    from elir_trt.io.writer import VideoWriter

__all__ = [
    "Frame",
    "Image",
    "ImageFrame",
    "ImageSink",
    "ImageSource",
    "PumpReport",
    "RestoreReport",
    "Sink",
    "Source",
    "Unreadable",
    "VideoFrame",
    "VideoReader",
    "VideoSink",
    "VideoWriter",
    "pump",
    "read_image",
    "restore_path",
    "write_image",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Frame": "elir_trt.io.source",
        "Image": "elir_trt.io.images",
        "ImageFrame": "elir_trt.io.folder",
        "ImageSink": "elir_trt.io.folder",
        "ImageSource": "elir_trt.io.folder",
        "PumpReport": "elir_trt.io.pumping",
        "RestoreReport": "elir_trt.io.restore",
        "Sink": "elir_trt.io.sink",
        "Source": "elir_trt.io.source",
        "Unreadable": "elir_trt.io.source",
        "VideoFrame": "elir_trt.io.video_frame",
        "VideoReader": "elir_trt.io.reader",
        "VideoSink": "elir_trt.io.video",
        "VideoWriter": "elir_trt.io.writer",
        "pump": "elir_trt.io.pumping",
        "read_image": "elir_trt.io.images",
        "restore_path": "elir_trt.io.restore",
        "write_image": "elir_trt.io.images",
    },
)
