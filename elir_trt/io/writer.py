"""Writing video files."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections import deque
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from elir_trt.errors import ElirWarning, MediaError
from elir_trt.extras import needs
from elir_trt.files import written_whole
from elir_trt.io.colour import LIMITED, Colour, Converter, default_colour
from elir_trt.io.paths import check_writable
from elir_trt.io.reader import VideoReader

with needs("av", extra="video", what="writing videos"):
    import av
    from av.codec.context import Flags
    from av.stream import Disposition

_CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}

# Muxers write these themselves, or they are true of the source only.
_STALE = (
    "duration",
    "bps",
    "number_of_",
    "_statistics",
    "encoder",
    "major_brand",
    "minor_version",
    "compatible_brands",
)


class _GivenUp(Exception):
    """The file is not to become one."""


class VideoWriter:
    """Writes frames to a video file: H.264 in .mp4, .m4v, .mov and .mkv, VP9 in .webm.

    Frames of even size are stored as yuv420p, which everything plays. An odd width or height has no such
    form; it is kept as it is, in yuv444p, which desktop players play but few hardware decoders do.

    With a template its frame times, colour tags, pixel shape and metadata are taken over, and its other
    streams (audio, subtitles, further videos) are copied packet by packet: open the template with
    ``copy=True``. A stream that the container cannot hold is left out, with an ElirWarning that names it.
    Times are kept to the tick in .mp4 and .mov; .mkv and .webm store milliseconds.

    The file is written under a temporary name in the same folder and renamed when it is complete. Leaving
    the ``with`` block by an error removes it; by KeyboardInterrupt finishes it, so that what was done is
    playable.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        size: tuple[int, int],
        template: VideoReader | None = None,
        rate: Fraction | int | None = None,
        crf: int = 17,
        preset: str = "medium",
        overwrite: bool = False,
    ) -> None:
        """Create the file.

        Args:
            path: ending in .mp4, .m4v, .mov, .mkv or .webm.
            size: height and width of the frames.
            template: where the frames came from.
            rate: frames per second; needed without a template.
            crf: quality of the encoder, from 0 (lossless) to 51; 17 is hard to tell from the source.
            preset: of x264, "ultrafast" to "veryslow".
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
        self.rate = Fraction(found or 25)
        self.time_base = template.time_base if template else 1 / self.rate
        self._template = template
        self._aspect = template.pixel_aspect if template else Fraction(1)
        self._colour = _output_colour(template, size)
        self._converter = Converter()
        self._waiting: deque[av.Packet[Any]] = deque()
        self._copies: dict[int, Any] = {}
        self._last_dts: dict[int, int] = {}
        self._no_negative = self.path.suffix.lower() in (".mkv", ".webm")
        self._written = 0
        self._next_pts = 0
        self._reached = Fraction(0)
        self._end = Fraction(0)
        self._open = False
        self._whole = contextlib.ExitStack()
        try:
            with contextlib.ExitStack() as stack:
                self._temporary = stack.enter_context(written_whole(self.path))
                self._container = self._start(crf, preset)
                self._whole = stack.pop_all()
        except (av.error.FFmpegError, OSError) as error:
            raise self._refusal(error) from None
        self._open = True

    # Setting up

    def _start(self, crf: int, preset: str) -> Any:
        kind = _CONTAINERS[self.path.suffix.lower()]
        # The index goes to the front, so that the file plays while it is loaded from the web.
        options = {}
        if kind in ("mp4", "mov"):
            # A film that starts later than 0 states that in ticks of its own; with the default, milliseconds.
            ticks = self.time_base.denominator
            options = {"movflags": "+faststart", "movie_timescale": str(ticks * max(1, -(-1000 // ticks)))}
        container = av.open(f"file:{self._temporary.absolute()}", "w", format=kind, container_options=options)
        if self._template is None:
            self._stream = self._add_video(container, kind, crf, preset)
        else:
            container.metadata.update(_metadata(self._template.container.metadata))
            for stream in self._template.container.streams:
                if stream.index == self._template.stream.index:
                    self._stream = self._add_video(container, kind, crf, preset)
                    self._stream.metadata.update(_metadata(stream.metadata))
                    self._stream.disposition = stream.disposition
                else:
                    self._add_copy(container, stream)
        container.start_encoding()
        return container

    def _add_video(self, container: Any, kind: str, crf: int, preset: str) -> Any:
        height, width = self.size
        if kind == "webm":
            codec = "libvpx-vp9"
            options = {"crf": str(crf), "b:v": "0", "row-mt": "1", "cpu-used": "4", "deadline": "good"}
        else:
            codec = "libx264"
            options = {"crf": str(crf), "preset": preset}
        if codec not in av.codecs_available:
            raise MediaError(f"{self.path}: this PyAV has no encoder {codec}, which {self.path.suffix} needs")
        stream = container.add_stream(codec, rate=self.rate, options=options)
        context = stream.codec_context
        context.width, context.height = width, height
        context.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"
        context.time_base = self.time_base
        context.flags |= int(Flags.frame_duration)
        context.sample_aspect_ratio = self._aspect
        context.color_range = LIMITED
        context.colorspace = self._colour.matrix
        context.color_primaries = self._colour.primaries
        context.color_trc = self._colour.transfer
        stream.time_base = self.time_base
        return stream

    def _add_copy(self, container: Any, stream: Any) -> None:
        """A copy of a template's stream, or a warning why there is none."""
        context = stream.codec_context
        codec = context.name if context is not None else (stream.name or "unknown")
        language = f", {stream.language}" if stream.language else ""
        described = f"stream {stream.index} ({stream.type}, {codec}{language})"
        if _can_hold(container.format.name, stream):
            copy = container.add_stream_from_template(stream)
            copy.metadata.update(_metadata(stream.metadata))
            copy.disposition = stream.disposition
            copy.time_base = stream.time_base
            self._copies[stream.index] = copy
            return
        message = f"{self.path}: {described} cannot be kept in {self.path.suffix}; it is left out"
        warnings.warn(message, ElirWarning, stacklevel=5)

    # Writing

    def write(self, rgb: npt.NDArray[np.uint8], pts: int | None = None, duration: int = 0) -> None:
        """Encode a frame.

        Args:
            rgb: ``[H, W, 3]`` uint8 of the writer's size.
            pts: its time in ticks of ``time_base``, greater than the one before; None: one frame after it.
            duration: ticks that it is shown for; 0: until the next.

        Raises:
            MediaError: the disk is full, or the file cannot be written for another reason.
            ValueError: the frame has another size.
        """
        if rgb.dtype != np.uint8 or rgb.shape != (*self.size, 3):
            raise ValueError(f"frame is {rgb.dtype} {rgb.shape}; this file takes uint8 {(*self.size, 3)}")
        step = max(1, round(1 / (self.rate * self.time_base)))
        pts = self._next_pts if pts is None else pts
        frame = self._converter.from_rgb(rgb, self._colour, self._stream.codec_context.pix_fmt)
        frame.pts, frame.time_base, frame.duration = pts, self.time_base, duration or step
        self._next_pts = pts + (duration or step)
        self._end = self._next_pts * self.time_base
        try:
            self._mux(self._stream.encode(frame))
        except (av.error.FFmpegError, OSError) as error:
            raise self._refusal(error) from None
        self._written += 1

    def _mux(self, packets: list[av.Packet[Any]]) -> None:
        for packet in packets:
            if packet.dts is not None:
                self._reached = packet.dts * packet.time_base
            self._container.mux(packet)
        self._collect()
        self._copy_until(self._reached)

    def _collect(self) -> None:
        if self._template is not None:
            self._waiting.extend(p for p in self._template.take_packets() if p.stream.index in self._copies)

    def _copy_until(self, limit: Fraction | None) -> None:
        """Copy waiting packets up to a time: the file stays interleaved although encoders lag behind."""
        while self._waiting:
            packet = self._waiting[0]
            time = packet.dts if packet.dts is not None else packet.pts
            if time is not None and limit is not None and time * packet.time_base > limit:
                return
            self._waiting.popleft()
            source = packet.stream.index
            if time is None and packet.stream.disposition & Disposition.attached_pic:
                packet.pts = packet.dts = 0
            elif packet.dts is not None:
                # Times that stand still or go back in a copied stream would end the whole file.
                last = self._last_dts.get(source)
                if last is not None and packet.dts <= last:
                    packet.dts = last + 1
                    packet.pts = packet.dts if packet.pts is None else max(packet.pts, packet.dts)
                self._last_dts[source] = packet.dts
            if self._no_negative and packet.pts is not None and packet.pts < 0:
                # The encoder's run-in, which players discard. Matroska would move the whole film to hold it.
                continue
            packet.stream = self._copies[source]
            self._container.mux(packet)

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
        try:
            with self._whole:
                if self._written:
                    for packet in self._stream.encode(None):
                        self._container.mux(packet)
                self._collect()
                self._copy_until(None if complete else self._end)
                self._container.close()
        except (av.error.FFmpegError, OSError) as error:
            raise self._refusal(error) from None

    def abort(self) -> None:
        """Give the file up: nothing stays behind."""
        if not self._open:
            return
        self._open = False
        with contextlib.suppress(_GivenUp), self._whole:
            with contextlib.suppress(av.error.FFmpegError, OSError):
                self._container.close()
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


def _output_colour(template: VideoReader | None, size: tuple[int, int]) -> Colour:
    """The template's matrix, so that nothing shifts where its tags were missing; always limited range."""
    colour = template.colour if template else default_colour(*size)
    return replace(colour, full_range=False)


def _can_hold(kind: str, stream: Any) -> bool:
    """Whether a container can hold a copy of a stream: muxers tell only when they write a header."""
    if stream.type not in ("video", "audio", "subtitle"):
        return False
    try:
        with av.open(io.BytesIO(), "w", format=kind) as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def _metadata(tags: dict[str, str]) -> dict[str, str]:
    """The tags that stay true of another file."""
    return {key: value for key, value in tags.items() if not key.lower().startswith(_STALE)}
