"""The pump: frames of a source through a restorer to a sink. The one loop that keeps a stream busy.

A thread reads the source and submits, the caller's thread collects and writes; the stream restores meanwhile. So
reading, restoring and writing overlap, and frames stay in order.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from elir_trt.errors import ElirError, FrameError
from elir_trt.formats import Matrix, PixelFormat
from elir_trt.io.interrupts import Interrupts
from elir_trt.io.progress import ProgressCallback, Rate
from elir_trt.io.sink import Sink
from elir_trt.io.source import Frame, Source, Unreadable

if TYPE_CHECKING:
    from elir_trt.still import Still
    from elir_trt.stream import Drop, Noise, Temporal
    from elir_trt.stream_state import StreamState

DEPTH = 3
"""Frames in the ring of a stream: one is read and one written while one is restored."""

# Waiting is done in pieces, because Ctrl-C and the end of the work are noticed between them only.
_PATIENCE_S = 0.2
# Frames that are remembered until their result comes. Only where frames are dropped can it be reached: when the
# sink stands still, and a camera does not.
_REMEMBERED = 64

OnError = Callable[[Frame | Unreadable, ElirError], None]
OnDrop = Callable[[Frame], None]


class SupportsStream(Protocol):
    """What is needed of a restorer: :meth:`elir_trt.restorer.Restorer.stream`."""

    def stream(
        self,
        *,
        depth: int = ...,
        drop: Drop = ...,
        steps: int | None = ...,
        seed: int = ...,
        noise: Noise = ...,
        temporal: Temporal = ...,
        deadline_ms: float | None = ...,
        still: Still = ...,
        format: PixelFormat | None = ...,
        output_format: PixelFormat | None = ...,
        matrix: Matrix = ...,
        full_range: bool = ...,
        state: StreamState | None = ...,
    ) -> Any:
        """Open a stream."""


@dataclass
class PumpReport:
    """What went through.

    Attributes:
        frames: results that were written.
        failed: frames that could not be read or restored.
        dropped: frames that were given up because they came faster than they were restored.
        seconds: of all the work.
        fps: frames per second, without the time until the first was ready.
    """

    frames: int = 0
    failed: int = 0
    dropped: int = 0
    seconds: float = 0.0
    fps: float = 0.0


def pump(
    source: Source,
    restorer: SupportsStream,
    sink: Sink,
    *,
    depth: int = DEPTH,
    drop: Drop | None = None,
    steps: int | None = None,
    seed: int = 0,
    noise: Noise = "fixed",
    temporal: Temporal = "off",
    deadline_ms: float | None = None,
    still: Still = "off",
    state: StreamState | None = None,
    on_error: OnError | None = None,
    on_drop: OnDrop | None = None,
    progress: ProgressCallback | None = None,
) -> PumpReport:
    """Restore all frames of a source into a sink.

    It opens the streams itself, in the formats of source and sink, and another one when frames change their
    size.

    Args:
        source: open; it stays open.
        restorer: from :func:`elir_trt.open`.
        sink: it is closed, or aborted, in any case.
        depth, steps, seed, noise, temporal, still, deadline_ms: see :meth:`elir_trt.restorer.Restorer.stream`.
        state: of the stream that restored the frames before these.
        drop: "block", "oldest" or "newest", see there; None: "oldest" for live sources, else "block".
        on_error: called for each frame that could not be read or restored, and the others go on; None: the first
            such error ends the work.
        on_drop: called for each frame that is given up because others came, from any of the threads.
        progress: called after each frame.

    Raises:
        ElirError: a frame failed and there is no ``on_error``, or the source or the sink failed.
        KeyboardInterrupt: Ctrl-C.
        SystemExit: SIGTERM. Both come after the sink was finished, where it wants that; a second signal does
            not wait for what is in flight.
    """
    options: dict[str, Any] = {
        "depth": depth,
        "drop": drop or ("oldest" if source.live else "block"),
        "steps": steps,
        "seed": seed,
        "noise": noise,
        "temporal": temporal,
        "format": source.pixel_format,
        "output_format": sink.pixel_format,
        "matrix": source.matrix,
        "full_range": source.full_range,
    }
    if deadline_ms is not None:
        options["deadline_ms"] = deadline_ms
    if still != "off":
        options["still"] = still
    drops = options["drop"] != "block"
    dropped = on_drop or (lambda frame: None)
    open_stream = partial(restorer.stream, **options)
    feeder = _Feeder(source, open_stream, sink, state, drops=drops, on_drop=dropped)
    with Interrupts() as interrupts:
        complete = False
        collector = _Collector(feeder.in_flight, sink, source, on_error, dropped, progress, interrupts.check)
        try:
            with feeder:
                try:
                    collector.collect()
                except (KeyboardInterrupt, SystemExit):
                    if sink.finish_on_interrupt:
                        complete = _go_on(collector, sink)
                    raise
            sink.close(complete=not sink.done)
        except (KeyboardInterrupt, SystemExit):
            if not sink.finish_on_interrupt:
                sink.abort()
                raise
            collector.check = lambda: None
            # A second signal ends this, and so does whatever fails now.
            with contextlib.suppress(Exception, KeyboardInterrupt, SystemExit):
                collector.collect()
            sink.close(complete=complete)
            raise
        except BaseException:
            sink.abort()
            raise
    report = collector.report
    report.dropped += feeder.dropped
    report.seconds = collector.rate.seconds
    return report


def _go_on(collector: _Collector, sink: Sink) -> bool:
    """After an interrupt: restore for as long as the sink wants more. A second signal ends it, and any failure.

    Returns:
        Whether the source ended meanwhile, so that all is done.
    """

    def check() -> None:
        if not sink.wants_more():
            raise _Stopped

    collector.check = check
    with contextlib.suppress(Exception, KeyboardInterrupt, SystemExit):
        collector.collect()
        return not sink.done
    return False


@dataclass
class _Entry:
    """A frame on its way, or one that got no further; ``stream`` is None then."""

    item: Frame | Unreadable
    stream: Any = None
    index: int = 0
    state: bool = False  # that of the stream behind this frame is wanted
    error: ElirError | None = None


@dataclass
class _InFlight:
    """The frames between the two threads, in order."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    entries: deque[_Entry] = field(default_factory=deque)
    ended: bool = False
    error: BaseException | None = None

    def put(self, entry: _Entry) -> None:
        with self.changed:
            self.entries.append(entry)
            self.changed.notify_all()

    def end(self, error: BaseException | None) -> None:
        """Nothing follows; ``error`` is why, if it is not the source's end."""
        with self.changed:
            self.ended, self.error = True, error
            self.changed.notify_all()

    def first(self, timeout_s: float) -> _Entry | None:
        """The oldest entry, which stays until :meth:`remove`; None: there is none yet.

        Raises:
            _Ended: none follows. If the source failed, what it raised.
        """
        with self.changed:
            self.changed.wait_for(lambda: self.entries or self.ended, timeout_s)
            if self.entries:
                return self.entries[0]
            if self.ended:
                raise self.error or _Ended
            return None

    def remove(self) -> None:
        """Forget the oldest entry."""
        with self.changed:
            self.entries.popleft()
            self.changed.notify_all()

    def is_empty(self, timeout_s: float) -> bool:
        """Wait until all entries are removed."""
        with self.changed:
            return self.changed.wait_for(lambda: not self.entries, timeout_s)


class _Stopped(Exception):
    """The work ends before the source does."""


class _Ended(Exception):
    """The source has ended, and nothing of it is in flight."""


class _Feeder:
    """Reads and submits, in a thread of its own. Leaving it stops the thread."""

    def __init__(
        self,
        source: Source,
        open_stream: Callable[..., Any],
        sink: Sink,
        state: StreamState | None,
        *,
        drops: bool,
        on_drop: OnDrop,
    ) -> None:
        self._source = source
        self._on_drop = on_drop
        self._open_stream = open_stream
        self._sink = sink
        self._state = state
        self._drops = drops
        self._stop = threading.Event()
        self._stream: Any = None
        self._shape: tuple[int, ...] | None = None
        self.in_flight = _InFlight()
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="elir-feed", daemon=True)

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._source:
                if self._stop.is_set():
                    break
                self._pass_on(item)
        except _Stopped:
            pass
        except BaseException as raised:
            error = raised
        finally:
            self._close_stream()
            self.in_flight.end(error)

    def _pass_on(self, item: Frame | Unreadable) -> None:
        if isinstance(item, Unreadable):
            self.in_flight.put(_Entry(item, error=item.error))
            return
        if self._drops and len(self.in_flight.entries) >= _REMEMBERED:
            self._drop(item)
            return
        try:
            stream = self._stream_for(item)
            state = self._sink.wants_state(item)
            index = self._submit(stream, item)
        except ElirError as error:
            self.in_flight.put(_Entry(item, error=error))
            return
        if index is None:
            self._drop(item)
            return
        self.in_flight.put(_Entry(item, stream, index, state=state))
        if state:
            self._wait_for_all()

    def _drop(self, frame: Frame) -> None:
        self.dropped += 1
        self._on_drop(frame)

    def _stream_for(self, frame: Frame) -> Any:
        """The stream for frames of this size. A new one waits until nothing is left of the one before it."""
        shape = tuple(frame.pixels.shape)
        if self._stream is None or shape != self._shape:
            self._close_stream()
            self._wait_for_all()
            before, self._state = self._state, None
            self._stream = self._open_stream() if before is None else self._open_stream(state=before)
            self._shape = shape
        return self._stream

    def _wait_for_all(self) -> None:
        """Until nothing is in flight."""
        while not self.in_flight.is_empty(_PATIENCE_S):
            self._check()

    def _submit(self, stream: Any, frame: Frame) -> int | None:
        while True:
            self._check()
            try:
                index: int | None = stream.submit(frame.pixels, frame.timestamp_s, timeout=_PATIENCE_S)
            except TimeoutError:
                continue
            return index

    def _check(self) -> None:
        if self._stop.is_set():
            raise _Stopped

    def _close_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def __enter__(self) -> _Feeder:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._source.stop()
        self._thread.join()


class _Collector:
    """Collects results and writes them, in the caller's thread."""

    def __init__(
        self,
        in_flight: _InFlight,
        sink: Sink,
        source: Source,
        on_error: OnError | None,
        on_drop: OnDrop,
        progress: ProgressCallback | None,
        check: Callable[[], None],
    ) -> None:
        self._in_flight = in_flight
        self._sink = sink
        self._source = source
        self._on_error = on_error
        self._on_drop = on_drop
        self._progress = progress
        self._ahead: Any = None
        self.check = check
        self.rate = Rate()
        self.report = PumpReport()

    def collect(self) -> None:
        """Write results until the source has ended and nothing is in flight, or the sink is done."""
        while not self._sink.done:
            self.check()
            try:
                entry = self._in_flight.first(_PATIENCE_S)
            except _Ended:
                return
            if entry is not None:
                result = entry.error if entry.stream is None else self._result(entry)
                if entry.state and not isinstance(result, ElirError):
                    self._sink.keep_state(entry.stream.state())  # the feeder waits
                self._in_flight.remove()
                self._finish(entry.item, result)

    def _finish(self, item: Frame | Unreadable, result: Any) -> None:
        """Write the result of a frame, report its error, or count it as dropped."""
        if result is None:
            assert isinstance(item, Frame)
            self.report.dropped += 1
            self._on_drop(item)
            return
        if isinstance(result, ElirError):
            self.report.failed += 1
            if self._on_error is None:
                raise result
            self._on_error(item, result)
        else:
            assert isinstance(item, Frame)
            self._sink.write(result, item)
            self.report.frames += 1
        self.report.fps = self.rate.step()
        if self._progress is not None:
            self._progress(self.rate.done, self._source.frames, self.report.fps)

    def _result(self, entry: _Entry) -> Any:
        """What came of a frame: its result or its FrameError, or None if the stream dropped it."""
        while self._ahead is None:
            try:
                self._ahead = entry.stream.result(timeout=_PATIENCE_S)
            except TimeoutError:
                self.check()
            except EOFError:
                return None
            except FrameError as error:
                self._ahead = error
        if self._ahead.index != entry.index:
            return None
        found, self._ahead = self._ahead, None
        return found
