"""A frame of a camera: when it was taken, on the clock of this machine."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from elir_trt.io.source import Frame

# A source's clock that seems to jump by more was set anew: the camera was restarted, a film began again.
_JUMP_S = 5.0
# How long the shortest delay that was seen is believed, in seconds: clocks of cameras run up to 0.1 ms a second
# apart.
_REMEMBERED_S = 20.0


@dataclass(frozen=True, kw_only=True)
class LiveFrame(Frame):
    """A frame that somebody took at a moment. ``timestamp_s`` is the source's own time stamp.

    Attributes:
        captured_s: when it was taken, in seconds of :func:`time.monotonic`: measured where the source states it on
            that clock, else reckoned by a :class:`SourceClock`.
    """

    captured_s: float

    def age_s(self) -> float:
        """Seconds since it was taken."""
        return time.monotonic() - self.captured_s


class SourceClock:
    """Tells from a source's own time stamps when frames were taken, although its clock is another.

    What lies between stamp and arrival is the difference of the clocks, and a delay that changes. The smallest
    difference that was seen of late is taken for that of the clocks: so the delay of the fastest frame counts as
    none, and what others take longer, because they waited in a queue, counts in full.
    """

    def __init__(self) -> None:
        # Differences in the order of arrival, each smaller than those after it: the first is the smallest.
        self._differences: deque[tuple[float, float]] = deque()

    def captured_s(self, stamp_s: float | None, arrived_s: float) -> float:
        """When a frame was taken, in seconds of :func:`time.monotonic`.

        Args:
            stamp_s: the source's time stamp, in seconds of any clock; None: it has none.
            arrived_s: when it came, in seconds of :func:`time.monotonic`.
        """
        if stamp_s is None:
            return arrived_s
        difference = arrived_s - stamp_s
        kept = self._differences
        if kept and abs(difference - kept[0][1]) > _JUMP_S:
            kept.clear()
        while kept and kept[-1][1] >= difference:
            kept.pop()
        kept.append((arrived_s, difference))
        while kept[0][0] < arrived_s - _REMEMBERED_S:
            kept.popleft()
        return stamp_s + kept[0][1]
