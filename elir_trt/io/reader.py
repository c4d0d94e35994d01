"""Reading video files."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from elir_trt.errors import ElirWarning, MediaError
from elir_trt.extras import needs
from elir_trt.io import rotation
from elir_trt.io.colour import Colour, Converter, colour_of, default_colour
from elir_trt.io.containers import missing_bytes
from elir_trt.io.headers import image_format, looks_like
from elir_trt.io.source import Frame, Source
from elir_trt.io.times import Continuity, Timeline

with needs("av", extra="video", what="reading videos"):
    import av
    from av.stream import Disposition
    from av.video.stream import VideoStream

Damage = Literal["error", "warn"]

# AVI states no display times, and in transport streams they are often wrong. H.264 and HEVC reorder up to 16.
_UNSORTED = {"avi": 16, "mpegts": 16, "mpeg": 16}
# Their times count from anywhere, such as the start of the broadcast.
_FLOATING = {"mpegts", "mpeg"}


@dataclass(frozen=True, kw_only=True)
class VideoFrame(Frame):
    """A decoded frame, upright: ``pixels`` are ``[H, W, 3]`` uint8, ``timestamp_s`` counts from the file's start.

    Attributes:
        pts: time of display in ticks of ``time_base``; it rises from frame to frame.
        time_base: seconds per tick.
        duration: ticks that the frame is shown for, 0 if the file does not say.
    """

    pts: int
    time_base: Fraction
    duration: int


class VideoReader(Source):
    """The frames of a video file, in the order of display.

    The first video stream is read that is no cover picture. Frames come upright, in 8 bits, all of one size:
    later ones are scaled to the first's, with an ElirWarning. Their colours are converted as the tags say, or
    as players do without tags. Times are those of the file; missing ones and those that go back are repaired.

    A file that is cut off or cannot be decoded is an error: at opening, where the file's structure shows it,
    else at the frame where it shows. ``damaged="warn"`` gives an ElirWarning and what can be decoded.

    Use it as a context manager, and iterate over it once.

    Attributes:
        path: the file.
        size: height and width of the frames, upright.
        rate: frames per second, the average; None if the file does not say.
        frames: how many there should be: exact where the container counts them, else from the length.
        duration: seconds, as far as the file says.
        time_base: seconds per tick of the frames' times.
        rotation: degrees by which the stored frames were turned clockwise: 0, 90, 180, 270.
        pixel_aspect: width of a pixel by its height, upright.
        colour: how the file codes colours.
        notes: what was changed on the way, such as "10 bits per channel reduced to 8".
    """

    def __init__(
        self, path: str | os.PathLike[str], *, damaged: Damage = "error", copy: bool = False
    ) -> None:
        """Open the file and decode its first frame.

        Args:
            path: the file.
            damaged: "error" or "warn".
            copy: keep the packets of all other streams for :meth:`take_packets`.

        Raises:
            MediaError: there is no such file, it is no video or holds no frame, or it is damaged.
        """
        if damaged not in ("error", "warn"):
            raise ValueError(f"damaged is {damaged!r}; allowed: error, warn")
        self.path = Path(path)
        self._damaged = damaged
        self._copy = copy
        self._packets: deque[av.Packet[Any]] = deque()
        self._decoded = 0
        self._hurt = 0
        self._errors = 0
        self._ended = False
        self._size_warned = False
        self._converter = Converter()
        self._missing = self._check_file()
        self.container = self._open()
        try:
            self._prepare()
        except BaseException:
            self.container.close()
            raise

    def _check_file(self) -> int:
        path = self.path
        try:
            if path.is_dir():
                raise MediaError(f"{path}: this is a folder; expected a video file")
            with open(path, "rb") as file:
                start = file.read(4096)
            missing = missing_bytes(path)
        except FileNotFoundError:
            raise MediaError(f"{path}: there is no such file") from None
        except OSError as error:
            raise MediaError(f"{path}: cannot be read: {error.strerror or error}") from None
        if not start or (image_format(start) not in (None, "GIF")):
            what = looks_like(start) if not start else f"it is a {image_format(start)} image"
            raise MediaError(f"{path}: this is not a video: {what}")
        return missing

    def _open(self) -> Any:
        try:
            # "file:" because FFmpeg takes what stands before a colon in a name for a protocol.
            return av.open(
                f"file:{self.path.absolute()}",
                "r",
                container_options={"protocol_whitelist": "file"},
                metadata_errors="replace",
            )
        except (av.error.FFmpegError, OSError) as error:
            with open(self.path, "rb") as file:
                what = looks_like(file.read(4096))
            if self._missing:
                what = f"it is cut off: {self._missing} bytes are missing at its end, and with them its index"
            elif what == "it is a video":
                what = "its index is missing or damaged, as when a recording was not finished"
            elif "known here" in what:
                what = f"FFmpeg does not know what it holds ({error.strerror})"
            raise MediaError(f"{self.path}: this video cannot be opened: {what}") from None

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
        step = round(1 / (self.rate * self.time_base)) if self.rate else 1
        self._counted = "mov" in names or "avi" in names
        self._declared = self._count() if self._counted else None
        self.duration = self._seconds()
        by_time = round(self.duration * self.rate) if self.duration and self.rate else None
        self.frames: int | None = self._declared or by_time
        self._start = 0
        if names & _FLOATING and container.start_time:
            self._start = container.start_time
        lookahead = max((_UNSORTED.get(name, 0) for name in names), default=0)
        self._timeline: Timeline[av.VideoFrame] = Timeline(lookahead=lookahead, step=step)
        self._continuity: dict[int, Continuity] = {stream.index: Continuity(step)}
        self._missing_is_damage()

        self._source = self._decode()
        first = next(self._source, None)
        if first is None:
            raise MediaError(f"{path}: its video stream {stream.index} holds no frame that can be decoded")
        self._first: av.VideoFrame | None = first
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
        self.notes = self._notes(first)

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

    def _notes(self, frame: av.VideoFrame) -> tuple[str, ...]:
        notes = []
        bits = max((part.bits for part in frame.format.components), default=8)
        if bits > 8:
            notes.append(f"{bits} bits per channel reduced to 8")
        if self.colour.hdr:
            notes.append("high dynamic range: its transfer curve is kept, in 8 bits")
        if self.rotation:
            notes.append(f"turned upright by {self.rotation} degrees")
        if frame.interlaced_frame:
            notes.append("interlaced: both fields are treated as one picture")
        return tuple(notes)

    # Reading

    def __iter__(self) -> Iterator[VideoFrame]:
        """Decode the file.

        Raises:
            MediaError: it is damaged; the message says after which frame.
        """
        while (frame := self._next()) is not None:
            for settled, pts in self._timeline.push(frame, frame.pts):
                yield self._give(settled, pts)
        for settled, pts in self._timeline.drain():
            yield self._give(settled, pts)
        self._check_end()

    def take_packets(self) -> list[av.Packet[Any]]:
        """The packets of the other streams since the last call (``copy=True``), in file order."""
        taken = []
        while self._packets:
            taken.append(self._packets.popleft())
        return taken

    def _next(self) -> av.VideoFrame | None:
        if self._first is not None:
            frame, self._first = self._first, None
            return frame
        return next(self._source, None)

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
            stream = packet.stream
            if packet.dts is not None or packet.pts is not None:
                step = packet.duration or 0
                continuity = self._continuity.setdefault(stream.index, Continuity(step))
                offset = continuity.offset(packet.dts)
                if self._start:
                    offset -= round(Fraction(self._start, 1_000_000) / packet.time_base)
                if offset:
                    packet.dts = None if packet.dts is None else packet.dts + offset
                    packet.pts = None if packet.pts is None else packet.pts + offset
            if stream is self.stream:
                yield packet
            elif packet.size:
                self._packets.append(packet)

    def _give(self, frame: av.VideoFrame, pts: int) -> VideoFrame:
        if (frame.height, frame.width) != self._stored:
            self._warn_size(frame)
        rgb = self._converter.to_rgb(frame, colour_of(frame), self._stored)
        return VideoFrame(
            rotation.turn(rgb, self._matrix),
            float(pts * self.time_base),
            self.path,
            pts=pts,
            time_base=self.time_base,
            duration=frame.duration or 0,
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

    def _missing_is_damage(self) -> None:
        if self._missing:
            size = self.path.stat().st_size
            self._report(f"it is cut off: it has {size} of {size + self._missing} bytes")

    def _decode_error(self) -> None:
        self._errors += 1
        if self._errors == 1 or self._damaged == "error":
            self._report("its data cannot be decoded")

    def _check_end(self) -> None:
        if self._ended:
            return
        self._ended = True
        declared = self._declared
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
        self.container.close()
