"""Reading video files."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from elir_trt.errors import ElirWarning, MediaError
from elir_trt.extras import needs
from elir_trt.io import rotation
from elir_trt.io.addresses import STDIN, is_address, is_live
from elir_trt.io.colour import Colour, Converter, colour_of, default_colour
from elir_trt.io.counting import FrameCounter
from elir_trt.io.deinterlacing import Deinterlacer, field_order
from elir_trt.io.hdr import Mastering, mastering_of
from elir_trt.io.opening import open_video
from elir_trt.io.selection import Selection
from elir_trt.io.source import Source
from elir_trt.io.times import Timeline
from elir_trt.io.tracks import PacketClock
from elir_trt.io.video_frame import Position, VideoFrame, checksum

with needs("av", extra="video", what="reading videos"):
    import av
    from av.stream import Disposition
    from av.video.stream import VideoStream

Damage = Literal["error", "warn"]
Deinterlace = Literal["auto", "off"]

# Containers whose times are those of display and can be sought.
_SEEKABLE = {"mov", "mp4", "matroska", "webm"}
# A frame this far behind a key frame does not depend on what was before: H.264 and HEVC reorder up to 16.
_SEEK_FRAMES = 40
# AVI states no display times, and in transport streams they are often wrong. H.264 and HEVC reorder up to 16.
_UNSORTED = {"avi": 16, "mpegts": 16, "mpeg": 16}


class VideoReader(Source):
    """The frames of a video, in the order of display.

    The first video stream is read that is no cover picture. Frames come upright, all of one size: later ones
    are scaled to the first's, with an ElirWarning. Their colours are converted as the tags say, or as players do
    without tags. Times are those of the file; missing ones and those that go back are repaired.

    A file that is cut off or cannot be decoded is an error: at opening, where the file's structure shows it,
    else at the frame where it shows. ``damaged="warn"`` gives an ElirWarning and what can be decoded.

    Use it as a context manager, and iterate over it once.

    Attributes:
        path: the file, or what stands for it in messages.
        pixel_format: "rgb24", or "rgb48le" for more than 8 bits per channel.
        size: height and width of the frames, upright.
        rate: frames per second, the average; None if the file does not say.
        duration: seconds, as far as the file says.
        time_base: seconds per tick of the frames' times.
        rotation: degrees by which the stored frames were turned clockwise: 0, 90, 180, 270.
        pixel_aspect: width of a pixel by its height, upright.
        colour: how the file codes colours.
        pixel_format_stored: FFmpeg's name of the format that frames are decoded to.
        has_alpha: whether that has alpha; frames have it in ``alpha`` then.
        mastering: of HDR10; None: not stated.
        interlaced: "tff" or "bff" where pictures are interlaced and come so (``deinterlace="off"``); else None.
        selection: the part that is read.
        notes: what was changed on the way, such as "turned upright by 90 degrees".
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        damaged: Damage = "error",
        copy: bool = False,
        deinterlace: Deinterlace = "auto",
        selection: Selection | None = None,
        count: bool = False,
    ) -> None:
        """Open the video and decode its first frame.

        Args:
            path: a file, a named pipe, "-" for standard input, or an address (http, https, rtsp).
            damaged: "error" or "warn".
            copy: keep the packets of all other streams for :meth:`take_packets`.
            deinterlace: "auto" makes whole pictures of interlaced ones; "off" gives them as they are.
            selection: the part to read; None: all of it.
            count: count the frames of a file whose header does not say how many there are, beside the work.

        Raises:
            MediaError: there is no such file, it is no video or holds no frame, or it is damaged.
        """
        if damaged not in ("error", "warn"):
            raise ValueError(f"damaged is {damaged!r}; allowed: error, warn")
        if deinterlace not in ("auto", "off"):
            raise ValueError(f"deinterlace is {deinterlace!r}; allowed: auto, off")
        self._address = os.fspath(path)
        plain = not is_address(path) and self._address != STDIN
        self.path = (
            Path(path) if plain else Path("standard input" if self._address == STDIN else self._address)
        )
        self.live = is_live(path)
        self.selection = selection or Selection()
        self._damaged = damaged
        self._copy = copy
        self._deinterlace = deinterlace
        self._counter: FrameCounter | None = None
        self._packets: deque[av.Packet[Any]] = deque()
        self._position: Position | None = None
        self._size_warned = False
        self._converter = Converter()
        self._open()
        if count and plain and self.path.is_file() and not self._declared and self.selection.is_all:
            self._counter = FrameCounter(self.path, self.stream.index)

    def _open(self) -> None:
        opened = open_video(self._address)
        self.container = opened.container
        self._missing = opened.missing
        self._decoded = 0
        self._hurt = 0
        self._errors = 0
        self._ended = False
        self._deinterlacer: Deinterlacer | None = None
        try:
            self._prepare()
        except BaseException:
            self.container.close()
            raise

    def _prepare(self) -> None:
        container, path = self.container, self.path
        streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            kinds = ", ".join(sorted({s.type for s in container.streams})) or "no streams at all"
            raise MediaError(f"{path}: there is no video in it; it holds: {kinds}")
        stream: VideoStream = streams[0]
        self.stream = stream
        if stream.codec_context is None:
            raise MediaError(f"{path}: FFmpeg has no decoder for its video stream {stream.index}")
        stream.thread_type = "AUTO"
        names = set(container.format.name.split(","))
        assert stream.time_base is not None
        self.time_base: Fraction = stream.time_base
        self.rate: Fraction | None = stream.average_rate or stream.guessed_rate or stream.base_rate
        self._step = max(1, round(1 / (self.rate * self.time_base))) if self.rate else 1
        self._counted = "mov" in names or "avi" in names
        self._declared = self._count() if self._counted else None
        self.duration = self._seconds()
        self._lookahead = max((_UNSORTED.get(name, 0) for name in names), default=0)
        self._sought = bool(names & _SEEKABLE)
        self._begin()
        if self._missing:
            size = self.path.stat().st_size
            self._report(f"it is cut off: it has {size} of {size + self._missing} bytes")
        first = next(self._source, None)
        if first is None:
            raise MediaError(f"{path}: its video stream {stream.index} holds no frame that can be decoded")
        self._first: av.VideoFrame | None = first
        self._describe(first)

    def _begin(self) -> None:
        """Forget what was decoded: what follows are the packets at the container's place."""
        self._timeline: Timeline[av.VideoFrame] = Timeline(lookahead=self._lookahead, step=self._step)
        self._clock = PacketClock(self.container)
        self._clock.expect(self.stream.index, self._step)
        self._deinterlacer = None
        self._first = None
        self._source = self._whole_pictures(self._decode())

    def _describe(self, first: av.VideoFrame) -> None:
        stream = self.stream
        self._stored = (first.height, first.width)
        self._matrix = rotation.display_matrix(first)
        turned = rotation.swaps_sides(self._matrix)
        self.rotation = rotation.degrees(self._matrix)
        self.size: tuple[int, int] = self._stored[::-1] if turned else self._stored
        aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or Fraction(1)
        self.pixel_aspect = 1 / aspect if turned else aspect
        self.colour: Colour = colour_of(first)
        if first.format.is_rgb:
            self.colour = default_colour(*self.size)
        self.pixel_format_stored: str = first.format.name
        parts = first.format.components
        self.has_alpha = any(part.is_alpha for part in parts)
        bits = max((part.bits for part in parts), default=8)
        self._deep = bits > 8
        self.pixel_format = "rgb48le" if self._deep else "rgb24"
        self.mastering: Mastering | None = mastering_of(first)
        interlaced = self._deinterlacer is not None or first.interlaced_frame
        self.interlaced = field_order(stream.codec_context) if first.interlaced_frame else None
        notes = []
        if self.rotation:
            notes.append(f"turned upright by {self.rotation} degrees")
        if self.interlaced:
            notes.append("interlaced: both fields are restored as one picture and stay fields")
        elif interlaced:
            notes.append(
                "interlaced: deinterlaced, one picture of two fields; --deinterlace off keeps the fields"
            )
        self.notes = tuple(notes)

    @property
    def frames(self) -> int | None:  # type: ignore[override]
        """How many there should be: as counted by the container or here; until then from the length."""
        counted = self._counter.frames if self._counter else None
        length = self.duration
        total = self._declared or counted or (round(length * self.rate) if length and self.rate else None)
        wanted = self.selection
        if total is None or wanted.is_all:
            return total
        if length and (wanted.start_s or wanted.duration_s is not None):
            span = max(0.0, length - wanted.start_s)
            span = span if wanted.duration_s is None else min(span, wanted.duration_s)
            total = round(total * span / length)
        return -(-total // wanted.every)

    def _count(self) -> int | None:
        """Frames that the container counts, less those that an edit list hides."""
        entries = self.stream.index_entries
        shown = sum(not entry.is_discard for entry in entries)
        return shown if shown else (self.stream.frames or None)

    def _seconds(self) -> float | None:
        """The declared length of the video stream."""
        if self.stream.duration:
            return float(self.stream.duration * self.time_base)
        tag = self.stream.metadata.get("DURATION", "")
        try:
            hours, minutes, seconds = tag.split(":")
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        except ValueError:
            length = self.container.duration
            return length / 1e6 if length else None

    # Reading

    def go_to(self, position: Position) -> None:
        """Begin behind a place that an earlier reader of the same file came to; before the iteration."""
        self._position = position

    def __iter__(self) -> Iterator[VideoFrame]:
        """Decode the file.

        Raises:
            MediaError: it is damaged; the message says after which frame.
        """
        given = 0
        settled = self._settled()
        if self._position is not None:
            settled = self._behind(self._position)
            given = self._position.frames
        elif self.selection.start_s and self._sought:
            self._seek(self.selection.start(self.time_base))
            settled = self._settled()
        seen = (given - 1) * self.selection.every + 1 if given else 0
        start, end = self.selection.start(self.time_base), self.selection.end(self.time_base)
        for frame, pts in settled:
            if pts < start:
                continue
            if end is not None and pts >= end:
                return
            if seen % self.selection.every == 0:
                yield self._give(frame, pts)
            seen += 1
        self._check_end()

    def take_packets(self) -> list[av.Packet[Any]]:
        """The packets of the other streams since the last call (``copy=True``), in file order."""
        taken = []
        while self._packets:
            taken.append(self._packets.popleft())
        return taken

    def _settled(self) -> Iterator[tuple[av.VideoFrame, int]]:
        """Decoded frames and their times."""
        while (frame := self._next()) is not None:
            yield from self._timeline.push(frame, frame.pts)
        yield from self._timeline.drain()

    def _behind(self, position: Position) -> Iterator[tuple[av.VideoFrame, int]]:
        """The frames behind a place: sought, and from the start where that does not lead to the same frame.

        Raises:
            MediaError: the file holds no such place.
        """
        pts = position.pts + self.selection.start(self.time_base)
        if self._sought:
            self._seek(pts)
            settled = self._settled()
            for frame, found in settled:
                if found >= pts:
                    if found == pts and checksum(self._give(frame, found).pixels) == position.checksum:
                        self._decoded = position.frames
                        return settled
                    break
            self.container.close()
            self._open()
        settled = self._settled()
        for frame, found in settled:
            if found >= pts:
                if found == pts and checksum(self._give(frame, found).pixels) == position.checksum:
                    return settled
                break
        raise MediaError(
            f"{self.path}: its frame {position.frames} is not the one that was restored before; "
            "restore it again from the start with --restart"
        )

    def _seek(self, pts: int) -> None:
        """Go to a key frame so far before a time that the frame there is decoded whole."""
        self.container.seek(
            max(0, pts - _SEEK_FRAMES * self._step), stream=self.stream, backward=True, any_frame=False
        )
        self._begin()

    def _next(self) -> av.VideoFrame | None:
        if self._first is not None:
            frame, self._first = self._first, None
            return frame
        return next(self._source, None)

    def _whole_pictures(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """The frames, deinterlaced from the first interlaced one on."""
        for frame in frames:
            filter_ = self._deinterlacer
            if filter_ is not None and not filter_.fits(frame):
                yield from filter_.drain()
                filter_ = self._deinterlacer = None
            if filter_ is None and frame.interlaced_frame and self._deinterlace == "auto":
                filter_ = self._deinterlacer = Deinterlacer(frame, self.time_base)
            if filter_ is None:
                yield frame
            else:
                yield from filter_.push(frame)
        if self._deinterlacer is not None:
            yield from self._deinterlacer.drain()

    def _decode(self) -> Iterator[av.VideoFrame]:
        for packet in self._demux():
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, EOFError) as error:
                if isinstance(error, av.error.EOFError):
                    return
                self._decode_error()
                continue
            for frame in frames:
                self._decoded += 1
                self._hurt += frame.is_corrupt
                yield frame

    def _demux(self) -> Iterator[av.Packet[VideoStream]]:
        """The packets of the video stream, with continuous times; those of other streams go to the queue."""
        wanted = [s for s in self.container.streams if self._copy or s is self.stream]
        packets = iter(self.container.demux(wanted))
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                self._decode_error()
                return
            if packet is None:
                return
            self._clock.apply(packet)
            if packet.stream is self.stream:
                yield packet
            elif packet.size:
                self._packets.append(packet)

    def _give(self, frame: av.VideoFrame, pts: int) -> VideoFrame:
        if (frame.height, frame.width) != self._stored:
            self._warn_size(frame)
        colour = colour_of(frame)
        rgb = self._converter.to_rgb(frame, colour, self._stored, deep=self._deep)
        alpha = None
        if self.has_alpha:
            alpha = self._converter.to_alpha(frame, colour, self._stored, deep=self._deep)
            alpha = rotation.turn(alpha, self._matrix)
        pts -= self.selection.start(self.time_base)
        return VideoFrame(
            rotation.turn(rgb, self._matrix),
            float(pts * self.time_base),
            self.path,
            pts=pts,
            time_base=self.time_base,
            duration=(frame.duration or 0) * self.selection.every,
            alpha=alpha,
        )

    def _warn_size(self, frame: av.VideoFrame) -> None:
        if not self._size_warned:
            self._size_warned = True
            height, width = self._stored
            message = (
                f"{self.path}: its frames change from {width}x{height} to {frame.width}x{frame.height}; "
                f"all are scaled to {width}x{height}"
            )
            warnings.warn(message, ElirWarning, stacklevel=4)

    # Damage

    def _decode_error(self) -> None:
        self._errors += 1
        if self._errors == 1 or self._damaged == "error":
            self._report("its data cannot be decoded")

    def _check_end(self) -> None:
        if self._ended:
            return
        self._ended = True
        # Who began in the middle does not know how many there were before.
        declared = self._declared if self.selection.is_all else None
        if declared is not None:
            # A few are lost without damage: hidden frames, leading ones that refer to what was cut away.
            if self._decoded < declared - max(2, declared // 100):
                self._report("it ends early")
        elif self.duration and "matroska" in self.container.format.name and self._timeline_end() is not None:
            # Both lengths must say so: tools leave the one or the other behind when they cut a file.
            lengths = [self.duration, (self.container.duration or 0) / 1e6]
            if min(lengths) - (self._timeline_end() or 0) > max(1.0, 0.05 * self.duration):
                self._report("it ends early")
        if self._hurt:
            message = f"{self.path}: {self._hurt} frames are damaged in places; the decoder patched them"
            warnings.warn(message, ElirWarning, stacklevel=3)

    def _timeline_end(self) -> float | None:
        last = self._timeline.last
        return None if last is None else float(last * self.time_base)

    def _report(self, what: str) -> None:
        """Damage: an error or a warning."""
        total = f" of {'' if self._counted else 'about '}{self.frames}" if self.frames else ""
        where = f"damaged after frame {self._decoded}{total}" if self._decoded else "damaged"
        message = f"{self.path}: this video is {where}: {what}"
        if self._damaged == "error":
            raise MediaError(f"{message}; --damaged warn keeps what can be decoded")
        warnings.warn(f"{message}; what can be decoded is kept", ElirWarning, stacklevel=3)

    def close(self) -> None:
        """Close the file."""
        if self._counter is not None:
            self._counter.close()
        self.container.close()
