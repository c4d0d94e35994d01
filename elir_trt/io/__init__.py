"""Images and video files: reading, writing, and restoring from one to the other."""

from __future__ import annotations

from elir_trt.io.images import Image, read_image, write_image
from elir_trt.io.restore import RestoreReport, restore_path
from elir_trt.io.video import VideoFrame, VideoReader, VideoWriter

__all__ = [
    "Image",
    "RestoreReport",
    "VideoFrame",
    "VideoReader",
    "VideoWriter",
    "read_image",
    "restore_path",
    "write_image",
]
