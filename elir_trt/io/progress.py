"""Progress of long work: the callback, and a bar for the terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from elir_trt.extras import needs

if TYPE_CHECKING:
    from rich.console import Console


class ProgressCallback(Protocol):
    """Called after each frame or image."""

    def __call__(self, done: int, total: int | None, fps: float) -> None:
        """Args: done: finished so far; total: of how many, if known; fps: per second, on average so far."""


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
