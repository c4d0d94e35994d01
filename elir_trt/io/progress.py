"""Progress of long work: the callback, and a bar for the terminal."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Protocol, TextIO

from elir_trt.extras import needs

if TYPE_CHECKING:
    from rich.console import Console


class ProgressCallback(Protocol):
    """Called after each frame or image."""

    def __call__(self, done: int, total: int | None, fps: float) -> None:
        """Args: done: finished so far; total: of how many, if known; fps: per second, on average so far."""


def after(progress: ProgressCallback, before: int, whole: int | None = None) -> ProgressCallback:
    """The progress of work of which so many were done before.

    Args:
        progress: of all of it.
        before: done already.
        whole: of how many all of it is; None: as it is told.
    """

    def shown(done: int, total: int | None, fps: float) -> None:
        progress(before + done, total if whole is None else max(whole, before + done), fps)

    return shown


class Rate:
    """Frames per second from the first to the latest, without the time before the first."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._first: float | None = None
        self.done = 0

    def step(self) -> float:
        """Count a frame; gives frames per second so far."""
        now = time.perf_counter()
        self.done += 1
        if self._first is None:
            self._first = now
            return self.done / max(now - self._start, 1e-9)
        return (self.done - 1) / max(now - self._first, 1e-9)

    @property
    def seconds(self) -> float:
        """Since the start, waiting for the first frame included."""
        return time.perf_counter() - self._start


class RichProgress:
    """A bar with frames per second and the time that is left; use it as a context manager and as a callback.

    Args:
        description: what is being done.
        console: where to draw; None: standard error, so that standard output stays clean.
        transient: remove the bar at the end.
    """

    def __init__(
        self, description: str = "Restoring", *, console: Console | None = None, transient: bool = False
    ) -> None:
        with needs("rich", extra="cli", what="a bar of progress"):
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[fps]}"),
            TimeElapsedColumn(),
            TextColumn("<"),
            TimeRemainingColumn(),
            console=console or Console(stderr=True),
            transient=transient,
        )
        self._task = self._progress.add_task(description, total=None, fps="")

    def __call__(self, done: int, total: int | None, fps: float) -> None:
        """Show that ``done`` of ``total`` are finished."""
        # A file may hold more frames than it says.
        total = max(total, done) if total is not None else None
        self._progress.update(self._task, completed=done, total=total, fps=f"{fps:.1f} fps")

    def __enter__(self) -> RichProgress:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()


class JsonProgress:
    """One line of JSON a second on a stream: done, total, frames per second, seconds left."""

    def __init__(self, file: TextIO, name: str = "") -> None:
        """Args: file: to write to; name: of what is being done."""
        self._file = file
        self._name = name
        self._next_s = 0.0
        self._last: tuple[int, int | None, float] | None = None

    def __call__(self, done: int, total: int | None, fps: float) -> None:
        """Say that ``done`` of ``total`` are finished, if a second has gone by."""
        self._last = (done, total, fps)
        now = time.monotonic()
        if now >= self._next_s:
            self._next_s = now + 1.0
            self._say()

    def _say(self) -> None:
        if self._last is None:
            return
        (done, total, fps), self._last = self._last, None
        left = None if total is None or fps <= 0 else round(max(0, total - done) / fps, 1)
        line = {"name": self._name, "done": done, "total": total, "fps": round(fps, 2), "seconds_left": left}
        print(json.dumps(line), file=self._file, flush=True)

    def __enter__(self) -> JsonProgress:
        return self

    def __exit__(self, *exception: object) -> None:
        self._say()


class NoProgress:
    """Says nothing: for ``--quiet``, and where nobody looks."""

    def __call__(self, done: int, total: int | None, fps: float) -> None:
        """Take note of nothing."""

    def __enter__(self) -> NoProgress:
        return self

    def __exit__(self, *exception: object) -> None: ...
