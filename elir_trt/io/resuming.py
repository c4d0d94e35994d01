"""Videos that go on after a kill: encoded segment by segment, joined at the end."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elir_trt.errors import MediaError
from elir_trt.extras import needs
from elir_trt.files import written_whole
from elir_trt.io.compare import resized, side_by_side
from elir_trt.io.encoding import CONTAINERS, EncodeOptions, Encoding, FrameMaker, choose
from elir_trt.io.job import Job
from elir_trt.io.muxing import Muxer
from elir_trt.io.reader import VideoReader
from elir_trt.io.segments import decoding_times, packets_of, write_segment
from elir_trt.io.sink import Sink
from elir_trt.io.source import Frame
from elir_trt.io.tracks import Tracks, is_later, within
from elir_trt.io.video_frame import Position, VideoFrame, checksum

with needs("av", extra="video", what="writing videos"):
    import av

if TYPE_CHECKING:
    from elir_trt.stream import Result
    from elir_trt.stream_state import StreamState

# A segment is lost by a kill, and begins with a key frame, which is large. So many pixels are a few seconds of a
# film, and minutes of work on a slow machine.
_PIXELS = 128_000_000
_SHORTEST, _LONGEST = 12, 250
# How long Ctrl-C and SIGTERM wait for the end of a segment.
_PATIENCE_S = 10.0


def segment_length(size: tuple[int, int]) -> int:
    """Frames of a segment, for frames of a height and width."""
    return max(_SHORTEST, min(_LONGEST, round(_PIXELS / (size[0] * size[1]))))


class ResumableSink(Sink):
    """Writes results to segments in a job's folder, and makes the film of them when all are there.

    Segments begin at the same frames whether the work was stopped or not, and each has an encoder of its own. So a
    film is the same, to the bit where the encoder is, as one that was never stopped.
    """

    finish_on_interrupt = True

    def __init__(
        self,
        path: Path,
        *,
        template: VideoReader,
        job: Job,
        compare: bool = False,
        options: EncodeOptions | None = None,
        keeps_state: bool = False,
    ) -> None:
        """Begin, or go on.

        Args:
            path: the film.
            template: the source.
            job: its state.
            compare, options: as of a VideoSink.
            keeps_state: keep the stream's state with each segment: results depend on frames before them.
        """
        self.path = path
        self.pixel_format = template.pixel_format
        self.notes: tuple[str, ...] = ()
        self._template = template
        self._job = job
        self._compare = compare
        self._options = options or EncodeOptions()
        self._encoding: Encoding | None = None
        self._encoder: Any = None
        self._packets: list[Any] = []
        self._last: VideoFrame | None = None
        self._count = 0
        # By the size of the frames, not of the results: it is known before the first is restored.
        self._length = segment_length(template.size)
        self._keeps_state = keeps_state
        self._read = job.frames
        self._state: StreamState | None = None
        self._first_s: float | None = None
        self._written = 0
        self._deadline_s: float | None = None
        size = job.fact("size")
        if size is not None:
            self._begin((size[0], size[1]))

    def _begin(self, size: tuple[int, int]) -> None:
        kind = CONTAINERS[self.path.suffix.lower()]
        rate = Fraction(self._template.rate or 25) / self._template.selection.every
        self._encoding, self.notes = choose(kind, self._template, size, rate, self._options)
        self._make = FrameMaker(self._encoding)

    def wants_state(self, frame: Frame) -> bool:
        """At the end of each segment."""
        self._read += 1
        return self._keeps_state and self._read % self._length == 0

    def keep_state(self, state: StreamState) -> None:
        """Keep it for the segment that the next result ends."""
        self._state = state

    def write(self, result: Result, frame: Frame) -> None:
        """Encode a result; at the end of a segment put it on the disk.

        Raises:
            MediaError: the disk is full, or refuses for another reason.
        """
        assert isinstance(frame, VideoFrame)
        pixels, alpha = result.frame, frame.alpha
        if alpha is not None:
            alpha = resized(alpha, pixels.shape)
        if self._compare:
            pixels = side_by_side(frame.pixels, pixels)
            alpha = None
        if self._encoding is None:
            size = (int(pixels.shape[0]), int(pixels.shape[1]))
            self._begin(size)
            self._try(lambda: self._job.note(size=list(size)))
        assert self._encoding is not None
        if self._encoder is None:
            self._encoder = self._encoding.open()
        made = self._make(pixels, frame.pts, frame.duration or self._encoding.step, alpha)
        self._try(lambda: self._packets.extend(self._encoder.encode(made)))
        self._last = frame
        self._count += 1
        self._written += 1
        self._first_s = self._first_s or time.monotonic()
        if self._count == self._length:
            self._end_segment()

    def _end_segment(self) -> None:
        """Put the open segment on the disk."""
        assert self._last is not None
        self._try(lambda: self._packets.extend(self._encoder.encode(None)))
        job = self._job
        end = Position(job.frames + self._count, self._last.pts, checksum(self._last.pixels))
        # Before the segment: one that is there can be gone on behind.
        if (state := self._state) is not None:
            self._try(lambda: job.keep_state(state))
            self._state = None
        path = job.path_of(len(job.segments))
        segment = self._try(lambda: write_segment(path, self._packets, end))
        job.segments.append(segment)
        self._encoder, self._packets, self._count = None, [], 0

    def wants_more(self) -> bool:
        """Whether the work goes on for a moment after an interrupt: if the segment can be finished soon."""
        now = time.monotonic()
        if self._deadline_s is None:
            self._deadline_s = now + _PATIENCE_S
            each_s = (now - self._first_s) / (self._written - 1) if self._first_s and self._written > 1 else 0
            left = self._length - self._count
            if self._template.frames is not None:
                left = min(left, self._template.frames - self._job.frames - self._count)
            if each_s * left > _PATIENCE_S:
                self._deadline_s = now
        self.done = self._count == 0 or now >= self._deadline_s
        return not self.done

    def close(self, *, complete: bool = True) -> None:
        """Make the film, if all frames are there; else keep what is whole.

        Raises:
            MediaError: the disk is full, or refuses for another reason; the segments stay.
        """
        try:
            if complete and self._count:
                self._end_segment()
            if complete and self._job.segments:
                self._try(self._join)
                self._job.remove()
        finally:
            self._job.close()

    def abort(self) -> None:
        """Keep the segments that are whole: the work can go on there when the reason is gone."""
        self._job.close()

    def _join(self) -> None:
        assert self._encoding is not None
        template, segments = self._template, self._job.segments
        tracks = Tracks(template.path, template.stream.index)
        with contextlib.closing(tracks), written_whole(self.path, durable=True) as temporary:
            muxer = Muxer(
                temporary, self.path, self._encoding, tracks.container, tracks.video, template.selection
            )
            try:
                others = _Others(tracks, muxer, template)
                times = decoding_times(segments)
                packets = chain.from_iterable(packets_of(segment) for segment in segments)
                for packet, dts in zip(packets, times, strict=True):
                    packet.time_base, packet.dts = self._encoding.time_base, dts
                    others.copy_until(dts * self._encoding.time_base)
                    muxer.mux([packet])
                others.copy_until(None)
                muxer.close()
                # Tells, after a kill, that this is the file that has the film's name.
                self._job.note(film=os.stat(temporary).st_ino)
            except BaseException:
                muxer.abandon()
                raise

    def _try(self, do: Any) -> Any:
        try:
            return do()
        except (av.error.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            kept = self._job.frames
            message = f"{self.path}: cannot be written: {reason}"
            if kept:
                message += f"; {kept} frames are kept, run the same command to go on"
            raise MediaError(message) from None


class _Others:
    """The packets of the other streams, on their way into the file."""

    def __init__(self, tracks: Tracks, muxer: Muxer, template: VideoReader) -> None:
        self._muxer = muxer
        end = template.selection.length
        self._packets: Iterator[Any] = (
            packet
            for packet in tracks.packets()
            if muxer.keeps(packet.stream.index) and within(packet, template.selection, end)
        )
        self._next: Any = next(self._packets, None)

    def copy_until(self, limit: Fraction | None) -> None:
        """Copy packets up to a time in seconds, so that the file is interleaved; None: all."""
        while self._next is not None:
            if limit is not None and is_later(self._next, limit):
                return
            self._muxer.copy(self._next)
            self._next = next(self._packets, None)
