"""Frame times that always rise, whatever a container says."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Continuity:
    """Moves packets behind what was before when their stream starts again from an old time.

    Joined recordings and restarted encoders do that. Decoding times never go back otherwise, in any codec.
    """

    def __init__(self, step: int) -> None:
        """Args: step: expected ticks between packets, or 0 if unknown."""
        self._step = max(1, step)
        self._offset = 0
        self._last: int | None = None
        self.restarts = 0

    def offset(self, dts: int | None) -> int:
        """Ticks to add to the times of the next packet, given its own decoding time."""
        if dts is not None:
            if self._last is not None and dts + self._offset < self._last:
                self._offset = self._last + self._step - dts
                self.restarts += 1
            self._last = dts + self._offset
        return self._offset


class Timeline(Generic[Item]):
    """Gives each item, in the order of display, a time that is greater than the one before.

    AVI stores no display times, so with reordered frames the right times arrive permuted: 1, 4, 3, 5, 2. Some
    transport streams do that too. They are sorted over a short look-ahead. Missing times become the expected
    ones, repeated times the next tick.
    """

    def __init__(self, *, lookahead: int, step: int) -> None:
        """Args: lookahead: items held back to sort their times, 0 for none; step: expected ticks."""
        self._lookahead = lookahead
        self._step = max(1, step)
        self._items: deque[tuple[Item, int | None]] = deque()
        self._times: list[int] = []
        self._last: int | None = None
        self._newest: int | None = None
        self.repaired = 0
        """Items that got another time than their own."""

    def push(self, item: Item, time: int | None) -> Iterator[tuple[Item, int]]:
        """Add an item with its own time; gives the items whose times are settled by that."""
        expected = 0 if self._newest is None else self._newest + self._step
        used = expected if time is None else time
        self._newest = used if self._newest is None else max(self._newest, used)
        heapq.heappush(self._times, used)
        self._items.append((item, time))
        while len(self._items) > self._lookahead:
            yield self._pop()

    def drain(self) -> Iterator[tuple[Item, int]]:
        """Give the items that are still held back."""
        while self._items:
            yield self._pop()

    @property
    def last(self) -> int | None:
        """The time that was given last."""
        return self._last

    def _pop(self) -> tuple[Item, int]:
        time = heapq.heappop(self._times)
        if self._last is not None and time <= self._last:
            time = self._last + 1
        self._last = time
        item, own = self._items.popleft()
        self.repaired += own != time
        return item, time
