"""The streams of a video that are not restored: sound, subtitles, pictures, data. Their packets, with one clock."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elir_trt.extras import needs
from elir_trt.io.opening import open_video
from elir_trt.io.times import Continuity

with needs("av", extra="video", what="reading videos"):
    import av

if TYPE_CHECKING:
    from elir_trt.io.selection import Selection

# Their times count from anywhere, such as the start of the broadcast.
_FLOATING = {"mpegts", "mpeg", "rtsp"}


class PacketClock:
    """Gives packets times that go on where their stream starts again, and that count from the film's start."""

    def __init__(self, container: Any) -> None:
        """Args: container: open for reading."""
        names = set(container.format.name.split(","))
        self._start = Fraction(container.start_time or 0, 1_000_000) if names & _FLOATING else Fraction(0)
        self._streams: dict[int, Continuity] = {}

    @property
    def start(self) -> Fraction:
        """Seconds from the file's zero to the film's."""
        return self._start

    def expect(self, index: int, step: int) -> None:
        """State the ticks between packets of a stream, where its packets may not say."""
        self._streams[index] = Continuity(step)

    def restarted(self, index: int) -> bool:
        """Whether the times of a stream have started again."""
        return index in self._streams and self._streams[index].restarts > 0

    def apply(self, packet: av.Packet[Any]) -> None:
        """Change the times of a stream's next packet."""
        if packet.dts is None and packet.pts is None:
            return
        continuity = self._streams.setdefault(packet.stream.index, Continuity(packet.duration or 0))
        offset = continuity.offset(packet.dts)
        if self._start:
            offset -= round(self._start / packet.time_base)
        if offset:
            packet.dts = None if packet.dts is None else packet.dts + offset
            packet.pts = None if packet.pts is None else packet.pts + offset


class Tracks:
    """The other streams of a file, read on their own: for the time when all frames are done.

    Attributes:
        container: PyAV's, open.
        video: index of the stream that is restored.
    """

    def __init__(self, path: Path, video: int) -> None:
        """Args: path: the file; video: index of the stream that is restored.

        Raises:
            MediaError: it cannot be opened.
        """
        self.container = open_video(path).container
        self.video = video
        self._clock = PacketClock(self.container)

    def packets(self) -> Iterator[av.Packet[Any]]:
        """All their packets, in file order, up to the end or to where the file is damaged."""
        wanted = [stream for stream in self.container.streams if stream.index != self.video]
        if not wanted:
            return
        packets = self.container.demux(wanted)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                return  # the frames say so, or were asked to go on
            if packet is None:
                return
            if packet.size:
                self._clock.apply(packet)
                yield packet

    def close(self) -> None:
        """Close the file."""
        self.container.close()


def is_later(packet: av.Packet[Any], limit: Fraction) -> bool:
    """Whether a packet comes after ``limit``, in seconds, in the order of a file; one without a time does not."""
    time = packet.dts if packet.dts is not None else packet.pts
    return time is not None and time * packet.time_base > limit


def within(packet: av.Packet[Any], selection: Selection, end: Fraction | None) -> bool:
    """Whether a packet lies in the part that is wanted; its times are made to count from there.

    Args:
        packet: of another stream, with the file's times.
        selection: the part.
        end: seconds, counted from the part's start, where its frames end; None: no end.
    """
    time = packet.pts if packet.pts is not None else packet.dts
    if time is None:
        return True
    start = selection.begin
    if start:
        shift = round(start / packet.time_base)
        if time < shift:
            return False
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        time -= shift
    return end is None or time * packet.time_base < end
