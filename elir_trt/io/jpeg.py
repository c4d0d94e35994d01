"""Damage in JPEG files.

libjpeg, and so OpenCV, turns a truncated or overwritten file into a picture with wrong colours and does not
tell. Two things find the damage without refusing a good file. The markers must follow each other as ISO/IEC
10918-1 Annex B says, down to the end marker; in the compressed data only stuffed zeros and restart markers in
turn may occur. And FFmpeg's decoder, asked to stop at the first error, must find a code for every block.

What neither can see is damage that happens to form valid codes: a flipped bit, most of the time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from elir_trt.extras import needs

_STANDALONE = {0x01, *range(0xD0, 0xD8)}
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_MARKER = re.compile(rb"\xff+([\x01-\xfe])", re.DOTALL)


class BadJpeg(Exception):
    """The file is damaged; the message says how it shows."""


@dataclass(frozen=True)
class Jpeg:
    """The structure of a JPEG file.

    Attributes:
        width, height: of the stored picture.
        process: the frame marker: 0xC0 baseline, 0xC1 extended, 0xC2 progressive.
        bits: per sample.
        components: colour channels.
        exif: the EXIF block, if there is one.
        essential: the file without application data, comments, and what follows the end marker.
    """

    width: int
    height: int
    process: int
    bits: int
    components: int
    exif: bytes | None
    essential: bytes


def parse(data: bytes) -> Jpeg:
    """Walk the markers of a JPEG file.

    Raises:
        BadJpeg: they break the standard's order: the file is truncated or overwritten.
    """
    at = 2
    kept = [data[:2]]
    frame: tuple[int, int, int, int, int] | None = None
    exif: bytes | None = None
    scans = 0
    while True:
        if data[at : at + 1] != b"\xff":
            if at >= len(data):
                raise BadJpeg(f"it is truncated: it ends after {len(data)} bytes without an end marker")
            raise BadJpeg(f"byte {at} should start a marker and does not")
        while data[at : at + 2] == b"\xff\xff":
            at += 1
        if at + 1 >= len(data):
            raise BadJpeg(f"it is truncated: it ends after {len(data)} bytes without an end marker")
        marker = data[at + 1]
        if marker == 0xD9:
            break
        if marker in _STANDALONE:
            at += 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        end = at + 2 + length
        if at + 4 > len(data) or end > len(data):
            raise BadJpeg(f"it is truncated: it ends after {len(data)} bytes, within its header")
        if length < 2 or marker < 0xC0:
            raise BadJpeg(f"the marker at byte {at} is none that exists")
        body = data[at + 4 : end]
        if marker == 0xE1 and exif is None and body.startswith(b"Exif\0"):
            exif = body
        if marker in _FRAMES:
            if len(body) < 6:
                raise BadJpeg(f"the frame header at byte {at} is cut off")
            height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            frame = (width, height, marker, body[0], body[5])
        # Adobe's block (0xEE) says how the colours are coded: the only application data that decoders need.
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE) or marker == 0xEE:
            kept.append(data[at:end])
        at = end
        if marker == 0xDA:
            if frame is None:
                raise BadJpeg("its image data starts before its header states a size")
            scans += 1
            following = _end_of_scan(data, at)
            kept.append(data[at:following])
            at = following
    if frame is None or not scans:
        raise BadJpeg("it ends before any image data")
    kept.append(b"\xff\xd9")
    return Jpeg(*frame, exif, b"".join(kept))


def _end_of_scan(data: bytes, start: int) -> int:
    """Where the marker after the compressed data is."""
    expected: int | None = None
    for found in _MARKER.finditer(data, start):
        marker = found.group(1)[0]
        if not 0xD0 <= marker <= 0xD7:
            # What can follow is: tables, comments, another scan, a line count, the end.
            if marker in (0xC4, 0xCC, 0xD9, 0xDA, 0xDB, 0xDC, 0xDD, 0xFE) or 0xE0 <= marker <= 0xEF:
                return found.start()
            raise BadJpeg(f"its image data holds an impossible marker at byte {found.start()}")
        if marker != (0xD0 if expected is None else expected):
            raise BadJpeg(f"a restart marker is missing before byte {found.start()}")
        expected = 0xD0 + (marker - 0xCF) % 8
    raise BadJpeg(f"it is truncated: it ends after {len(data)} bytes without an end marker")


def check_codes(data: bytes) -> None:
    """Decode the file strictly; the pixels are thrown away.

    Kinds of JPEG that FFmpeg does not decode (arithmetic coding, more than 8 bits, uncommon sampling) pass
    unchecked.

    Raises:
        BadJpeg: the compressed data cannot be decoded to its end.
        MissingPackageError: PyAV, which has FFmpeg's decoder, is not installed.
    """
    found = parse(data)
    if found.process not in (0xC0, 0xC1, 0xC2) or found.bits != 8 or found.components not in (1, 3, 4):
        return
    if found.height == 0 or found.width == 0:
        # The number of lines comes after the first scan (DNL); FFmpeg does not know that.
        return
    with needs("av", extra="image", what="reading JPEG images"):
        import av
    context = av.CodecContext.create("mjpeg", "r")
    context.options = {"err_detect": "explode"}
    context.thread_count = 1
    try:
        context.decode(av.Packet(found.essential))
    except av.error.InvalidDataError:
        raise BadJpeg("its image data is damaged or truncated") from None
    except av.error.FFmpegError:
        return
