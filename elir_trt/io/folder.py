"""Image files as a source and as a sink: one, some, or all of a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from elir_trt.errors import ElirError, MediaError
from elir_trt.io.compare import resized, side_by_side
from elir_trt.io.images import Pixels, read_image, read_pages, write_image
from elir_trt.io.metadata import Metadata
from elir_trt.io.paths import READABLE_IMAGES
from elir_trt.io.sink import Sink
from elir_trt.io.source import Frame, Source, Unreadable

if TYPE_CHECKING:
    from elir_trt.stream import Result


@dataclass(frozen=True, kw_only=True)
class ImageFrame(Frame):
    """An image, or one of its pages, as a frame; ``origin`` is its file.

    Attributes:
        alpha, notes, metadata, gray: see :class:`elir_trt.io.Image`.
        pages: that the file has, of which this is one.
    """

    alpha: Pixels | None
    notes: tuple[str, ...]
    metadata: Metadata = field(default_factory=Metadata)
    gray: bool = False
    pages: int = 1


def find_images(folder: Path, *, outside: Path | None = None, recursive: bool = True) -> list[Path]:
    """The images of a folder and of the folders in it, by their names, sorted.

    Args:
        folder: where to look.
        outside: a folder whose files are left out.
        recursive: also of the folders in it.

    Raises:
        MediaError: there are none.
    """
    left_out = None if outside is None else outside.resolve()
    found = [
        path
        for path in sorted(folder.rglob("*") if recursive else folder.iterdir())
        if path.suffix.lower() in READABLE_IMAGES
        and path.is_file()
        and left_out not in path.resolve().parents
    ]
    if not found:
        raise MediaError(f"{folder}: this folder holds no images; allowed: {', '.join(READABLE_IMAGES)}")
    return found


class ImageSource(Source):
    """Image files, one after the other. One that cannot be read fails alone."""

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        check: Callable[[Path], object] | None = None,
        deep: bool = False,
        paged: Callable[[Path], bool] = lambda path: False,
    ) -> None:
        """Take the files.

        Args:
            paths: the files.
            check: called with each before it is read; an ElirError fails that one alone.
            deep: they have 16 bits per channel, and so have the frames.
            paged: whether all pages of a file are wanted; else the first.
        """
        self._paths = paths
        self._check = check
        self._deep = deep
        self._paged = paged
        self.frames = len(paths)
        if deep:
            self.pixel_format = "rgb48le"

    def __iter__(self) -> Iterator[Frame | Unreadable]:
        for path in self._paths:
            try:
                if self._check is not None:
                    self._check(path)
                if self._paged(path):
                    images = read_pages(path, deep=self._deep)
                else:
                    images = [read_image(path, deep=self._deep)]
            except ElirError as error:
                yield Unreadable(path, error)
                continue
            for image in images:
                yield ImageFrame(
                    # A page may be less deep than the first.
                    image.rgb if not self._deep else _deepened(image.rgb),
                    origin=path,
                    alpha=image.alpha if not self._deep or image.alpha is None else _deepened(image.alpha),
                    notes=image.notes,
                    metadata=image.metadata,
                    gray=image.gray,
                    pages=len(images),
                )


def _deepened(pixels: Pixels) -> Pixels:
    return pixels if pixels.dtype == np.uint16 else pixels.astype(np.uint16) * np.uint16(257)


class ImageSink(Sink):
    """Writes the result of each file to one of its own; every file that is there is whole.

    Attributes:
        outputs: files that were written.
        notes: what was changed in the frames that they were made of, with the names of their files.
    """

    def __init__(self, target: Callable[[Frame], Path], *, compare: bool = False, deep: bool = False) -> None:
        """Args: target: the file for a frame; compare: write before and after side by side; deep: 16 bits."""
        self._target = target
        self._compare = compare
        self._pages: list[tuple[Pixels, Pixels | None]] = []
        self._first: Frame | None = None
        self.outputs: list[Path] = []
        self.notes: list[str] = []
        if deep:
            self.pixel_format = "rgb48le"

    def write(self, result: Result, frame: Frame) -> None:
        """Write an image, with what the frame's file says and its alpha if it has one; pages when all are there.

        Raises:
            MediaError: it cannot be written.
        """
        after: Pixels = result.frame
        alpha = frame.alpha if isinstance(frame, ImageFrame) else None
        if alpha is not None:
            alpha = resized(alpha, after.shape)
        if self._compare:
            after = side_by_side(frame.pixels, after)
            alpha = None if alpha is None else np.hstack([alpha, alpha])
        if self._first is None or self._first.origin != frame.origin:
            # What is left of a file of which a page failed is not written.
            self._first, self._pages = frame, []
        self._pages.append((after, alpha))
        if isinstance(frame, ImageFrame):
            notes = [f"{frame.origin}: {note}" for note in frame.notes]
            self.notes += [note for note in notes if note not in self.notes]
            if len(self._pages) < frame.pages:
                return
        self._write(frame)

    def _write(self, frame: Frame) -> None:
        target = self._target(frame)
        first = self._first
        lost = write_image(
            target,
            [page for page, _ in self._pages],
            [alpha for _, alpha in self._pages],
            metadata=first.metadata if isinstance(first, ImageFrame) else None,
            gray=isinstance(first, ImageFrame) and first.gray,
        )
        self._first, self._pages = None, []
        self.outputs.append(target)
        self.notes += [f"{frame.origin}: {note}" for note in lost]
