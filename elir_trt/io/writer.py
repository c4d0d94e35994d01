"""Writing video files in one go: frames are encoded and put into the file as they come."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from elir_trt.errors import MediaError
from elir_trt.extras import needs
from elir_trt.files import written_whole
from elir_trt.io.encoding import CONTAINERS, EncodeOptions, FrameMaker, choose
from elir_trt.io.muxing import Muxer
from elir_trt.io.paths import check_writable
from elir_trt.io.reader import VideoReader
from elir_trt.io.tracks import is_later, within

with needs("av", extra="video", what="writing videos"):
    import av


class _GivenUp(Exception):
    """The file is not to become one."""


class VideoWriter:
    """Writes frames to a video file.

    Codec and pixel format are those that keep what the template has: H.264 for 8 bits per channel, HEVC for more,
    in .mp4, .m4v, .mov and .mkv, with its chroma and range; VP9 or AV1 in .webm; FFV1 (.mkv) and ProRes (.mov)
    where there is alpha. Without a template frames are 8 bits, yuv420p. An odd width or height has no such form;
    it is kept as it is, in yuv444p, which desktop players play but few hardware decoders do.

    With a template its frame times, colour tags, pixel shape, chapters and metadata are taken over, and its other
    streams (audio, subtitles, pictures, attachments, further videos) are copied packet by packet: open the template
    with ``copy=True``. A stream that the container cannot hold is left out, with an ElirWarning that names it.
    Times are kept to the tick in .mp4 and .mov; .mkv and .webm store milliseconds.

    The file is written under a temporary name in the same folder and renamed when it is complete. Leaving
    the ``with`` block by an error removes it; by KeyboardInterrupt finishes it, so that what was done is
    playable.

    Attributes:
        path: the file.
        encoding: how it is written.
        notes: what of the template is not kept.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        size: tuple[int, int],
        template: VideoReader | None = None,
        rate: Fraction | int | None = None,
        time_base: Fraction | None = None,
        crf: int | None = None,
        preset: str | None = None,
        options: EncodeOptions | None = None,
        overwrite: bool = False,
    ) -> None:
        """Create the file.

        Args:
            path: ending in .mp4, .m4v, .mov, .mkv or .webm.
            size: height and width of the frames.
            template: where the frames came from.
            rate: frames per second; needed without a template.
            time_base: seconds per tick of the frames' times; None: the template's, else one frame.
            crf, preset: see :class:`elir_trt.io.encoding.EncodeOptions`.
            options: these and more of the encoder; instead of ``crf`` and ``preset``.
            overwrite: replace an existing file.

        Raises:
            MediaError: the name or the folder does not allow it, or the encoder refuses the size.
            ValueError: neither template nor rate.
        """
        source = template.path if template else None
        self.path = check_writable(path, "video", overwrite=overwrite, source=source)
        self.size = size
        found = rate or (template.rate if template else None)
        if found is None and template is None:
            raise ValueError("rate is None; give frames per second, or a template")
        kind = CONTAINERS[self.path.suffix.lower()]
        options = options or EncodeOptions(crf=crf, preset=preset)
        self.encoding, self.notes = choose(kind, template, size, Fraction(found or 25), options)
        if time_base is not None:
            self.encoding = replace(self.encoding, time_base=time_base)
        self.time_base = self.encoding.time_base
        self._template = template
        self._make = FrameMaker(self.encoding)
        self._waiting: deque[av.Packet[Any]] = deque()
        self._written = 0
        self._next_pts = 0
        self._reached = Fraction(0)
        self._end = Fraction(0)
        self._open = False
        self._whole = contextlib.ExitStack()
        try:
            with contextlib.ExitStack() as stack:
                temporary = stack.enter_context(written_whole(self.path))
                self._muxer = Muxer(
                    temporary,
                    self.path,
                    self.encoding,
                    template.container if template else None,
                    template.stream.index if template else 0,
                    template.selection if template else None,
                )
                self._whole = stack.pop_all()
        except (av.error.FFmpegError, OSError) as error:
            raise self._refusal(error) from None
        self._open = True

    def write(
        self,
        rgb: npt.NDArray[Any],
        pts: int | None = None,
        duration: int = 0,
        alpha: npt.NDArray[Any] | None = None,
    ) -> None:
        """Encode a frame.

        Args:
            rgb: ``[H, W, 3]`` uint8 or uint16 of the writer's size.
            pts: its time in ticks of ``time_base``, greater than the one before; None: one frame after it.
            duration: ticks that it is shown for; 0: until the next.
            alpha: ``[H, W]`` of the same type, where the encoding has alpha.

        Raises:
            MediaError: the disk is full, or the file cannot be written for another reason.
            ValueError: the frame has another size.
        """
        if rgb.dtype not in (np.uint8, np.uint16) or rgb.shape != (*self.size, 3):
            raise ValueError(
                f"frame is {rgb.dtype} {rgb.shape}; this file takes uint8 or uint16 {(*self.size, 3)}"
            )
        step = self.encoding.step
        pts = self._next_pts if pts is None else pts
        frame = self._make(rgb, pts, duration or step, alpha)
        self._next_pts = pts + (duration or step)
        self._end = self._next_pts * self.time_base
        try:
            self._mux(self._muxer.stream.encode(frame))
        except (av.error.FFmpegError, OSError) as error:
            raise self._refusal(error) from None
        self._written += 1

    def _mux(self, packets: list[av.Packet[Any]]) -> None:
        for packet in packets:
            if packet.dts is not None:
                self._reached = packet.dts * packet.time_base
        self._muxer.mux(packets)
        self._collect()
        self._copy_until(self._reached)

    def _collect(self) -> None:
        if self._template is not None:
            selection = self._template.selection
            self._waiting.extend(
                packet
                for packet in self._template.take_packets()
                if self._muxer.keeps(packet.stream.index) and within(packet, selection, None)
            )

    def _copy_until(self, limit: Fraction | None) -> None:
        """Copy waiting packets up to a time: the file stays interleaved although encoders lag behind."""
        while self._waiting:
            if limit is not None and is_later(self._waiting[0], limit):
                return
            self._muxer.copy(self._waiting.popleft())

    # Finishing

    def close(self, *, complete: bool = True) -> None:
        """Finish the file and give it its name.

        Args:
            complete: all frames were written; False: copied streams end where the frames do.

        Raises:
            MediaError: the disk is full, or the file cannot be written for another reason.
        """
        if not self._open:
            return
        self._open = False
        cut = not complete or (self._template is not None and not self._template.selection.is_all)
        try:
            with self._whole:
                if self._written:
                    self._muxer.mux(self._muxer.stream.encode(None))
                self._collect()
                self._copy_until(self._end if cut else None)
                self._muxer.close()
        except (av.error.FFmpegError, OSError) as error:
            raise self._refusal(error) from None

    def abort(self) -> None:
        """Give the file up: nothing stays behind."""
        if not self._open:
            return
        self._open = False
        with contextlib.suppress(_GivenUp), self._whole:
            self._muxer.abandon()
            raise _GivenUp

    def _refusal(self, error: Exception) -> MediaError:
        reason = getattr(error, "strerror", None) or error
        return MediaError(f"{self.path}: cannot be written: {reason}")

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is None:
            self.close()
        elif issubclass(kind, KeyboardInterrupt) and self._written:
            self.close(complete=False)
        else:
            self.abort()
