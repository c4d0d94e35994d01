"""Images and video files: reading, writing, and restoring from one to the other."""

from __future__ import annotations

from elir_trt.media.images import Image, read_image, write_image
from elir_trt.media.restore import RestoreReport, restore_path
from elir_trt.media.video import VideoFrame, VideoReader, VideoWriter

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
