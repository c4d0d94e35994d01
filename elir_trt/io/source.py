"""Where frames come from: what a source is, whatever it reads."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elir_trt.closing import Closing
from elir_trt.errors import ElirError
from elir_trt.formats import Matrix, PixelFormat


@dataclass(frozen=True)
class Frame:
    """One frame of a source. Sources that know more of a frame give a child of this class.

    Attributes:
        pixels: an array in the source's ``pixel_format``, as :meth:`elir_trt.stream.Stream.submit` takes it.
        timestamp_s: when it is shown or was taken, in seconds; None if nobody knows.
        origin: where it came from, for messages and for sinks that name files after it.
    """

    pixels: Any
    timestamp_s: float | None = None
    origin: Path | str | None = None


@dataclass(frozen=True)
class Unreadable:
    """A frame that a source could not give, although it goes on: one broken file of a folder.

    Attributes:
        origin: where it should have come from.
        error: why it could not.
    """

    origin: Path | str
    error: ElirError


class Source(Closing):
    """Gives frames, in order. To read from a new place, derive from this and write ``__iter__``.

    A source is iterated over once, by :func:`elir_trt.io.pump`, in a thread of its own: reading may block. It is
    a context manager; whoever opened it closes it.

    Attributes:
        pixel_format: of its frames, a name of :data:`elir_trt.formats.FORMATS`.
        matrix, full_range: what the numbers of "nv12" and "gray" mean, see
            :meth:`elir_trt.restorer.Restorer.stream`.
        live: frames come when they come (a camera), and late ones are worth nothing.
        size: height and width of all frames; None: not known before they come, or not the same for all.
        frames: how many there are, or should be; None: nobody knows.
    """

    pixel_format: PixelFormat = "rgb24"
    matrix: Matrix = "bt709"
    full_range: bool = False
    live: bool = False
    size: tuple[int, int] | None = None
    frames: int | None = None

    @abstractmethod
    def __iter__(self) -> Iterator[Frame | Unreadable]:
        """Give the frames, and an :class:`Unreadable` in the place of each that failed alone.

        What it raises ends the work: nothing follows.
        """

    def stop(self) -> None:
        """No more frames are wanted. Comes from another thread than the one that iterates.

        Sources that may wait long for a frame see to it that the iteration ends soon.
        """

    def close(self) -> None:
        """Free what the source holds. The iteration is over by then."""
