"""Parts of a film on the disk: each a file of encoded packets, whole or not there.

No container keeps the times of every codec to the tick, and none tells whether its end is missing after a power
cut. So a segment is a file of packets as the encoder gave them, with a checksum at its end.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elir_trt.extras import needs
from elir_trt.files import written_whole
from elir_trt.io.video_frame import Position

with needs("av", extra="video", what="writing videos"):
    import av

_MAGIC = b"ELIRSEG1"
# Of a packet: its size, presentation time, decoding time, duration, and whether it is a key frame.
_PACKET = struct.Struct("<Iqqq?")
# Of a segment: frames before its end in the film, time of its last frame, that frame's checksum, packets, CRC-32.
_END = struct.Struct("<QqIII")


@dataclass(frozen=True)
class Segment:
    """A part of the film that is on the disk, whole.

    Attributes:
        path: its file.
        end: the place behind its last frame.
        times: presentation times of its packets, in the order of decoding, in ticks of the encoding's time base.
    """

    path: Path
    end: Position
    times: tuple[int, ...]


def write_segment(path: Path, packets: Sequence[Any], end: Position) -> Segment:
    """Write a segment so that after a crash or a power cut it is whole or not there.

    Args:
        path: of the file.
        packets: of the encoder, in the order of decoding; they stand alone.
        end: the place behind its last frame.

    Raises:
        OSError: the disk is full or refuses; nothing stays behind.
    """
    sum_ = 0
    with written_whole(path, durable=True) as temporary, open(temporary, "wb") as file:
        for piece in _pieces(packets):
            sum_ = zlib.crc32(piece, sum_)
            file.write(piece)
        file.write(_END.pack(end.frames, end.pts, end.checksum, len(packets), sum_))
    return Segment(path, end, tuple(packet.pts for packet in packets))


def _pieces(packets: Sequence[Any]) -> Iterator[bytes]:
    yield _MAGIC
    for packet in packets:
        data = bytes(packet)
        yield _PACKET.pack(len(data), packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe)
        yield data


def read_segment(path: Path) -> Segment | None:
    """The segment in a file, or None if it is not whole.

    Raises:
        OSError: the file cannot be read.
    """
    data = path.read_bytes()
    if len(data) < len(_MAGIC) + _END.size or not data.startswith(_MAGIC):
        return None
    body, tail = data[: -_END.size], data[-_END.size :]
    frames, pts, checksum, count, sum_ = _END.unpack(tail)
    if zlib.crc32(body) != sum_:
        return None
    times = tuple(fields[1] for fields, _ in _packets(body))
    return Segment(path, Position(frames, pts, checksum), times) if len(times) == count else None


def packets_of(segment: Segment) -> Iterator[av.Packet[Any]]:
    """The packets of a segment, with their presentation times and durations.

    Raises:
        OSError: the file cannot be read.
    """
    body = segment.path.read_bytes()[: -_END.size]
    for (_, pts, dts, duration, key), data in _packets(body):
        packet = av.Packet(data)
        packet.pts, packet.dts, packet.duration, packet.is_keyframe = pts, dts, duration, key
        yield packet


def _packets(body: bytes) -> Iterator[tuple[tuple[Any, ...], bytes]]:
    at = len(_MAGIC)
    while at + _PACKET.size <= len(body):
        fields = _PACKET.unpack_from(body, at)
        at += _PACKET.size
        yield fields, body[at : at + fields[0]]
        at += fields[0]


def decoding_times(segments: Sequence[Segment]) -> Iterator[int]:
    """One clock for all segments: the decoding time of each packet, in order.

    Every segment was encoded alone, so the decoding times that its encoder chose may lie before the end of the one
    before it. These follow from the presentation times alone, as x264 makes them: that of the n-th packet is the
    n-th smallest presentation time, as many packets earlier as frames are held back anywhere in the film.
    """
    ranks = [sorted(segment.times) for segment in segments]
    delay = max(
        (
            n - rank
            for segment, ordered in zip(segments, ranks, strict=True)
            for rank, n in _places(segment.times, ordered)
        ),
        default=0,
    )
    times = [time for ordered in ranks for time in ordered]
    if not times:
        return
    early = times[delay] - times[0]
    yield from (time - early for time in times[:delay])
    yield from times[: len(times) - delay]


def _places(times: Sequence[int], ordered: Sequence[int]) -> Iterator[tuple[int, int]]:
    place = {time: rank for rank, time in enumerate(ordered)}
    return ((place[time], n) for n, time in enumerate(times))
