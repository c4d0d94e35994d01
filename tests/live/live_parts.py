"""A restorer that takes as long as a test wants, cameras and sinks that do what it wants, and waiting."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from elir_trt.errors import ElirError
from elir_trt.io import Frame, Sink, Source
from elir_trt.live import LiveFrame
from elir_trt.stream import Result


def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Wait until something is true, and fail if it does not come to be."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.01)


class SlowStream:
    """A stream with a ring of two that gives up the frame that waits: the real one's "oldest"."""

    def __init__(self, restorer: SlowRestorer, options: dict[str, Any]) -> None:
        assert options["drop"] == "oldest"
        self.restorer, self.options = restorer, options
        self.changed = threading.Condition()
        self.waiting: deque[tuple[int, Any, float | None, float]] = deque()
        self.done: deque[Any] = deque()
        self.count = 0
        self.busy = False
        self.closed = False
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def submit(self, frame: Any, timestamp: float | None = None, *, timeout: float | None = None) -> int:
        with self.changed:
            if len(self.waiting) >= self.options["depth"] - self.busy:
                self.waiting.popleft()
            self.waiting.append((self.count, frame, timestamp, time.monotonic()))
            self.count += 1
            self.changed.notify_all()
            return self.count - 1

    def _work(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting or self.closed)
                if not self.waiting:
                    return
                index, frame, timestamp, begun_s = self.waiting.popleft()
                self.busy = True
            time.sleep(self.restorer.seconds)
            if self.options["format"] != self.options["output_format"]:
                frame = frame[:, :, ::-1]
            found: Any = ElirError("broken") if self.restorer.broken else 255 - frame
            latency_ms = (time.monotonic() - begun_s) * 1e3
            stages = {"direct": 1.0, "total": 1.0}
            if not isinstance(found, ElirError):
                found = Result(found, index, timestamp, self.options["steps"] or 0, stages, latency_ms)
            else:
                found.index = index  # type: ignore[attr-defined]
            with self.changed:
                self.busy = False
                self.done.append(found)
                self.changed.notify_all()

    def result(self, timeout: float | None = None) -> Any:
        with self.changed:
            self.changed.wait_for(lambda: self.done or (self.closed and not self.waiting), timeout)
            if self.done:
                return self.done.popleft()
        if self.closed and not self.busy:
            raise EOFError
        raise TimeoutError

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify_all()


class SlowRestorer:
    """Inverts frames, each in so many seconds."""

    def __init__(self, seconds: float = 0.0, name: str = "slow", steps: int = 4) -> None:
        self.seconds, self.broken = seconds, False
        self.recipe = SimpleNamespace(steps=steps, default_steps=1, title=f"Restorer {name}", task=name)
        self.streams: list[SlowStream] = []
        self.closed = False

    def stream(self, **options: Any) -> SlowStream:
        self.streams.append(SlowStream(self, options))
        return self.streams[-1]

    def close(self) -> None:
        self.closed = True


class Clip(Source):
    """A camera that gives so many frames at a rate, and then does as told."""

    live = True

    def __init__(
        self,
        frames: int = 1_000_000,
        rate: float = 200.0,
        *,
        size: tuple[int, int] = (16, 32),
        then: str = "end",
        pixel_format: Any = "rgb24",
        late_s: float = 0.0,
    ) -> None:
        self.count, self.rate, self.size, self.then = frames, rate, size, then
        self.pixel_format = pixel_format
        self.late_s = late_s
        self.stopped = threading.Event()
        self.closed = False

    def __iter__(self) -> Iterator[Frame]:
        for number in range(self.count):
            if self.stopped.wait(1.0 / self.rate):
                return
            pixels = np.full((*self.size, 3), number % 256, np.uint8)
            yield LiveFrame(pixels, number / self.rate, captured_s=time.monotonic() - self.late_s)
        if self.then == "hang":
            time.sleep(3600)
        if self.then == "fail":
            raise OSError("the plug was pulled")

    def stop(self) -> None:
        self.stopped.set()

    def close(self) -> None:
        self.closed = True


class Kept(Sink):
    """Keeps what it gets, and how old it was; may be slow, stuck, or fail."""

    def __init__(self, seconds: float = 0.0, fail_at: int | None = None) -> None:
        self.seconds, self.fail_at = seconds, fail_at
        self.results: list[tuple[Any, Any]] = []
        self.ages: list[float] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.end = ""

    def write(self, result: Any, frame: Any) -> None:
        self.go_on.wait()
        time.sleep(self.seconds)
        if len(self.results) == self.fail_at:
            raise OSError(28, "No space left on device")
        self.ages.append(time.monotonic() - frame.captured_s)
        self.results.append((result, frame))

    def close(self, *, complete: bool = True) -> None:
        assert self.end == ""
        self.end = "closed" if complete else "finished early"

    def abort(self) -> None:
        assert self.end == ""
        self.end = "aborted"
