"""A camera that stays: the newest frame of a source that comes and goes."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from elir_trt.errors import ElirError, MediaError
from elir_trt.io.source import Frame, Source, Unreadable
from elir_trt.live.frame import LiveFrame, SourceClock
from elir_trt.live.monitor import Monitor, State

# Waiting is done in pieces, because the end is noticed between them only.
_PATIENCE_S = 0.2
# How long closing waits for a reader that hangs in a driver; it is a daemon, and goes with the process.
_CLOSING_S = 2.0


@dataclass(frozen=True)
class Reconnecting:
    """When and how a source that is lost is opened again.

    Attributes:
        first_s, longest_s: seconds to wait before the first try, and at most; each try waits twice as long as the one
            before it.
        jitter: up to this share of a wait is left out, at random, so that many that lost the same server do not all
            come back at once.
        tries: in a row without a frame, until the run ends with an error; None: for ever.
        stall_s: seconds without a frame, after which a source counts as stalled (silent, if none came yet) and is
            opened again.
    """

    first_s: float = 0.5
    longest_s: float = 30.0
    jitter: float = 0.5
    tries: int | None = None
    stall_s: float = 5.0

    def __post_init__(self) -> None:
        """Raises: ValueError: a number is out of its range."""
        if not 0.0 < self.first_s <= self.longest_s:
            raise ValueError(f"first_s is {self.first_s}; expected more than 0, at most {self.longest_s}")
        if not 0.0 <= self.jitter < 1.0:
            raise ValueError(f"jitter is {self.jitter}; expected 0 to less than 1")
        if self.tries is not None and self.tries < 0:
            raise ValueError(f"tries is {self.tries}; expected 0 or more, or None")
        if not self.stall_s > 0.0:
            raise ValueError(f"stall_s is {self.stall_s}; expected more than 0")

    def wait_s(self, tries: int) -> float:
        """Seconds to wait before a try; ``tries``: in vain before it."""
        whole = min(self.longest_s, self.first_s * 2.0 ** min(tries, 32))
        return whole * (1.0 - self.jitter * random.random())


class LiveSource(Source):
    """Gives the newest frame of a source whenever it is asked, and opens the source again when it is lost.

    A thread reads, and keeps the newest frame alone: whoever iterates is never given an older one, however slow he
    is. When frames stop coming, the reader is given up, even one that hangs in a driver, and another one begins.

    Unlike other sources it can be iterated over again, after :meth:`again`: reading goes on meanwhile. An iteration
    also ends when the source comes back with another pixel format; ``ended`` says when there is nothing more.
    """

    live = True

    def __init__(
        self,
        connect: Callable[[], Source],
        *,
        name: str = "camera",
        max_age_ms: float | None = None,
        reconnecting: Reconnecting | None = None,
        finite: bool = False,
        monitor: Monitor | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Open the source.

        Args:
            connect: opens it; called again when it is lost.
            name: for messages.
            max_age_ms: frames that are older when they would be begun are given up; None: none is too old.
            reconnecting: how to come back; None: with the defaults.
            finite: its end is the end, as of a film, not a loss.
            monitor: that counts; None: one of its own.
            say: called with a line when something happens to the source.

        Raises:
            ElirError: it cannot be opened.
            ValueError: ``max_age_ms`` is not more than 0.
        """
        if max_age_ms is not None and not max_age_ms > 0.0:
            raise ValueError(f"max_age_ms is {max_age_ms}; expected more than 0, or None")
        self.name = name
        self.monitor = monitor or Monitor()
        self.reconnecting = reconnecting or Reconnecting()
        self._connect = connect
        self._max_age_s = None if max_age_ms is None else max_age_ms / 1e3
        self._finite = finite
        self._say = say
        self._changed = threading.Condition()
        self._newest: tuple[_Reader, LiveFrame | Unreadable] | None = None
        self._stopped = False
        self._closed = threading.Event()
        self._reader: _Reader | None = None
        self._tries = 0
        self._again_s: float | None = None
        self._error: BaseException | None = None
        self.ended = False
        self._source = connect()
        self._describe(self._source)
        self._start(self._source)

    def _describe(self, source: Source) -> None:
        self.pixel_format = source.pixel_format
        self.matrix, self.full_range = source.matrix, source.full_range
        self.size = source.size

    def _fits(self, source: Source) -> bool:
        now = (source.pixel_format, source.matrix, source.full_range)
        return now == (self.pixel_format, self.matrix, self.full_range)

    def _start(self, source: Source | None) -> None:
        self._reader = _Reader(self, self._connect, source)
        self._reader.thread.start()

    # The side that restores

    def __iter__(self) -> Iterator[Frame | Unreadable]:
        """Give the newest frame, again and again.

        Raises:
            ElirError: the source was lost for good.
        """
        while (item := self._next()) is not None:
            if isinstance(item, LiveFrame) and self._is_too_old(item):
                self.monitor.count_drop("too-old")
                continue
            yield item

    def _is_too_old(self, frame: LiveFrame) -> bool:
        return self._max_age_s is not None and frame.age_s() > self._max_age_s

    def _next(self) -> LiveFrame | Unreadable | None:
        """The newest frame, as soon as there is one that was not given; None: the iteration ends."""
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._newest is not None or self._stopped or self.ended, _PATIENCE_S
                )
                if self._stopped or self._closed.is_set():
                    return None
                if self._newest is not None:
                    reader, item = self._newest
                    source = reader.source
                    if source is not None and not self._fits(source):
                        self._describe(source)  # the frame stays, for the next iteration
                        return None
                    self._newest = None
                    return item
                if self.ended:
                    if self._error is not None:
                        raise self._error
                    return None
            self._look_after()

    def _look_after(self) -> None:
        """Give a reader up that stalls, and begin another when it is time."""
        now = time.monotonic()
        reader = self._reader
        if reader is not None:
            waited = now - reader.heard_s
            # A source that is being opened has time-outs of its own; one that hangs beyond them is left alone too.
            patience = self.reconnecting.stall_s * (1 if reader.source is not None else 4)
            if waited > patience:
                state: State = "stalled" if reader.frames else "silent"
                what = "no frame" if reader.frames else "no first frame"
                self._lose(reader, state, f"{what} for {waited:.1f} s")
        elif self._again_s is not None and now >= self._again_s:
            self._again_s = None
            self.monitor.set_state("connecting")
            self.monitor.count_reconnect()
            self._start(None)

    def again(self) -> None:
        """Allow another iteration after one that :meth:`stop` ended."""
        with self._changed:
            self._stopped = False

    def stop(self) -> None:
        """End the iteration; reading goes on."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def close(self) -> None:
        """End reading."""
        self._closed.set()
        self.stop()
        with self._changed:
            reader, self._reader = self._reader, None
            self._newest = None
        if reader is not None:
            reader.give_up()
            reader.thread.join(_CLOSING_S)

    # The side that reads

    def put(self, reader: _Reader, item: LiveFrame | Unreadable) -> bool:
        """Take the newest frame of a reader; False: that reader was given up."""
        with self._changed:
            if reader is not self._reader:
                return False
            if isinstance(item, LiveFrame):
                self.monitor.count_captured()
                if self._newest is not None and isinstance(self._newest[1], LiveFrame):
                    self.monitor.count_drop("overtaken")
                if reader.frames == 1:
                    self._tries = 0
                    self.monitor.set_state("live")
                    if not reader.first:
                        self._say(f"{self.name}: it is back")
            self._newest = (reader, item)
            self._changed.notify_all()
            return True

    def end(self, reader: _Reader, error: BaseException | None) -> None:
        """A reader came to its end; ``error`` is why, if it did not end by itself."""
        if error is None and self._finite:
            self._finish(reader, None)
        elif error is not None and not isinstance(error, (ElirError, OSError)):
            self._finish(reader, error)  # a mistake in a program, not a loss
        else:
            self._lose(reader, "lost", "it ended" if error is None else str(error))

    def _finish(self, reader: _Reader, error: BaseException | None) -> None:
        with self._changed:
            if reader is self._reader:
                self._reader, self._error, self.ended = None, error, True
                self.monitor.set_state("ended")
                self._changed.notify_all()

    def _lose(self, reader: _Reader, state: State, reason: str) -> None:
        """Give a reader up, and note when to try again."""
        tries = self.reconnecting.tries
        with self._changed:
            if reader is not self._reader:
                return
            self._reader = None
            if tries is not None and self._tries >= tries:
                self._error = MediaError(
                    f"{self.name}: lost ({reason}), also after {tries} tries to reopen it"
                )
                self.ended = True
                self.monitor.set_state("lost", reason)
                self._changed.notify_all()
            else:
                wait_s = self.reconnecting.wait_s(self._tries)
                self._tries += 1
                self._again_s = time.monotonic() + wait_s
                self.monitor.set_state(state, reason)
                self._say(f"{self.name}: {state}: {reason}; trying again in {wait_s:.1f} s")
        reader.give_up()


class _Reader:
    """A thread that opens a source, reads it, and closes it.

    Attributes:
        source: what it reads; None: not open yet.
        first: whether it is the first of its live source.
        frames: that came.
        heard_s: when the latest came, or it began.
    """

    def __init__(self, owner: LiveSource, connect: Callable[[], Source], source: Source | None) -> None:
        self._owner = owner
        self._connect = connect
        self._given_up = threading.Event()
        self._clock = SourceClock()
        self.source = source
        self.first = source is not None
        self.frames = 0
        self.heard_s = time.monotonic()
        self.thread = threading.Thread(target=self._run, name="elir-camera", daemon=True)

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            self._read()
        except BaseException as raised:
            error = raised
        finally:
            if self.source is not None:
                self.source.close()
        self._owner.end(self, error)

    def _read(self) -> None:
        if self.source is None:
            self.source = self._connect()
            self.heard_s = time.monotonic()
        for item in self.source:
            if self._given_up.is_set():
                return
            self.heard_s = time.monotonic()
            self.frames += isinstance(item, Frame)
            if not self._owner.put(self, self._dated(item)):
                return

    def _dated(self, item: Any) -> LiveFrame | Unreadable:
        if isinstance(item, (LiveFrame, Unreadable)):
            return item
        captured_s = self._clock.captured_s(item.timestamp_s, self.heard_s)
        return LiveFrame(item.pixels, item.timestamp_s, item.origin, captured_s=captured_s)

    def give_up(self) -> None:
        """Stop it as soon as it listens; whoever hangs in a driver is left behind."""
        self._given_up.set()
        source = self.source
        if source is not None:
            source.stop()
