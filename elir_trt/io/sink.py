"""Where results go: what a sink is, whatever it writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from elir_trt.formats import PixelFormat
from elir_trt.io.source import Frame

if TYPE_CHECKING:
    from elir_trt.stream import Result
    from elir_trt.stream_state import StreamState


class Sink(ABC):
    """Takes results, in order. To write to a new place, derive from this and write ``write``.

    :func:`elir_trt.io.pump` calls it from the thread that called ``pump``, and ends it: with :meth:`close` when
    all is written, else with :meth:`abort`.

    Attributes:
        pixel_format: of the results that it wants, a name of :data:`elir_trt.formats.FORMATS`.
        finish_on_interrupt: when the work is stopped by Ctrl-C or SIGTERM, what is in flight is still to be
            written and ``close(complete=False)`` follows, so that what was done can be used: a video's
            container. False: :meth:`abort` follows at once.
        done: the sink wants no more frames: its window was closed, its reader has gone. Looked at after each
            frame.
    """

    pixel_format: PixelFormat = "rgb24"
    finish_on_interrupt: bool = False
    done: bool = False

    @abstractmethod
    def write(self, result: Result, frame: Frame) -> None:
        """Take a result.

        Args:
            result: with ``result.frame`` in the sink's ``pixel_format``.
            frame: of the source, that the result was made of.

        What it raises ends the work: a disk that is full is full for every further frame.
        """

    def wants_more(self) -> bool:
        """Whether, after Ctrl-C or SIGTERM, further frames are still to be restored: up to a place to stop at.

        Asked often, also between frames, and only with ``finish_on_interrupt``. False: what is in flight is the
        last.
        """
        return False

    def wants_state(self, frame: Frame) -> bool:
        """Whether the stream's state behind a frame is wanted, for work that goes on there another time.

        Asked once for each frame, before it is restored, from the thread that reads. The frames behind it wait.
        """
        return False

    def keep_state(self, state: StreamState) -> None:  # noqa: B027
        """Take the state behind the frame whose result is written next."""

    def close(self, *, complete: bool = True) -> None:  # noqa: B027  (nothing to finish is fine)
        """Finish what was written.

        Args:
            complete: all frames of the source were written; False: the work was stopped before the end.
        """

    def abort(self) -> None:  # noqa: B027
        """The work failed. Leave nothing behind that looks finished and is not."""
