"""Image files as a source and as a sink: one, some, or all of a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from elir_trt.errors import ElirError, MediaError
from elir_trt.io.compare import resized, side_by_side
from elir_trt.io.images import read_image, write_image
from elir_trt.io.paths import READABLE_IMAGES
from elir_trt.io.sink import Sink
from elir_trt.io.source import Frame, Source, Unreadable

if TYPE_CHECKING:
    from elir_trt.stream import Result

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class ImageFrame(Frame):
    """An image as a frame; ``origin`` is its file.

    Attributes:
        alpha: ``[H, W]`` uint8, or None.
        notes: what was changed on the way, see :class:`elir_trt.io.Image`.
    """

    alpha: Pixels | None
    notes: tuple[str, ...]


def find_images(folder: Path, *, outside: Path | None = None) -> list[Path]:
    """The images of a folder and of the folders in it, by their names, sorted.

    Args:
        folder: where to look.
        outside: a folder whose files are left out.

    Raises:
        MediaError: there are none.
    """
    left_out = None if outside is None else outside.resolve()
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in READABLE_IMAGES
        and path.is_file()
        and left_out not in path.resolve().parents
    ]
    if not found:
        raise MediaError(f"{folder}: this folder holds no images; allowed: {', '.join(READABLE_IMAGES)}")
    return found


class ImageSource(Source):
    """Image files, one after the other. One that cannot be read fails alone."""

    def __init__(self, paths: Sequence[Path], *, check: Callable[[Path], object] | None = None) -> None:
        """Args: paths: the files; check: called with each before it is read; an ElirError fails that one alone."""
        self._paths = paths
        self._check = check
        self.frames = len(paths)

    def __iter__(self) -> Iterator[Frame | Unreadable]:
        for path in self._paths:
            try:
                if self._check is not None:
                    self._check(path)
                image = read_image(path)
            except ElirError as error:
                yield Unreadable(path, error)
            else:
                yield ImageFrame(image.rgb, origin=path, alpha=image.alpha, notes=image.notes)


class ImageSink(Sink):
    """Writes each result to a file of its own; every file that is there is whole.

    Attributes:
        outputs: files that were written.
        notes: what was changed in the frames that they were made of, with the names of their files.
    """

    def __init__(self, target: Callable[[Frame], Path], *, compare: bool = False) -> None:
        """Args: target: the file for a frame; compare: write before and after side by side."""
        self._target = target
        self._compare = compare
        self.outputs: list[Path] = []
        self.notes: list[str] = []

    def write(self, result: Result, frame: Frame) -> None:
        """Write an image, with the frame's alpha if it has one.

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
        target = self._target(frame)
        write_image(target, after, alpha)
        self.outputs.append(target)
        if isinstance(frame, ImageFrame):
            self.notes += [f"{frame.origin}: {note}" for note in frame.notes]
