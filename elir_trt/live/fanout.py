"""One stream into several sinks, none of which slows the others or the stream."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from elir_trt.errors import ElirError, MediaError
from elir_trt.formats import PixelFormat
from elir_trt.io.sink import Sink
from elir_trt.io.source import Frame
from elir_trt.live.frame import LiveFrame
from elir_trt.live.monitor import Monitor

if TYPE_CHECKING:
    from elir_trt.stream import Result

# Frames in a row that were all too late, after which somebody should be told.
_TOLD_LATE = 50
_ORDERS: tuple[PixelFormat, ...] = ("bgr24", "rgb24")


class LiveSink(Sink):
    """A sink that says how many frames may wait for it.

    Attributes:
        queue: frames that wait while it is busy; what comes on top makes the oldest go. 1: the newest alone.
    """

    queue: int = 1


class Fanout(Sink):
    """Hands each result to several sinks, each with a thread and a short queue of its own.

    A sink that is slow loses frames, one that fails is given up with a message, and the others go on; only when none
    is left the work ends with an error. It is done as soon as one of them is done: a window that was closed.
    """

    finish_on_interrupt = True

    def __init__(
        self,
        sinks: Mapping[str, Sink],
        *,
        max_age_ms: float | None = None,
        monitor: Monitor | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Start the threads.

        Args:
            sinks: by the names that messages give them; :class:`LiveSink` or any other.
            max_age_ms: results that are older are given up; None: none is too old.
            monitor: that counts; None: one of its own.
            say: called with a line when a sink fails.

        Raises:
            ValueError: there are no sinks, or they want frames in different formats.
        """
        formats = {sink.pixel_format for sink in sinks.values()}
        if not sinks:
            raise ValueError("sinks is empty; expected one or more")
        if len(formats) > 1 and not formats <= set(_ORDERS):
            raise ValueError(
                f"sinks want frames as {', '.join(sorted(formats))}; expected one format for all"
            )
        self.pixel_format = formats.pop() if len(formats) == 1 else "bgr24"
        self.monitor = monitor or Monitor()
        self._max_age_s = None if max_age_ms is None else max_age_ms / 1e3
        self._say = say
        self._late = 0
        self._branches = [
            _Branch(name, sink, self.pixel_format, self.monitor, say) for name, sink in sinks.items()
        ]

    @property
    def done(self) -> bool:  # type: ignore[override]
        """Whether one of the sinks wants no more."""
        return any(branch.sink.done for branch in self._branches if branch.error is None)

    def write(self, result: Result, frame: Frame) -> None:
        """Hand a result on; never waits.

        Raises:
            MediaError: every sink has failed.
        """
        age_s = frame.age_s() if isinstance(frame, LiveFrame) else result.latency_ms / 1e3
        if self._max_age_s is not None and age_s > self._max_age_s:
            self._give_up(result, age_s)
            return
        self._late = 0
        self.monitor.count_restored(result, age_s)
        captured_s = time.monotonic() - age_s
        for branch in self._branches:
            branch.offer(result, frame, captured_s)
        if all(branch.error is not None for branch in self._branches):
            errors = "; ".join(f"{branch.name}: {branch.error}" for branch in self._branches)
            raise MediaError(f"no output is left: {errors}")

    def _give_up(self, result: Result, age_s: float) -> None:
        self.monitor.count_drop("late")
        self._late += 1
        if self._late == _TOLD_LATE:
            self._say(
                f"{_TOLD_LATE} frames in a row were older than {self._max_age_s or 0:.3f} s and were not shown: "
                f"this one is {age_s:.3f} s old, and restoring it took {result.latency_ms / 1e3:.3f} s of it"
            )

    def close(self, *, complete: bool = True) -> None:
        """Let every sink write what waits for it, and finish.

        Raises:
            MediaError: a sink could not finish.
        """
        for branch in self._branches:
            branch.end(complete=complete)
        errors = [f"{branch.name}: {branch.error}" for branch in self._branches if branch.join() is not None]
        if errors:
            raise MediaError("; ".join(errors))

    def abort(self) -> None:
        """End all sinks without finishing."""
        for branch in self._branches:
            branch.end(complete=None)
        for branch in self._branches:
            branch.join()


class _Branch:
    """A sink with its thread and its queue.

    Attributes:
        error: why it was given up; None: it was not.
    """

    def __init__(
        self, name: str, sink: Sink, given: PixelFormat, monitor: Monitor, say: Callable[[str], None]
    ) -> None:
        self.name = name
        self.sink = sink
        self.error: Exception | None = None
        self._say = say
        self._reversed = sink.pixel_format != given
        self._counts = monitor.sink(name)
        self._limit = max(1, sink.queue) if isinstance(sink, LiveSink) else 1
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Result, Frame, float]] = deque()
        self._ending = False
        self._complete: bool | None = None
        self._thread = threading.Thread(target=self._run, name=f"elir-sink {name}", daemon=True)
        self._thread.start()

    def offer(self, result: Result, frame: Frame, captured_s: float) -> None:
        """Put a result into the queue; the oldest goes where it is full."""
        if self.error is not None:
            return
        with self._changed:
            if len(self._waiting) >= self._limit:
                self._waiting.popleft()
                self._counts.count_drop()
            self._waiting.append((result, frame, captured_s))
            self._changed.notify_all()

    def end(self, *, complete: bool | None) -> None:
        """Nothing follows. ``complete``: as of :meth:`Sink.close`; None: to be aborted."""
        with self._changed:
            self._ending, self._complete = True, complete
            if complete is None:
                self._waiting.clear()
            self._changed.notify_all()

    def join(self) -> Exception | None:
        """Wait for the end; gives what failed."""
        self._thread.join()
        return self.error

    def _run(self) -> None:
        try:
            while (item := self._next()) is not None:
                result, frame, captured_s = item
                if self._reversed:
                    result = replace(result, frame=np.ascontiguousarray(result.frame[:, :, ::-1]))
                self.sink.write(result, frame)
                self._counts.count_written(time.monotonic() - captured_s)
            if self._complete is None:
                self.sink.abort()
            else:
                self.sink.close(complete=self._complete)
        except Exception as error:
            self._fail(error)

    def _next(self) -> tuple[Result, Frame, float] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ending)
            return self._waiting.popleft() if self._waiting else None

    def _fail(self, error: Exception) -> None:
        self.error = error
        self._counts.error = str(error) or type(error).__name__
        with self._changed:
            self._waiting.clear()
        told = str(error) if isinstance(error, (ElirError, OSError)) else repr(error)
        self._say(f"{self.name}: this output is given up: {told}")
        try:
            self.sink.abort()
        except Exception as second:
            self._say(f"{self.name}: nor can it be ended: {second!r}")
