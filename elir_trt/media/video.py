"""Reading and writing video files: see :mod:`~elir_trt.media.reader` and :mod:`~elir_trt.media.writer`."""

from __future__ import annotations

from elir_trt.media.reader import VideoFrame, VideoReader
from elir_trt.media.writer import VideoWriter

__all__ = ["VideoFrame", "VideoReader", "VideoWriter"]
