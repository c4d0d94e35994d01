"""Ctrl-C and SIGTERM between frames, not within one."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_STATUS_OF_SIGNALS = 128  # a process that a signal ended has this plus the signal's number, as shells give it


class Interrupts:
    """Notes Ctrl-C and SIGTERM while it is entered, so that nobody is stopped while writing half a frame.

    Whoever works calls :meth:`check` between frames. A second signal does not wait for that: it raises at once.
    Handlers are only set in the main thread, and only where the program has none of its own.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._noted: int | None = None

    def check(self) -> None:
        """Raise what was noted.

        Raises:
            KeyboardInterrupt: Ctrl-C.
            SystemExit: SIGTERM; its status is 143.
        """
        if self._noted is not None:
            self._raise(self._noted)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self._noted is not None:
            self._raise(number)
        self._noted = number

    @staticmethod
    def _raise(number: int) -> None:
        if number == signal.SIGTERM:
            raise SystemExit(_STATUS_OF_SIGNALS + number)
        raise KeyboardInterrupt

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number, usual in (
                (signal.SIGINT, signal.default_int_handler),
                (signal.SIGTERM, signal.SIG_DFL),
            ):
                if signal.getsignal(number) == usual:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if kind is None:
            self.check()  # it came when the last frame was written already
