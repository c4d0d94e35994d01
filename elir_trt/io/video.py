"""Video files: the reader is a source, and here is the sink; see also :mod:`~elir_trt.io.writer`."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from elir_trt.io.compare import resized, side_by_side
from elir_trt.io.encoding import EncodeOptions
from elir_trt.io.paths import check_writable
from elir_trt.io.reader import VideoReader
from elir_trt.io.sink import Sink
from elir_trt.io.source import Frame
from elir_trt.io.video_frame import VideoFrame
from elir_trt.io.writer import VideoWriter

if TYPE_CHECKING:
    from elir_trt.stream import Result

__all__ = ["VideoFrame", "VideoReader", "VideoSink", "VideoWriter"]


class VideoSink(Sink):
    """Writes results to a video file, which is begun with the first of them, because that tells the size.

    Frames keep the times that they had in the source. It goes in one run; see
    :class:`elir_trt.io.resuming.ResumableSink` for files that a killed run goes on with. An interrupted video is
    finished, so that what was done is playable.

    Attributes:
        notes: what of the template is not kept; known with the first frame.
    """

    finish_on_interrupt = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        template: VideoReader | None = None,
        rate: Fraction | int | None = None,
        time_base: Fraction | None = None,
        compare: bool = False,
        options: EncodeOptions | None = None,
        overwrite: bool = False,
    ) -> None:
        """Check the name; writes nothing yet.

        Args:
            path: ending in .mp4, .m4v, .mov, .mkv or .webm.
            template: the source, whose other streams and tags are taken over, see :class:`VideoWriter`.
            rate: frames per second; needed without a template.
            time_base: seconds per tick of the file's times, see there.
            compare: write before and after side by side.
            options: of the encoder; None: those that keep what the template has.
            overwrite: replace an existing file.

        Raises:
            MediaError: the name or the folder does not allow it.
        """
        source = template.path if template else None
        self.path: Path = check_writable(path, "video", overwrite=overwrite, source=source)
        self._template = template
        self._rate = rate
        self._time_base = time_base
        if template is not None:
            self.pixel_format = template.pixel_format
        self.notes: tuple[str, ...] = ()
        self._compare = compare
        self._options = options
        self._overwrite = overwrite
        self._writer: VideoWriter | None = None
        self._latest: int | None = None

    def write(self, result: Result, frame: Frame) -> None:
        """Encode a frame.

        Raises:
            MediaError: the disk is full, or the file cannot be written for another reason.
        """
        pixels = side_by_side(frame.pixels, result.frame) if self._compare else result.frame
        alpha = frame.alpha if isinstance(frame, VideoFrame) and not self._compare else None
        if self._writer is None:
            size = (pixels.shape[0], pixels.shape[1])
            self._writer = VideoWriter(
                self.path,
                size=size,
                template=self._template,
                rate=self._rate,
                time_base=self._time_base,
                options=self._options,
                overwrite=self._overwrite,
            )
            self.notes = self._writer.notes
        if isinstance(frame, VideoFrame) and self._template is not None:
            alpha = None if alpha is None else resized(alpha, pixels.shape)
            self._writer.write(pixels, frame.pts, frame.duration, alpha)
            return
        pts: int | None = None
        duration = 0
        if isinstance(frame, VideoFrame):
            duration = round(frame.duration * frame.time_base / self._writer.time_base)
        if frame.timestamp_s is not None:
            pts = round(frame.timestamp_s / self._writer.time_base)
            # Two frames within a tick: times have to rise.
            pts = pts if self._latest is None else max(pts, self._latest + 1)
            self._latest = pts
        self._writer.write(pixels, pts, duration)

    def close(self, *, complete: bool = True) -> None:
        """Finish the file and give it its name; there is none if nothing was written.

        Raises:
            MediaError: the disk is full, or the file cannot be written for another reason.
        """
        if self._writer is not None:
            self._writer.close(complete=complete)

    def abort(self) -> None:
        """Give the file up: nothing stays behind."""
        if self._writer is not None:
            self._writer.abort()
