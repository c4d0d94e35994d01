"""Which files are read and written, by their names; opens nothing but to see what it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from elir_trt.errors import MediaError
from elir_trt.io.headers import image_format

WRITABLE_IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
"""Extensions that :func:`elir_trt.io.write_image` takes."""

READABLE_IMAGES = (*WRITABLE_IMAGES, ".gif", ".apng", ".avif", ".heic", ".heif", ".jxl")
"""Extensions of the formats that :func:`elir_trt.io.read_image` reads; it goes by content, not by name."""

WRITABLE_VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
"""Extensions that :class:`elir_trt.io.VideoWriter` takes."""

WRITABLE_ANIMATIONS = (".gif", ".png", ".apng", ".webp")
"""Extensions that frames with times are written to as an animated image."""


def media_kind(path: Path) -> Literal["folder", "image", "video"]:
    """What a path holds: by its first bytes, and by its name where they say nothing.

    Raises:
        MediaError: there is nothing, or it cannot be read.
    """
    if path.is_dir():
        return "folder"
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except FileNotFoundError:
        raise MediaError(f"{path}: there is no such file or folder") from None
    except OSError as error:
        raise MediaError(f"{path}: cannot be read: {error.strerror or error}") from None
    return "image" if image_format(start) or path.suffix.lower() in READABLE_IMAGES else "video"


def image_name(source: Path) -> str:
    """The name of an image that is made of ``source``: its own, where that can be written."""
    return source.name if source.suffix.lower() in WRITABLE_IMAGES else f"{source.stem}.png"


def video_name(source: Path) -> str:
    """The name of a video that is made of ``source``: its own, where that can be written."""
    return source.name if source.suffix.lower() in WRITABLE_VIDEOS else f"{source.stem}.mp4"


def check_writable(
    path: str | os.PathLike[str],
    kind: Literal["image", "video", "animation"],
    *,
    overwrite: bool = False,
    source: str | os.PathLike[str] | None = None,
) -> Path:
    """The path, if its name allows to write there; the folder's rights show when it is tried.

    Args:
        path: of the output.
        kind: of the output: it decides which extensions are allowed.
        overwrite: whether an existing file may be replaced.
        source: the input, which is never replaced.

    Raises:
        MediaError: unknown extension, no such folder, a folder of that name, the input itself, or an existing
            file.
    """
    path = Path(path)
    allowed = {"image": WRITABLE_IMAGES, "video": WRITABLE_VIDEOS, "animation": WRITABLE_ANIMATIONS}[kind]
    if path.suffix.lower() not in allowed:
        seen = f"extension {path.suffix!r}" if path.suffix else "no extension"
        article = "a" if kind == "video" else "an"
        raise MediaError(f"{path}: {seen}; allowed for {article} {kind}: {', '.join(allowed)}")
    if path.is_dir():
        raise MediaError(f"{path}: this is a folder; expected a file name")
    if not path.parent.is_dir():
        raise MediaError(f"{path}: there is no folder {path.parent}; make it first")
    if path.exists():
        if source is not None and os.path.samefile(path, source):
            raise MediaError(f"{path}: input and output are the same file; give another output")
        if not overwrite:
            raise MediaError(f"{path}: exists already; give another name, or --overwrite to replace it")
    return path
