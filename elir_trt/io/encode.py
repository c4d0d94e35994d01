"""Encoding images: pixels and what a file says beside them.

Pillow writes JPEG, WebP and BMP. It has no RGB of 16 bits, so OpenCV compresses PNG, and tifffile writes TIFF.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from elir_trt.extras import needs
from elir_trt.io.metadata import EXIF_DIRECTORY, GPS_DIRECTORY, Metadata

with needs("cv2", extra="image", what="reading and writing images"):
    import cv2
with needs("PIL", extra="image", what="reading and writing images"):
    import PIL.Image
    import PIL.PngImagePlugin
    import PIL.TiffImagePlugin

# Of 8 or 16 bits.
Pixels = npt.NDArray[Any]

#: Extensions of formats that hold 16 bits per channel, and of those that hold several pages.
DEEP = (".png", ".tif", ".tiff")
PAGED = (".tif", ".tiff")
#: Extensions of formats that hold no transparency.
OPAQUE = (".jpg", ".jpeg", ".bmp")
_INCH_M = 0.0254
# TIFF's tag of XMP, and its type of a number of 32 bits.
_XMP, _LONG = 700, 4


class CannotHold(Exception):
    """The format has no place for such a picture."""


def encode(suffix: str, pages: Sequence[Pixels], metadata: Metadata) -> tuple[bytes, list[str]]:
    """A file, and notes of what it could not be given.

    Args:
        suffix: of the file's name, in lower case.
        pages: ``[H, W]``, ``[H, W, 3]`` or ``[H, W, 4]`` each; several, and uint16, where the format has them.
        metadata: of the first page.

    Raises:
        CannotHold: the format refuses the size.
    """
    if suffix == ".png":
        return _png(pages[0], metadata), []
    if suffix in PAGED:
        return _tiff(pages, metadata), ["text is not kept in a TIFF"] if metadata.text else []
    return _by_pillow(suffix, pages[0], metadata)


def _by_pillow(suffix: str, pixels: Pixels, metadata: Metadata) -> tuple[bytes, list[str]]:
    image = PIL.Image.fromarray(pixels)
    options: dict[str, Any] = {}
    lost: list[str] = []
    exif = None if metadata.exif is None else b"Exif\0\0" + metadata.exif
    kept = {"icc_profile": metadata.icc, "exif": exif, "xmp": metadata.xmp}
    if suffix == ".bmp":
        options["format"] = "BMP"
        lost += [name for name, value in (("ICC profile", metadata.icc), ("EXIF", metadata.exif)) if value]
        lost += ["XMP"] if metadata.xmp else []
    elif suffix == ".webp":
        options.update(format="WEBP", lossless=True, exact=True, quality=50, **kept)
    else:
        options.update(format="JPEG", quality=95, subsampling=0, **kept)
        if metadata.text.get("Comment"):
            options["comment"] = metadata.text["Comment"]
    if metadata.dpi is not None and suffix != ".webp":
        options["dpi"] = metadata.dpi
    if set(metadata.text) - ({"Comment"} if options["format"] == "JPEG" else set()):
        lost.append("text")
    if metadata.dpi is not None and suffix == ".webp" and metadata.exif is None:
        lost.append("resolution")
    file = io.BytesIO()
    try:
        image.save(file, **{name: value for name, value in options.items() if value is not None})
    except (OSError, ValueError, struct.error, SystemError) as error:
        raise CannotHold(str(error)) from None
    return file.getvalue(), [f"{what} is not kept in a {suffix} file" for what in lost]


def _png(pixels: Pixels, metadata: Metadata) -> bytes:
    bgr: Any = pixels
    if pixels.ndim == 3:
        # Red and blue change places, alpha stays.
        bgr = pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]]
    done, encoded = cv2.imencode(".png", np.ascontiguousarray(bgr))
    if not done:
        raise CannotHold("OpenCV refuses it")
    data = encoded.tobytes()
    # After the header, which is 8 bytes of signature and a chunk of 25.
    return data[:33] + b"".join(_chunk(kind, body) for kind, body in _chunks(metadata)) + data[33:]


def _chunks(metadata: Metadata) -> list[tuple[bytes, bytes]]:
    """PNG's chunks for metadata (W3C PNG, third edition, 11.3)."""
    found: list[tuple[bytes, bytes]] = []
    if metadata.icc is not None:
        found.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.dpi is not None:
        across, down = (round(dots / _INCH_M) for dots in metadata.dpi)
        found.append((b"pHYs", struct.pack(">IIB", across, down, 1)))
    if metadata.exif is not None:
        found.append((b"eXIf", metadata.exif))
    text = PIL.PngImagePlugin.PngInfo()
    if metadata.xmp is not None:
        text.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", errors="replace"))
    for key, value in metadata.text.items():
        text.add_text(key, value)
    found += [(kind, body) for kind, body, *_ in text.chunks]
    return found


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def _tiff(pages: Sequence[Pixels], metadata: Metadata) -> bytes:
    with needs("tifffile", extra="image", what="writing TIFF images"):
        import tifffile

    extra: list[tuple[int, Any, int, Any, bool]] = []
    if metadata.xmp is not None:
        extra.append((_XMP, "B", len(metadata.xmp), metadata.xmp, True))
    for tag, value in _main_tags(metadata.exif).items():
        extra.append((tag, "s", 0, value, True))
    file = io.BytesIO()
    with tifffile.TiffWriter(file, byteorder="<") as writer:
        for number, pixels in enumerate(pages):
            colour = pixels.ndim == 3
            writer.write(
                pixels,
                photometric="rgb" if colour else "minisblack",
                extrasamples=["unassalpha"] if colour and pixels.shape[2] == 4 else None,
                compression="zlib",
                metadata=None,
                software=False,
                iccprofile=metadata.icc,
                resolution=metadata.dpi,
                resolutionunit="inch" if metadata.dpi is not None else None,
                extratags=extra if number == 0 else [],
            )
    directories = _exif_directories(metadata.exif)
    return _with_directories(file.getvalue(), directories) if directories else file.getvalue()


def _exif_of(exif: bytes | None) -> PIL.Image.Exif:
    found = PIL.Image.Exif()
    if exif is not None:
        found.load(b"Exif\0\0" + exif)
    return found


def _main_tags(exif: bytes | None) -> dict[int, str]:
    """The texts of EXIF's main directory, which are a TIFF's own tags: maker, model, date, author, ..."""
    return {tag: value for tag, value in _exif_of(exif).items() if tag > 269 and isinstance(value, str)}


def _exif_directories(exif: bytes | None) -> dict[int, dict[int, Any]]:
    """EXIF's and GPS's directories, where there are any."""
    if exif is None:
        return {}
    found = _exif_of(exif)
    return {tag: own for tag in (EXIF_DIRECTORY, GPS_DIRECTORY) if (own := dict(found.get_ifd(tag)))}


def _with_directories(data: bytes, directories: dict[int, dict[int, Any]]) -> bytes:
    """A little-endian TIFF with EXIF's directories, and a first page that has them, at its end.

    tifffile leaves these tags out. The tags of the page are the same, with two more.
    """
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    end = first + 2 + 12 * count
    tags = [bytes(data[at : at + 12]) for at in range(first + 2, end, 12)]
    out = bytearray(data)
    for tag, values in directories.items():
        out += b"\0" * (len(out) % 2)
        directory = PIL.TiffImagePlugin.ImageFileDirectory_v2(ifh=b"II*\0\0\0\0\0", group=tag)
        for name, value in values.items():
            directory[name] = value
        tags.append(struct.pack("<HHII", tag, _LONG, 1, len(out)))
        out += directory.tobytes(len(out))
    out += b"\0" * (len(out) % 2)
    struct.pack_into("<I", out, 4, len(out))
    tags.sort(key=lambda tag: int.from_bytes(tag[:2], "little"))
    out += struct.pack("<H", len(tags)) + b"".join(tags)
    out += data[end : end + 4]
    return bytes(out)
