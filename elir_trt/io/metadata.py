"""What an image file says beside its pixels, and what of it goes with the restored one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import PIL.Image

#: EXIF tags: of the orientation, of the directories that follow, and of the picture's size.
ORIENTATION, EXIF_DIRECTORY, GPS_DIRECTORY = 0x0112, 0x8769, 0x8825
_WIDTH, _HEIGHT = 0xA002, 0xA003
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:=[\"']|>))\s*[1-8]")


@dataclass(frozen=True)
class Metadata:
    """What is kept of a file.

    Attributes:
        icc: ICC profile that the pixels are in; None: the file names none.
        exif: EXIF block, as a TIFF without a name before it, with the orientation of an upright picture; GPS too.
        xmp: XMP packet, with that orientation.
        dpi: pixels per inch, across and down.
        text: PNG's text and other formats' comments, by keyword.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    text: Mapping[str, str] = field(default_factory=dict)

    def without_profile(self) -> Metadata:
        """For pixels that were converted to sRGB."""
        return replace(self, icc=None)

    @property
    def space(self) -> str:
        """What the profile describes: "RGB", "GRAY", "CMYK", "Lab", ...; empty: there is none."""
        return "" if self.icc is None else self.icc[16:20].decode("latin-1").strip()


def read_metadata(image: PIL.Image.Image, size: tuple[int, int] | None = None) -> tuple[Metadata, list[str]]:
    """What a file says, and notes of what of it cannot be read.

    Args:
        image: opened, decoded or not.
        size: height and width of the restored picture, for EXIF; None: those of the file.
    """
    notes: list[str] = []
    info = image.info
    exif: bytes | None = None
    try:
        tags = image.getexif()
        if len(tags):
            exif = _upright_exif(tags, size)
    except Exception as error:  # Pillow raises all kinds of errors for directories that are broken.
        notes.append(f"EXIF is left out: it is damaged ({error})")
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp")
    if isinstance(xmp, str):
        xmp = xmp.encode()
    icc = info.get("icc_profile") or None
    if icc is not None and (len(icc) < 128 or icc[36:40] != b"acsp"):
        notes.append("its ICC profile is left out: it is damaged")
        icc = None
    dpi = info.get("dpi")
    text = {
        str(key): str(value)
        for key, value in getattr(image, "text", {}).items()
        if key not in ("XML:com.adobe.xmp", "Raw profile type exif")
    }
    comment = info.get("comment")
    if isinstance(comment, bytes):
        comment = comment.rstrip(b"\0").decode("utf-8", errors="replace")
    if comment:
        text.setdefault("Comment", str(comment))
    found = Metadata(
        icc=icc,
        exif=exif,
        xmp=None if not xmp else _XMP_ORIENTATION.sub(rb"\g<1>1", xmp),
        dpi=None if not dpi or min(dpi) <= 0 else (float(dpi[0]), float(dpi[1])),
        text=text,
    )
    return found, notes


def _upright_exif(tags: PIL.Image.Exif, size: tuple[int, int] | None) -> bytes:
    """The block with the orientation of an upright picture, and its size where the block has one."""
    if ORIENTATION in tags:
        tags[ORIENTATION] = 1
    if size is not None:
        shot: dict[int, Any] = tags.get_ifd(EXIF_DIRECTORY)
        if _WIDTH in shot and _HEIGHT in shot:
            shot[_WIDTH], shot[_HEIGHT] = size[1], size[0]
    return bytes(tags.tobytes()).removeprefix(b"Exif\0\0")
