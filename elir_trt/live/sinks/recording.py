"""Recording into a file, in segments: a kill or a full disk costs the last ten seconds at most."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elir_trt.errors import MediaError
from elir_trt.extras import needs
from elir_trt.files import written_whole
from elir_trt.io.encoding import CONTAINERS, EncodeOptions, Encoding
from elir_trt.io.job import Job
from elir_trt.io.muxing import Muxer
from elir_trt.io.paths import check_writable
from elir_trt.io.segments import decoding_times, packets_of, write_segment
from elir_trt.io.source import Frame
from elir_trt.io.video_frame import Position
from elir_trt.live.fanout import LiveSink
from elir_trt.live.sinks.encoding import (
    TIME_BASE,
    FrameTimer,
    LiveEncodeOptions,
    LiveEncoder,
    live_encoding,
)

with needs("av", extra="video", what="recording"):
    import av

if TYPE_CHECKING:
    from elir_trt.stream import Result

SEGMENT_S = 10.0
"""Seconds of a segment."""

# The job's folder is kept whatever the command was: what it holds is a recording that nothing can make again.
_COMMAND = {"recording": 1}


class Recording(LiveSink):
    """Writes results to a video file, with the times that they were taken at.

    Segments go to a folder beside the file as they are ready, and become the file at the end. If there is no end,
    because of a kill, the next recording of that name makes the file of them first, and takes a free name itself; so
    does one whose frames change their size.

    Attributes:
        path: the file that is being recorded.
        paths: of the files that are finished.
    """

    finish_on_interrupt = True
    queue = 32
    pixel_format = "rgb24"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        options: LiveEncodeOptions | None = None,
        overwrite: bool = False,
        segment_s: float = SEGMENT_S,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Check the name, and finish what an earlier recording left; writes nothing new yet.

        Args:
            path: ending in .mp4, .m4v, .mov, .mkv or .webm.
            options: of the encoder.
            overwrite: replace an existing file.
            segment_s: seconds of a segment.
            say: called with a line about what is finished.

        Raises:
            MediaError: the name or the folder does not allow it, another process records there, or the disk is full.
        """
        self.path = check_writable(path, "video", overwrite=overwrite)
        self.paths: list[Path] = []
        self._options = options or LiveEncodeOptions(EncodeOptions())
        live_encoding(self._kind, (64, 64), self._options)  # what cannot be is said before the first frame
        self._segment_ticks = round(segment_s / TIME_BASE)
        self._job = Job(self.path, _COMMAND)
        if self._job.segments:
            say(f"{self._finish_earlier()}: made of a recording that was stopped")
        self._forget()

    def _finish_earlier(self) -> Path:
        """Make a file of the segments that were there, and have a free name for the new ones; gives that file."""
        made = free_name(self.path) if self.path.exists() else self.path
        try:
            self._try(lambda: join(self._job, made))
        finally:
            self._job.close()
        self.paths.append(made)
        if made == self.path:
            self.path = free_name(self.path)
        self._job = Job(self.path, _COMMAND)
        return made

    @property
    def _kind(self) -> str:
        return CONTAINERS[self.path.suffix.lower()]

    def _forget(self) -> None:
        self._encoding: Encoding | None = None
        self._encoder: LiveEncoder | None = None
        self._timer = FrameTimer()
        self._packets: list[Any] = []
        self._begun = 0
        self._last = 0
        self._count = 0

    def write(self, result: Result, frame: Frame) -> None:
        """Encode a result; at the end of a segment put it on the disk.

        Raises:
            MediaError: the disk is full, or refuses for another reason.
        """
        size = (int(result.frame.shape[0]), int(result.frame.shape[1]))
        if self._encoding is not None and self._encoding.size != size:
            self._finish()
            self.path = free_name(self.path)
            self._job = Job(self.path, _COMMAND)
            self._forget()
        if self._encoding is None:
            self._encoding = live_encoding(self._kind, size, self._options)
            self._try(lambda: self._job.note(**facts_of(self._options, size)))
        pts = self._timer(frame)
        if self._encoder is not None and pts - self._begun >= self._segment_ticks:
            self._end_segment()
        if self._encoder is None:
            self._begun = pts
            self._encoder = LiveEncoder(self._encoding, self._encoding.open())
        encoder = self._encoder
        self._try(lambda: self._packets.extend(encoder.encode(result.frame, pts)))
        self._last = pts
        self._count += 1

    def _end_segment(self) -> None:
        encoder = self._encoder
        if encoder is None:
            return
        self._try(lambda: self._packets.extend(encoder.flush()))
        job = self._job
        end = Position(job.frames + self._count, self._last, 0)
        path = job.path_of(len(job.segments))
        job.segments.append(self._try(lambda: write_segment(path, self._packets, end)))
        self._encoder, self._packets, self._count = None, [], 0

    def _finish(self) -> None:
        """Put the last segment on the disk and make the file."""
        self._end_segment()
        if self._job.segments:
            self._try(lambda: join(self._job, self.path))
            self.paths.append(self.path)

    def close(self, *, complete: bool = True) -> None:
        """Make the file.

        Raises:
            MediaError: the disk is full, or refuses for another reason; the segments stay.
        """
        try:
            self._finish()
        finally:
            self._job.close()

    def abort(self) -> None:
        """Keep the segments that are whole; the next recording of this name makes the file of them."""
        self._job.close()

    def _try(self, do: Callable[[], Any]) -> Any:
        try:
            return do()
        except (av.error.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            kept = self._job.frames
            message = f"{self.path}: cannot be recorded: {reason}"
            if kept:
                message += f"; {kept} frames are kept, the next recording of that name makes the file of them"
            raise MediaError(message) from None


def facts_of(options: LiveEncodeOptions, size: tuple[int, int]) -> dict[str, Any]:
    """What another process needs to know to make the file, as JSON."""
    asked = options.encode
    return {
        "size": list(size),
        "encode": [asked.codec, asked.crf, asked.preset, asked.pixel_format],
        "rate": str(options.rate),
    }


def join(job: Job, path: Path) -> None:
    """Make the file of a job's segments, and remove the job.

    Args:
        job: with segments.
        path: of the file; an existing one is replaced.

    Raises:
        MediaError: the job's record was damaged.
        OSError, av.error.FFmpegError: the disk refuses; the segments stay.
    """
    size, encode, rate = job.fact("size"), job.fact("encode"), job.fact("rate")
    if size is None or encode is None or rate is None:
        raise MediaError(f"{job.folder}: its record says nothing of its segments; move them elsewhere")
    options = LiveEncodeOptions(EncodeOptions(*encode), Fraction(rate))
    encoding = live_encoding(CONTAINERS[path.suffix.lower()], (size[0], size[1]), options)
    with written_whole(path, durable=True) as temporary:
        muxer = Muxer(temporary, path, encoding)
        try:
            packets = chain.from_iterable(packets_of(segment) for segment in job.segments)
            for packet, dts in zip(packets, decoding_times(job.segments), strict=True):
                packet.time_base, packet.dts = encoding.time_base, dts
                muxer.mux([packet])
            muxer.close()
        except BaseException:
            muxer.abandon()
            raise
    job.remove()


def free_name(path: Path) -> Path:
    """The path with the smallest number behind its stem that no file has: "a-1.mp4"."""
    number = 1
    while (found := path.with_name(f"{path.stem}-{number}{path.suffix}")).exists():
        number += 1
    return found
