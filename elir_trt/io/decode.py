"""Decoding the pixels of image files, every page of them, at the depth that they have.

OpenCV decodes what holds 16 bits and float. Pillow decodes what has another colour space, by its profile, and the
formats that plugins bring.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elir_trt.errors import MediaError
from elir_trt.extras import needs
from elir_trt.io.metadata import Metadata

with needs("cv2", extra="image", what="reading and writing images"):
    import cv2
with needs("PIL", extra="image", what="reading and writing images"):
    import PIL.Image
    import PIL.ImageCms
    import PIL.ImageOps

#: Formats that Pillow reads if built with them, or by a plugin: its own name, the plugin's module and package.
_BY_PILLOW = {
    "AVIF": ("AVIF", "", "a Pillow with AVIF (11.3 or newer)"),
    "HEIC": ("HEIF", "pillow_heif", "pillow-heif"),
    "JPEG XL": ("JXL", "pillow_jxl", "pillow-jxl-plugin"),
}


def decoded_by_pillow(format: str) -> bool:
    """Whether a format is one that Pillow or its plugins decode here."""
    return format in _BY_PILLOW


def prepare_pillow(path: Path, format: str) -> None:
    """Load the plugin that a format needs.

    Raises:
        MediaError: it is not installed, or Pillow was built without the format.
    """
    name, module, package = _BY_PILLOW[format]
    if module and importlib.util.find_spec(module) is not None:
        plugin = importlib.import_module(module)
        if module == "pillow_heif":
            plugin.register_heif_opener()
    PIL.Image.init()
    if name not in PIL.Image.OPEN:
        raise MediaError(
            f"{path}: {format} is not read here: install {package}; "
            "allowed without it: JPEG, PNG, WebP, TIFF, BMP, GIF"
        )


@contextlib.contextmanager
def opened(path: Path, data: bytes, what: str) -> Iterator[PIL.Image.Image]:
    """The file as Pillow opens it; the size was looked at before.

    Raises:
        MediaError: Pillow cannot open or decode it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = PIL.Image.open(io.BytesIO(data))
        with image:
            yield image
    except MediaError:
        raise
    except Exception as error:  # Decoders raise all kinds of errors for broken files.
        raise MediaError(f"{path}: this {what} image cannot be decoded: it is damaged ({error})") from None


def by_opencv(path: Path, data: bytes, format: str, pages: int) -> list[npt.NDArray[Any]]:
    """Every page as OpenCV has it: blue first, 8 or 16 bits or float, alpha last.

    Raises:
        MediaError: it cannot be decoded.
    """
    buffer = np.frombuffer(data, np.uint8)
    try:
        with quiet_opencv():
            # UNCHANGED keeps 16 bits, float and alpha, and leaves the orientation to us.
            if pages > 1:
                done, found = cv2.imdecodemulti(buffer, cv2.IMREAD_UNCHANGED)
                arrays = list(found) if done else []
            else:
                array = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
                arrays = [] if array is None else [array]
    except cv2.error as error:
        raise MediaError(f"{path}: this {format} image cannot be decoded: {error.err}") from None
    if not arrays:
        raise MediaError(
            f"{path}: this {format} image cannot be decoded: it is damaged, "
            "or of a kind that OpenCV does not know"
        )
    return [np.asarray(array) for array in arrays]


def by_pillow(
    path: Path, image: PIL.Image.Image, metadata: Metadata
) -> tuple[npt.NDArray[np.uint8], Metadata, list[str]]:
    """A picture, upright, as ``[H, W, 3]`` or ``[H, W, 4]``, its metadata, and notes of what was converted.

    CMYK and Lab become sRGB by their profile; without one Lab is D50's, and CMYK is converted as Pillow does.

    Raises:
        MediaError: Pillow knows no way from its colours to RGB.
    """
    notes: list[str] = []
    image = PIL.ImageOps.exif_transpose(image)
    if image.mode in ("CMYK", "LAB"):
        image = _to_srgb(path, image, metadata, notes)
        metadata = metadata.without_profile()
    has_alpha = image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info
    return np.asarray(image.convert("RGBA" if has_alpha else "RGB")), metadata, notes


def _to_srgb(path: Path, image: PIL.Image.Image, metadata: Metadata, notes: list[str]) -> PIL.Image.Image:
    name = "Lab" if image.mode == "LAB" else "CMYK"
    own: Any = PIL.ImageCms.createProfile("LAB") if image.mode == "LAB" else None
    if metadata.icc is not None and metadata.space == name:
        own = PIL.ImageCms.ImageCmsProfile(io.BytesIO(metadata.icc))
    if own is None:
        notes.append("CMYK without a profile converted to RGB")
        return image.convert("RGB")
    try:
        converted = PIL.ImageCms.profileToProfile(
            image,
            own,
            PIL.ImageCms.createProfile("sRGB"),
            renderingIntent=PIL.ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
        )
    except PIL.ImageCms.PyCMSError as error:
        raise MediaError(f"{path}: its {name} cannot be converted by its profile: {error}") from None
    assert converted is not None
    notes.append(f"{name} converted to sRGB by {'its' if metadata.icc else 'a standard'} profile")
    return converted


@contextlib.contextmanager
def quiet_opencv() -> Iterator[None]:
    """OpenCV prints lines of its own before it fails; the one error is ours to give."""
    logging = cv2.utils.logging
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(level)
