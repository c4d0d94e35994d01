"""Reading and writing video files: see :mod:`~elir_trt.io.reader` and :mod:`~elir_trt.io.writer`."""

from __future__ import annotations

from elir_trt.io.reader import VideoFrame, VideoReader
from elir_trt.io.writer import VideoWriter

__all__ = ["VideoFrame", "VideoReader", "VideoWriter"]
