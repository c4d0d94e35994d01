"""Reading and writing image files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elir_trt.errors import ElirWarning, MediaError
from elir_trt.files import write_whole
from elir_trt.io import jpeg
from elir_trt.io.decode import by_opencv, by_pillow, decoded_by_pillow, opened, prepare_pillow
from elir_trt.io.encode import DEEP, OPAQUE, PAGED, CannotHold, encode
from elir_trt.io.headers import Damaged, Header, image_format, looks_like, read_header
from elir_trt.io.metadata import Metadata, read_metadata
from elir_trt.io.paths import check_writable

PIXEL_LIMIT = 178_956_970
"""More pixels than this are refused before decoding; where Pillow refuses too."""

# Of 8 or 16 bits.
Pixels = npt.NDArray[Any]


@dataclass(frozen=True)
class Image:
    """A picture, upright.

    Attributes:
        rgb: ``[H, W, 3]`` uint8, or uint16 where that was asked for and the file has more than 8 bits.
        alpha: ``[H, W]`` as deep as rgb, straight (not premultiplied into rgb), or None if the file has none.
        notes: what was changed on the way, such as "16 bits per channel reduced to 8".
        path: where it was read.
        metadata: what the file says beside its pixels, as it is true for the upright picture.
        gray: the file has one colour channel.
    """

    rgb: Pixels
    alpha: Pixels | None
    notes: tuple[str, ...]
    path: Path
    metadata: Metadata = field(default_factory=Metadata)
    gray: bool = False


def read_image(path: str | os.PathLike[str], *, pixel_limit: int = PIXEL_LIMIT, deep: bool = False) -> Image:
    """Read a JPEG, PNG, WebP, TIFF, BMP, GIF or AVIF file, HEIC and JPEG XL where Pillow's plugins are installed.

    The content decides, not the extension. The orientation that a camera noted is applied. Of an animation or
    several pages the first is read. Pixels stay in the space of the file's ICC profile; CMYK and Lab become sRGB by
    theirs. Grey and palettes become RGB. Float in [0, 1] becomes 8 or 16 bits.

    Args:
        path: the file.
        pixel_limit: larger pictures are refused, before anything is decoded.
        deep: give more than 8 bits as uint16; else they become 8.

    Raises:
        MediaError: there is no such file, it is no image, it is damaged, too large, or has values that cannot
            be shown. A damaged file is an error even where decoders would return part of a picture.
    """
    path = Path(path)
    data, header = checked(path, pixel_limit)
    page = _pages(path, data, header, deep=deep, all_pages=False)[0]
    if header.frames < 2:
        return page
    several = "pages" if header.format == "TIFF" else "frames"
    note = f"{'pages' if several == 'pages' else 'animation'}: first of {header.frames} {several}"
    return Image(page.rgb, page.alpha, (note, *page.notes), path, page.metadata, page.gray)


def read_pages(path: str | os.PathLike[str], *, deep: bool = False) -> list[Image]:
    """Read every page of a TIFF file, and of other files the first picture; see :func:`read_image`."""
    path = Path(path)
    data, header = checked(path, PIXEL_LIMIT)
    if header.format == "TIFF" and header.frames > 1:
        return _pages(path, data, header, deep=deep, all_pages=True)
    return [read_image(path, deep=deep)]


def image_depth(path: Path) -> int:
    """Bits per channel that a file states: 8, or 16 for all that has more; 8 where it cannot be read."""
    try:
        with open(path, "rb") as file:
            data = file.read(64)
            format = image_format(data[:16])
            if format == "TIFF":
                data += file.read()
            header = read_header(data, complete=False) if format in ("PNG", "TIFF") else None
    except (OSError, Damaged):
        return 8
    return 8 if header is None or header.bits <= 8 else 16


def checked(path: Path, pixel_limit: int) -> tuple[bytes, Header]:
    """The contents of an image file whose structure was looked at, and its header.

    Raises:
        MediaError: as :func:`read_image` does.
    """
    data = _read_bytes(path)
    try:
        header = read_header(data) or _header_by_pillow(path, data)
        if header is None:
            raise MediaError(
                f"{path}: this is not an image that can be read: {looks_like(data)}; "
                "allowed: JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF, HEIC, JPEG XL"
            )
        if header.width * header.height > pixel_limit:
            raise MediaError(
                f"{path}: {header.width}x{header.height} is {header.width * header.height} pixels; "
                f"at most {pixel_limit} are allowed"
            )
        if header.format == "JPEG":
            jpeg.check_codes(data)
    except (Damaged, jpeg.BadJpeg) as error:
        raise MediaError(f"{path}: this image is damaged: {error}") from None
    return data, header


def _header_by_pillow(path: Path, data: bytes) -> Header | None:
    format = image_format(data[:16])
    if format is None or not decoded_by_pillow(format):
        return None
    prepare_pillow(path, format)
    with opened(path, data, format) as image:
        return Header(format, image.width, image.height, getattr(image, "n_frames", 1), bits=_bits(data))


def _bits(data: bytes) -> int:
    """Bits per channel that AVIF and HEIC state, in the records that configure their decoders; else 8."""
    at = data.find(b"av1C")
    if 0 <= at < len(data) - 7:
        return 12 if data[at + 6] & 0x20 else 10 if data[at + 6] & 0x40 else 8
    at = data.find(b"hvcC")
    return 8 + (data[at + 21] & 7) if 0 <= at < len(data) - 22 else 8


def _read_bytes(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise MediaError(f"{path}: this is a folder; expected an image file")
        if path.exists() and not path.is_file():
            raise MediaError(f"{path}: this is not a regular file; expected an image file")
        return path.read_bytes()
    except FileNotFoundError:
        raise MediaError(f"{path}: there is no such file") from None
    except OSError as error:
        raise MediaError(f"{path}: cannot be read: {error.strerror or error}") from None


def _pages(path: Path, data: bytes, header: Header, *, deep: bool, all_pages: bool) -> list[Image]:
    by_plugin = decoded_by_pillow(header.format)
    metadata, notes, mode = Metadata(), list[str](), ""
    try:
        with opened(path, data, header.format) as image:
            metadata, notes = read_metadata(image)
            mode = image.mode
            if by_plugin or mode in ("CMYK", "LAB"):
                pixels, metadata, converted = by_pillow(path, image, metadata)
                if header.bits > 8:
                    converted.append(f"{header.bits} bits per channel reduced to 8")
                rgb = np.ascontiguousarray(pixels[:, :, :3])
                alpha = np.ascontiguousarray(pixels[:, :, 3]) if pixels.shape[2] == 4 else None
                return [Image(rgb, alpha, (*notes, *converted), path, metadata)]
    except MediaError:
        # Pillow does not know all that OpenCV decodes, such as float in three channels: no metadata then.
        if by_plugin:
            raise
    arrays = by_opencv(path, data, header.format, header.frames if all_pages else 1)
    found = []
    for array in arrays:
        own = list(notes)
        pixels = _to_integers(path, array, deep, own)
        gray = pixels.ndim == 2 or pixels.shape[2] <= 2
        rgb, alpha = _to_rgb(path, pixels)
        # TIFF is turned upright by OpenCV's decoder itself.
        if header.orientation != 1 and header.format != "TIFF":
            rgb = _upright(rgb, header.orientation)
            alpha = None if alpha is None else _upright(alpha, header.orientation)
            own.append(f"turned upright (orientation {header.orientation})")
        found.append(Image(rgb, alpha, tuple(own), path, _fitting(metadata, gray, mode, own), gray))
    return found


def _fitting(metadata: Metadata, gray: bool, mode: str, notes: list[str]) -> Metadata:
    """Metadata without a profile that is of other colours than the pixels are."""
    if metadata.icc is None or metadata.space == ("GRAY" if gray else "RGB"):
        return metadata
    # RGB's profile of a grey picture is that of its three equal channels.
    return metadata if gray and metadata.space == "RGB" else metadata.without_profile()


def _to_integers(path: Path, array: npt.NDArray[Any], deep: bool, notes: list[str]) -> Pixels:
    if array.dtype == np.uint8:
        return array.astype(np.uint8, copy=False)
    if array.dtype == np.uint16:
        if deep:
            return array.astype(np.uint16, copy=False)
        notes.append("16 bits per channel reduced to 8")
        # 65535 / 255 is 257: exact for what 8-bit files become when they are stored with 16.
        return np.asarray((array.astype(np.uint32) + 128) // 257, dtype=np.uint8)
    if array.dtype in (np.float32, np.float64):
        bad = array.size - int(np.count_nonzero(np.isfinite(array)))
        if bad:
            raise MediaError(
                f"{path}: {bad} of {array.size} values are not finite; expected values from 0 to 1"
            )
        low, high = float(array.min()), float(array.max())
        if low < 0 or high > 1:
            raise MediaError(f"{path}: values go from {low:g} to {high:g}; float images must lie in 0 to 1")
        notes.append(f"float in [0, 1] reduced to {16 if deep else 8} bits")
        if deep:
            return np.asarray(np.rint(array * 65535), dtype=np.uint16)
        return np.asarray(np.rint(array * 255), dtype=np.uint8)
    raise MediaError(
        f"{path}: its values are {array.dtype}; allowed: 8 or 16 bits without sign, float in 0 to 1"
    )


def _to_rgb(path: Path, pixels: Pixels) -> tuple[Pixels, Pixels | None]:
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    channels = pixels.shape[2]
    if channels not in (1, 2, 3, 4):
        raise MediaError(f"{path}: it has {channels} channels; allowed: 1 to 4")
    colour = pixels[:, :, :1].repeat(3, axis=2) if channels <= 2 else pixels[:, :, 2::-1]
    alpha = np.ascontiguousarray(pixels[:, :, -1]) if channels in (2, 4) else None
    return np.ascontiguousarray(colour), alpha


def _upright(array: Any, orientation: int) -> Any:
    """Undo an EXIF orientation, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def to_gray(rgb: Pixels) -> Pixels:
    """One channel of three that are nearly equal: their mean, ``[H, W]``."""
    return np.asarray(np.rint(rgb.mean(axis=2)), dtype=rgb.dtype)


def write_image(
    path: str | os.PathLike[str],
    rgb: Pixels | Sequence[Pixels],
    alpha: Pixels | Sequence[Pixels | None] | None = None,
    *,
    metadata: Metadata | None = None,
    gray: bool = False,
) -> list[str]:
    """Write an image; the extension decides the format. An existing file is replaced in one step.

    PNG, TIFF, BMP and WebP are lossless; JPEG has quality 95 and full colour resolution. JPEG and BMP hold no
    alpha: it is left out, with an ElirWarning. PNG and TIFF hold 16 bits, TIFF several pages.

    Args:
        path: ending in .png, .jpg, .jpeg, .webp, .tif, .tiff or .bmp.
        rgb: ``[H, W, 3]`` uint8 or uint16, or a list of such pages.
        alpha: ``[H, W]`` of the same type, or None; for pages a list of them.
        metadata: what the file is to say beside its pixels, see :func:`read_image`.
        gray: write one colour channel, where there is no alpha.

    Returns:
        Notes of what the format has no place for, such as "EXIF is not kept in a .bmp file".

    Raises:
        MediaError: another extension, a size that the format does not allow, or the disk refuses.
        ValueError: the arrays are not as described.
    """
    path = check_writable(path, "image", overwrite=True)
    suffix = path.suffix.lower()
    pages = [rgb] if isinstance(rgb, np.ndarray) else list(rgb)
    alphas = [alpha] if alpha is None or isinstance(alpha, np.ndarray) else list(alpha)
    alphas += [None] * (len(pages) - len(alphas))
    notes: list[str] = []
    if len(pages) > 1 and suffix not in PAGED:
        notes.append(f"{suffix} holds the first of {len(pages)} pages")
        pages, alphas = pages[:1], alphas[:1]
    encoded: bytes
    whole = [_packed(path, page, own, gray, suffix, notes) for page, own in zip(pages, alphas, strict=True)]
    try:
        encoded, lost = encode(suffix, whole, metadata or Metadata())
    except CannotHold:
        height, width = whole[0].shape[:2]
        raise MediaError(f"{path}: {suffix} cannot hold {width}x{height}; .png can") from None
    try:
        write_whole(path, encoded)
    except OSError as error:
        raise MediaError(f"{path}: cannot be written: {error.strerror or error}") from None
    return notes + lost


def _packed(
    path: Path, rgb: Pixels, alpha: Pixels | None, gray: bool, suffix: str, notes: list[str]
) -> Pixels:
    """A page as the format takes it."""
    if rgb.dtype not in (np.uint8, np.uint16) or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise ValueError(f"rgb is {rgb.dtype} {rgb.shape}; expected uint8 or uint16 [H, W, 3]")
    if alpha is not None and (alpha.dtype != rgb.dtype or alpha.shape != rgb.shape[:2]):
        raise ValueError(f"alpha is {alpha.dtype} {alpha.shape}; expected {rgb.dtype} {rgb.shape[:2]}")
    if alpha is not None and suffix in OPAQUE:
        message = f"{path}: {suffix} holds no transparency; it was left out (use .png to keep it)"
        warnings.warn(message, ElirWarning, stacklevel=3)
        alpha = None
    page: Any = to_gray(rgb) if gray and alpha is None else rgb
    if alpha is not None:
        page = np.dstack([rgb, alpha])
    if page.dtype == np.uint16 and suffix not in DEEP:
        notes.append(f"16 bits per channel reduced to 8: {suffix} holds no more")
        page = ((page.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.ascontiguousarray(page)
