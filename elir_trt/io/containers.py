"""Whether a video file is as long as it says.

FFmpeg plays a file that was cut off as far as it goes and then reports a normal end. The containers state the
sizes of what they hold, so a missing end shows before anything is decoded.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO


def missing_bytes(path: Path) -> int:
    """Bytes that are missing at the end of an MP4, MOV, Matroska, WebM or AVI file; 0 if none, or unknown."""
    size = os.stat(path).st_size
    with open(path, "rb") as file:
        start = file.read(12)
        if start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            end = _mp4_end(file, size)
        elif start[:4] == b"\x1aE\xdf\xa3":
            end = _matroska_end(file)
        elif start[:4] == b"RIFF" and start[8:12] == b"AVI ":
            declared = struct.unpack("<I", start[4:8])[0]
            # Recorders that were not stopped properly leave 0 here, and long files more than 32 bits.
            end = declared + 8 if 0 < declared < 0x7FFFFFFF else 0
        else:
            return 0
    return max(0, end - size)


def _mp4_end(file: BinaryIO, size: int) -> int:
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length, kind = struct.unpack(">I4s", head[:8])
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack(">Q", head[8:])
        if length < 8:  # 0: up to the end of the file
            return 0
        # Other boxes at the end may be anybody's rubbish; these hold the film.
        if at + length > size:
            return int(at + length) if kind in (b"mdat", b"moov", b"moof") else 0
        at += length
    return 0


def _matroska_end(file: BinaryIO) -> int:
    file.seek(0)
    data = file.read(4096)
    at, _ = _ebml_number(data, 4)
    header, at = _ebml_number(data, 4)
    at += header
    if data[at : at + 4] != b"\x18S\x80g":
        return 0
    length, start = _ebml_number(data, at + 4)
    unknown = (1 << (7 * (start - at - 4))) - 1
    return 0 if length in (0, unknown) else start + length


def _ebml_number(data: bytes, at: int) -> tuple[int, int]:
    """An EBML length and where what follows starts."""
    if at >= len(data) or not data[at]:
        return 0, at + 1
    bytes_ = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + bytes_], "big") & ((1 << (7 * bytes_)) - 1)
    return value, at + bytes_
