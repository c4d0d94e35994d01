"""Reading and writing image files."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elir_trt.errors import ElirWarning, MediaError
from elir_trt.extras import needs
from elir_trt.files import write_whole
from elir_trt.io import jpeg
from elir_trt.io.headers import Damaged, Header, looks_like, read_header
from elir_trt.io.paths import check_writable

with needs("cv2", extra="image", what="reading and writing images"):
    import cv2

PIXEL_LIMIT = 178_956_970
"""More pixels than this are refused before decoding; where Pillow refuses too."""

_OPTIONS: dict[str, list[int]] = {
    ".jpg": [
        cv2.IMWRITE_JPEG_QUALITY,
        95,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ],
    ".webp": [cv2.IMWRITE_WEBP_QUALITY, 101],  # over 100: lossless
}
_OPTIONS[".jpeg"] = _OPTIONS[".jpg"]


@dataclass(frozen=True)
class Image:
    """A picture, upright.

    Attributes:
        rgb: ``[H, W, 3]`` uint8.
        alpha: ``[H, W]`` uint8, straight (not premultiplied into rgb), or None if the file has none.
        notes: what was changed on the way, such as "16 bits per channel reduced to 8".
        path: where it was read.
    """

    rgb: npt.NDArray[np.uint8]
    alpha: npt.NDArray[np.uint8] | None
    notes: tuple[str, ...]
    path: Path


def read_image(path: str | os.PathLike[str], *, pixel_limit: int = PIXEL_LIMIT) -> Image:
    """Read a JPEG, PNG, WebP, TIFF, BMP or GIF file; the content decides, not the extension.

    The orientation that a camera noted is applied. Of an animation or several pages the first is read. Grey,
    palettes and CMYK become RGB, colour profiles are not applied. 16 bits and float in [0, 1] become 8.

    Args:
        path: the file.
        pixel_limit: larger pictures are refused, before anything is decoded.

    Raises:
        MediaError: there is no such file, it is no image, it is damaged, too large, or has values that cannot
            be shown. A damaged file is an error even where decoders would return part of a picture.
    """
    path = Path(path)
    data = _read_bytes(path)
    try:
        header = read_header(data)
        if header is None:
            raise MediaError(
                f"{path}: this is not an image that can be read: {looks_like(data)}; "
                "allowed: JPEG, PNG, WebP, TIFF, BMP, GIF"
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

    array = _decode(path, data, header)
    notes: list[str] = []
    if header.frames > 1:
        several = "pages" if header.format == "TIFF" else "frames"
        notes.append(f"{'pages' if several == 'pages' else 'animation'}: first of {header.frames} {several}")
    pixels = _to_8_bits(path, array, notes)
    rgb, alpha = _to_rgb(path, pixels)
    # TIFF is turned upright by OpenCV's decoder itself.
    if header.orientation != 1 and header.format != "TIFF":
        rgb = _upright(rgb, header.orientation)
        alpha = None if alpha is None else _upright(alpha, header.orientation)
        notes.append(f"turned upright (orientation {header.orientation})")
    return Image(rgb, alpha, tuple(notes), path)


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


def _decode(path: Path, data: bytes, header: Header) -> npt.NDArray[Any]:
    try:
        with _quiet_opencv():
            # UNCHANGED keeps 16 bits, float and alpha, and leaves the orientation to us.
            array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise MediaError(f"{path}: this {header.format} image cannot be decoded: {error.err}") from None
    if array is None:
        raise MediaError(
            f"{path}: this {header.format} image cannot be decoded: it is damaged, "
            "or of a kind that OpenCV does not know"
        )
    return np.asarray(array)


@contextlib.contextmanager
def _quiet_opencv() -> Iterator[None]:
    """OpenCV prints lines of its own before it fails; the one error is ours to give."""
    logging = cv2.utils.logging
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(level)


def _to_8_bits(path: Path, array: npt.NDArray[Any], notes: list[str]) -> npt.NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array.astype(np.uint8, copy=False)
    if array.dtype == np.uint16:
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
        notes.append("float in [0, 1] reduced to 8 bits")
        return np.asarray(np.rint(array * 255), dtype=np.uint8)
    raise MediaError(
        f"{path}: its values are {array.dtype}; allowed: 8 or 16 bits without sign, float in 0 to 1"
    )


def _to_rgb(
    path: Path, pixels: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]:
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    channels = pixels.shape[2]
    if channels not in (1, 2, 3, 4):
        raise MediaError(f"{path}: it has {channels} channels; allowed: 1 to 4")
    colour = pixels[:, :, :1].repeat(3, axis=2) if channels <= 2 else pixels[:, :, 2::-1]
    alpha = np.ascontiguousarray(pixels[:, :, -1]) if channels in (2, 4) else None
    return np.ascontiguousarray(colour), alpha


def _upright(array: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Undo an EXIF orientation, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def write_image(
    path: str | os.PathLike[str],
    rgb: npt.NDArray[np.uint8],
    alpha: npt.NDArray[np.uint8] | None = None,
) -> None:
    """Write an image; the extension decides the format. An existing file is replaced in one step.

    PNG, TIFF, BMP and WebP are lossless; JPEG has quality 95 and full colour resolution. JPEG and BMP hold no
    alpha: it is left out, with an ElirWarning.

    Args:
        path: ending in .png, .jpg, .jpeg, .webp, .tif, .tiff or .bmp.
        rgb: ``[H, W, 3]`` uint8.
        alpha: ``[H, W]`` uint8 or None.

    Raises:
        MediaError: another extension, a size that the format does not allow, or the disk refuses.
        ValueError: the arrays are not as described.
    """
    path = check_writable(path, "image", overwrite=True)
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise ValueError(f"rgb is {rgb.dtype} {rgb.shape}; expected uint8 [H, W, 3]")
    bgr = rgb[:, :, ::-1]
    suffix = path.suffix.lower()
    if alpha is not None:
        if alpha.dtype != np.uint8 or alpha.shape != rgb.shape[:2]:
            raise ValueError(f"alpha is {alpha.dtype} {alpha.shape}; expected uint8 {rgb.shape[:2]}")
        if suffix in (".jpg", ".jpeg", ".bmp"):
            message = f"{path}: {suffix} holds no transparency; it was left out (use .png to keep it)"
            warnings.warn(message, ElirWarning, stacklevel=2)
        else:
            bgr = np.dstack([bgr, alpha])
    try:
        with _quiet_opencv():
            done, encoded = cv2.imencode(suffix, np.ascontiguousarray(bgr), _OPTIONS.get(suffix, []))
    except cv2.error:
        done = False
    if not done:
        raise MediaError(f"{path}: {suffix} cannot hold {rgb.shape[1]}x{rgb.shape[0]}; .png can")
    try:
        write_whole(path, encoded.tobytes())
    except OSError as error:
        raise MediaError(f"{path}: cannot be written: {error.strerror or error}") from None
