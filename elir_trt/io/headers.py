"""What an image file says about itself: format, size, frames, orientation, and whether all of it is there.

Decoders are generous: OpenCV returns the lower half of a truncated JPEG as grey, without a word. So the
structure of a file is read here, before any decoder sees it, and what is missing or damaged is an error.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from elir_trt.io import jpeg


class Damaged(Exception):
    """The file's own structure shows that something is missing or changed; the message says what."""


@dataclass(frozen=True)
class Header:
    """What the header of an image file says.

    Attributes:
        format: "JPEG", "PNG", "WebP", "TIFF", "BMP" or "GIF"; of what Pillow opens its own.
        width, height: as stored, before the orientation is applied.
        frames: pictures in the file.
        orientation: 1 to 8, as in EXIF; 1 is upright.
        bits: per channel.
    """

    format: str
    width: int
    height: int
    frames: int = 1
    orientation: int = 1
    bits: int = 8


def image_format(start: bytes) -> str | None:
    """The format that a file's first 16 bytes announce, or None if it is no image that may be read here.

    AVIF, HEIC and JPEG XL are read where Pillow or its plugins can.
    """
    if start[4:8] == b"ftyp" and start[8:12] in (b"avif", b"avis"):
        return "AVIF"
    if start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"heim", b"heis", b"mif1"):
        return "HEIC"
    if start[:2] == b"\xff\x0a" or start[:12] == b"\0\0\0\x0cJXL \r\n\x87\n":
        return "JPEG XL"
    if start[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if start[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WebP"
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if start[:2] == b"BM" and len(start) >= 10 and start[6:10] == b"\0\0\0\0":
        return "BMP"
    if start[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    return None


def may_move(start: bytes) -> bool:
    """Whether an image's first 4096 bytes announce several pictures with times: APNG, animated WebP; any GIF may."""
    name = image_format(start[:16])
    if name == "PNG":
        return b"acTL" in start
    if name == "WebP":
        return start[12:16] == b"VP8X" and len(start) > 20 and bool(start[20] & 2)
    return name == "GIF"


def looks_like(data: bytes) -> str:
    """In words, what a file that is no readable image seems to be."""
    if not data:
        return "it is empty (0 bytes)"
    start = data[:512]
    if start[4:8] == b"ftyp":
        return "it is a video"
    known = (
        (b"\x1aE\xdf\xa3", "a video"),
        (b"%PDF", "a PDF document"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"\x1f\x8b", "gzip-compressed data"),
        (b"8BPS", "a Photoshop document"),
        (b"\0\0\0\x0cjP", "a JPEG 2000 image"),
        (b"v/1\x01", "an OpenEXR image"),
    )
    for magic, name in known:
        if start.startswith(magic):
            return f"it is {name}"
    try:
        text = start.decode("utf-8", errors="strict" if len(data) <= 512 else "ignore")
    except UnicodeDecodeError:
        return "it holds no image format that is known here"
    if any(ord(c) < 32 and c not in "\t\r\n\f" for c in text) or len(text) < len(start) // 2:
        return "it holds no image format that is known here"
    head = text.lstrip().lower()
    if head.startswith("<svg") or "<svg" in head:
        return "it is an SVG drawing"
    if head.startswith(("<!doctype html", "<html")) or "<body" in head:
        return "it is an HTML page, perhaps an error page that was saved in place of the image"
    return "it is a text file"


def read_header(data: bytes, *, complete: bool = True) -> Header | None:
    """Read the header of an image and check that the file is complete.

    Args:
        data: the whole file.
        complete: False: it may be the first bytes of a PNG, and neither they nor the rest are checked.

    Returns:
        The header, or None if this is no image of a known format, or one that only Pillow opens.

    Raises:
        Damaged: the file is truncated, or a checksum or a length in it is wrong.
    """
    name = image_format(data[:16])
    if name not in _READERS:
        return None
    try:
        if name == "PNG" and not complete:
            width, height, bits = struct.unpack(">IIB", data[16:25])
            return Header("PNG", width, height, bits=bits)
        return _READERS[name](data)
    except (struct.error, IndexError):
        raise Damaged("its header ends early; the file is truncated") from None


def _jpeg(data: bytes) -> Header:
    try:
        found = jpeg.parse(data)
    except jpeg.BadJpeg as error:
        raise Damaged(str(error)) from None
    orientation = _exif_orientation(found.exif) if found.exif is not None else 1
    return Header("JPEG", found.width, found.height, orientation=orientation)


def _png(data: bytes) -> Header:
    at, width, height, frames, orientation = 8, 0, 0, 1, 1
    pixels, bits = False, 8
    while True:
        if at + 12 > len(data):
            raise Damaged(f"it is truncated: it ends after {len(data)} bytes without an end chunk")
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        if at + 12 + length > len(data):
            raise Damaged(
                f"it is truncated: its {kind.decode('latin-1')} chunk at byte {at} has {len(body)} "
                f"of {length} bytes"
            )
        (stored,) = struct.unpack(">I", data[at + 8 + length : at + 12 + length])
        # Decoders stop for a wrong sum in the critical chunks only; so do we.
        if zlib.crc32(body, zlib.crc32(kind)) != stored and not kind[0] & 0x20:
            raise Damaged(f"the checksum of its {kind.decode('latin-1')} chunk at byte {at} is wrong")
        if at == 8:
            if kind != b"IHDR":
                raise Damaged("its first chunk is not IHDR")
            width, height, bits = struct.unpack(">IIB", body[:9])
        elif kind == b"acTL":
            frames = max(1, struct.unpack(">I", body[:4])[0])
        elif kind == b"eXIf":
            orientation = _exif_orientation(body)
        elif kind == b"IDAT":
            pixels = True
        elif kind == b"IEND":
            break
        at += 12 + length
    if not pixels:
        raise Damaged("it has no image data (IDAT chunk)")
    return Header("PNG", width, height, frames, orientation, bits)


def _webp(data: bytes) -> Header:
    declared = struct.unpack("<I", data[4:8])[0] + 8
    # The size may leave out the padding byte of the last chunk.
    if len(data) < declared - 1:
        raise Damaged(f"it is truncated: it has {len(data)} of {declared} bytes")
    at, frames, orientation = 12, 0, 1
    size: tuple[int, int] | None = None
    while at + 8 <= min(len(data), declared):
        kind, length = data[at : at + 4], struct.unpack("<I", data[at + 4 : at + 8])[0]
        body = data[at + 8 : at + 8 + length]
        if kind == b"VP8X":
            size = (1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little"))
        elif kind == b"VP8 " and size is None:
            width, height = struct.unpack("<HH", body[6:10])
            size = (width & 0x3FFF, height & 0x3FFF)
        elif kind == b"VP8L" and size is None:
            bits = int.from_bytes(body[1:5], "little")
            size = (1 + (bits & 0x3FFF), 1 + ((bits >> 14) & 0x3FFF))
        elif kind == b"ANMF":
            frames += 1
        elif kind == b"EXIF":
            orientation = _exif_orientation(body)
        at += 8 + length + (length & 1)
    if size is None:
        raise Damaged("it has no image data (VP8 chunk)")
    return Header("WebP", *size, max(1, frames), orientation)


def _gif(data: bytes) -> Header:
    width, height = struct.unpack("<HH", data[6:10])

    def table(flags: int) -> int:
        return 3 << ((flags & 7) + 1) if flags & 0x80 else 0

    def skip_blocks(at: int) -> int:
        while data[at]:
            at += data[at] + 1
        return at + 1

    at, frames = 13 + table(data[10]), 0
    try:
        while data[at] != 0x3B:
            if data[at] == 0x21:
                at = skip_blocks(at + 2)
            elif data[at] == 0x2C:
                at = skip_blocks(at + 11 + table(data[at + 9]))
                frames += 1
            else:
                raise Damaged(f"byte {at} does not start a block")
    except IndexError:
        raise Damaged(f"it is truncated: it ends after {len(data)} bytes, in picture {frames + 1}") from None
    if not frames:
        raise Damaged("it holds no picture")
    return Header("GIF", width, height, frames)


def _bmp(data: bytes) -> Header:
    offset, header = struct.unpack("<II", data[10:18])
    if header == 12:
        width, height, _, bits = struct.unpack("<HHHH", data[18:26])
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack("<iiHHI", data[18:34])
    height = abs(height)
    needed = offset + (width * bits + 31) // 32 * 4 * height
    if compression in (0, 3) and len(data) < needed:
        raise Damaged(f"it is truncated: it has {len(data)} of {needed} bytes")
    return Header("BMP", max(width, 0), height)


def _tiff(data: bytes) -> Header:
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    (at,) = struct.unpack(order + ("Q" if big else "I"), data[8:16] if big else data[4:8])
    first: dict[int, tuple[int, ...]] = {}
    pages = 0
    seen: set[int] = set()
    while at and at not in seen:
        seen.add(at)
        if at + 2 > len(data):
            raise Damaged(f"it is truncated: page {pages + 1} should start at byte {at} of {len(data)}")
        tags, at = _directory(data, at, order, big)
        first = first or tags
        pages += 1
        # A thumbnail or a mask is no page (NewSubfileType).
        if pages > 1 and tags.get(254, (0,))[0] & 0b101:
            pages -= 1
    if 256 not in first or 257 not in first:
        raise Damaged("its header does not state width and height")
    for offsets, counts in ((273, 279), (324, 325)):
        for start, count in zip(first.get(offsets, ()), first.get(counts, ()), strict=False):
            if start + count > len(data):
                raise Damaged(f"it is truncated: it has {len(data)} of at least {start + count} bytes")
    orientation = first.get(274, (1,))[0]
    return Header(
        "TIFF",
        first[256][0],
        first[257][0],
        pages,
        orientation if 1 <= orientation <= 8 else 1,
        max(first.get(258, (1,))),
    )


def _directory(data: bytes, at: int, order: str, big: bool) -> tuple[dict[int, tuple[int, ...]], int]:
    """The integer tags of a TIFF directory, and where the next one starts (0: there is none)."""
    kinds = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}
    head, entry, inline = (8, 20, 8) if big else (2, 12, 4)
    offset = "Q" if big else "I"
    (count,) = struct.unpack(order + ("Q" if big else "H"), data[at : at + head])
    if at + head + count * entry > len(data):
        raise Damaged(f"it is truncated: a page's description at byte {at} is cut off")
    tags: dict[int, tuple[int, ...]] = {}
    for n in range(count):
        start = at + head + n * entry
        tag, kind, values = struct.unpack(order + "HH" + offset, data[start : start + 4 + inline])
        if kind not in kinds:
            continue
        size = struct.calcsize(kinds[kind]) * values
        where = start + 4 + inline
        if size > inline:
            (where,) = struct.unpack(order + offset, data[where : where + inline])
        if where + size > len(data):
            raise Damaged(f"it is truncated: tag {tag} lies behind its end")
        tags[tag] = struct.unpack(f"{order}{values}{kinds[kind]}", data[where : where + size])
    end = at + head + count * entry
    following = data[end : end + inline]
    return tags, struct.unpack(order + offset, following)[0] if len(following) == inline else 0


def _exif_orientation(exif: bytes) -> int:
    """The orientation in an EXIF block; 1 where it states none or cannot be read."""
    exif = exif.removeprefix(b"Exif\0\0")
    if exif[:2] not in (b"II", b"MM") or len(exif) < 8:
        return 1
    order = "<" if exif[:2] == b"II" else ">"
    try:
        tags, _ = _directory(exif, struct.unpack(order + "I", exif[4:8])[0], order, False)
    except (Damaged, struct.error):
        return 1
    orientation = tags.get(0x0112, (1,))[:1] or (1,)
    return orientation[0] if 1 <= orientation[0] <= 8 else 1


_READERS: dict[str, Callable[[bytes], Header]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WebP": _webp,
    "GIF": _gif,
    "BMP": _bmp,
    "TIFF": _tiff,
}
