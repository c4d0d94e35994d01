"""Putting a video file together: the restored stream, copies of the others, chapters and tags."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

from elir_trt.errors import ElirWarning
from elir_trt.extras import needs
from elir_trt.io.addresses import is_file
from elir_trt.io.encoding import CONTAINERS, Encoding
from elir_trt.io.selection import Selection

with needs("av", extra="video", what="writing videos"):
    import av
    from av.stream import Disposition

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
# Matroska keeps pictures as attachments, by their type.
_PICTURES = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}


class Muxer:
    """A video file that is being put together, with the streams of a template.

    Attributes:
        stream: the restored one, whose encoder is set up and opened: ``stream.encode`` may be used.
    """

    def __init__(
        self,
        path: Path,
        name: Path,
        encoding: Encoding,
        template: Any | None = None,
        video: int = 0,
        selection: Selection | None = None,
    ) -> None:
        """Create the file.

        Args:
            path: to write to; ``name``'s suffix decides about the container.
            name: of the output, for messages.
            encoding: of the restored stream.
            template: PyAV's container that the other streams come from; None: there are none.
            video: index of its stream that is restored.
            selection: the part of the template that is written.

        Raises:
            MediaError: the encoder refuses.
            OSError, av.error.FFmpegError: the file cannot be written.
        """
        self._name = name
        self._copies: dict[int, Any] = {}
        self._attached: set[int] = set()
        self._last_dts: dict[int, int] = {}
        self._selection = selection or Selection()
        kind = CONTAINERS[name.suffix.lower()]
        self._matroska = kind in ("matroska", "webm")
        options = {}
        if kind in ("mp4", "mov"):
            # A film that starts later than 0 states that in ticks of its own; with the default, milliseconds.
            ticks = encoding.time_base.denominator
            # The index goes to the front, so that the file plays while it is loaded from the web.
            options = {"movflags": "+faststart", "movie_timescale": str(ticks * max(1, -(-1000 // ticks)))}
        if self._matroska:
            # Times before 0 are dealt with below; Matroska would move the whole film to hold them.
            options = {"avoid_negative_ts": "disabled"}
        self._container = av.open(f"file:{path.absolute()}", "w", format=kind, container_options=options)
        try:
            self._add_streams(encoding, template, video)
            try:
                self._container.start_encoding()
            except (av.error.FFmpegError, ValueError) as error:
                if getattr(error, "errno", None) == 28:
                    raise
                raise encoding.refusal(error) from None
        except BaseException:
            self.abandon()
            raise

    # Setting up

    def _add_streams(self, encoding: Encoding, template: Any | None, video: int) -> None:
        container = self._container
        if template is None:
            self.stream = self._add_video(encoding)
            return
        container.metadata.update(_metadata(template.metadata))
        chapters = self._chapters(template)
        if chapters:
            container.set_chapters(chapters)
        for stream in template.streams:
            if stream.index == video:
                self.stream = self._add_video(encoding)
                self.stream.metadata.update(_metadata(stream.metadata))
                self.stream.disposition = stream.disposition
            else:
                self._add_copy(stream, bool(chapters))

    def _add_video(self, encoding: Encoding) -> Any:
        stream = self._container.add_stream(
            encoding.codec, rate=encoding.rate, options=dict(encoding.options)
        )
        encoding.configure(stream.codec_context)
        stream.time_base = encoding.time_base
        return stream

    def _chapters(self, template: Any) -> list[Any]:
        """Chapters in the part that is written, with its times."""
        start = self._selection.begin
        length = self._selection.length
        found = []
        for chapter in template.chapters():
            base = chapter["time_base"]
            begin = max(Fraction(0), chapter["start"] * base - start)
            end = chapter["end"] * base - start
            if length is not None:
                end = min(end, length)
            if end > begin or (end == begin and self._selection.is_all):
                found.append({**chapter, "start": round(begin / base), "end": round(end / base)})
        return found

    def _add_copy(self, stream: Any, chapters: bool) -> None:
        """A copy of a template's stream, or a warning why there is none."""
        picture = bool(stream.disposition & Disposition.attached_pic)
        context = stream.codec_context
        codec = context.name if context is not None else (stream.name or "unknown")
        if stream.type == "data" and ("timecode" in stream.metadata or (codec == "bin_data" and chapters)):
            return  # The time code is a tag, from which the muxer makes a track, as it does of the chapters.
        if self._matroska and self._container.format.name == "matroska":
            if picture and codec in _PICTURES and self._attach_picture(stream, codec):
                return
            if stream.type == "attachment":
                self._attach(stream)
                return
        if _can_hold(self._container.format.name, stream):
            copy = self._container.add_stream_from_template(stream, opaque=True)
            copy.metadata.update(_metadata(stream.metadata))
            copy.disposition = stream.disposition
            copy.time_base = stream.time_base
            self._copies[stream.index] = copy
            return
        language = f", {stream.language}" if stream.language else ""
        described = f"stream {stream.index} ({stream.type}, {codec}{language})"
        message = f"{self._name}: {described} cannot be kept in {self._name.suffix}; it is left out"
        warnings.warn(message, ElirWarning, stacklevel=7)

    def _attach(self, stream: Any) -> None:
        tags = stream.metadata
        mime = tags.get("mimetype") or "application/octet-stream"
        self._container.add_attachment(tags.get("filename") or "attachment", mime, bytes(stream.data))

    def _attach_picture(self, stream: Any, codec: str) -> bool:
        """A cover picture as Matroska's attachment, read from the template's own packets."""
        data = _picture(stream)
        if data is None:
            return False
        name, mime = _PICTURES[codec]
        self._container.add_attachment(stream.metadata.get("filename") or name, mime, data)
        self._attached.add(stream.index)
        return True

    def keeps(self, index: int) -> bool:
        """Whether packets of the template's stream of that index are wanted."""
        return index in self._copies

    # Writing

    def mux(self, packets: Iterable[Any]) -> None:
        """Write packets of the restored stream."""
        for packet in packets:
            packet.stream = self.stream
            self._container.mux_one(packet)

    def copy(self, packet: Any) -> None:
        """Write a packet of another stream, with times that count from the film's start."""
        source = packet.stream.index
        copy = self._copies[source]
        time = packet.dts if packet.dts is not None else packet.pts
        if time is None and packet.stream.disposition & Disposition.attached_pic:
            packet.pts = packet.dts = 0
        elif packet.dts is not None:
            # Times that stand still or go back in a copied stream would end the whole file.
            last = self._last_dts.get(source)
            if last is not None and packet.dts <= last:
                packet.dts = last + 1
                packet.pts = packet.dts if packet.pts is None else max(packet.pts, packet.dts)
            self._last_dts[source] = packet.dts
        if self._matroska and packet.pts is not None and packet.pts < 0 and not _has_run_in(copy):
            # The encoder's run-in, which players discard; Matroska has no place for it with this codec.
            return
        packet.stream = copy
        self._container.mux_one(packet)

    def close(self) -> None:
        """Finish the file."""
        self._container.close()

    def abandon(self) -> None:
        """Close the file, whatever it is good for."""
        with contextlib.suppress(av.error.FFmpegError, OSError):
            self._container.close()


def _has_run_in(stream: Any) -> bool:
    """Whether Matroska states how much of the stream's start is to be discarded (Opus: its pre-skip)."""
    return bool(stream.codec_context is not None and stream.codec_context.name in ("opus", "libopus"))


def _picture(stream: Any) -> bytes | None:
    """The picture of a stream that holds one, from a container of its own: the template's place must not change."""
    file = stream.container.name
    if not is_file(file.removeprefix("file:")):
        return None
    with contextlib.suppress(av.error.FFmpegError, OSError), av.open(file, "r") as container:
        for packet in container.demux(container.streams[stream.index]):
            if packet.size:
                return bytes(packet)
    return None


def _can_hold(kind: str, stream: Any) -> bool:
    """Whether a container can hold a copy of a stream: muxers tell only when they write a header."""
    if stream.type == "attachment":
        return False
    try:
        with av.open(io.BytesIO(), "w", format=kind) as trial:
            trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def _metadata(tags: dict[str, str]) -> dict[str, str]:
    """The tags that stay true of another file."""
    return {key: value for key, value in tags.items() if not key.lower().startswith(_STALE)}
