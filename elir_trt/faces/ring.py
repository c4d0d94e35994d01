"""A ring of frames on their way through several threads, with the policies of a stream where all places are taken."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from elir_trt.stream import Drop

Item = TypeVar("Item")
_Stage = Literal["waiting", "begun", "done"]


class Closed(Exception):
    """No more frames are taken, or none is left."""


class _Place(Generic[Item]):
    def __init__(self, index: int, item: Item) -> None:
        self.index = index
        self.item = item
        self.stage: _Stage = "waiting"


class Ring(Generic[Item]):
    """Places of frames, in order: waiting, begun, done. Safe to use from any thread."""

    def __init__(self, depth: int, drop: Drop) -> None:
        """Args: depth: places; drop: see :meth:`elir_trt.restorer.Restorer.stream`."""
        self._depth = depth
        self._drop = drop
        self._changed = threading.Condition()
        self._places: deque[_Place[Item]] = deque()
        self._count = 0
        self._closed = False
        self.dropped = 0
        self.collected = 0

    @property
    def submitted(self) -> int:
        """Frames that were handed in, those included that were given up."""
        return self._count

    def put(self, item: Item, timeout: float | None) -> int | None:
        """Hand in; gives its index, or None if it was given up.

        Raises:
            TimeoutError: no place came free in time.
            Closed: no more are taken.
        """
        with self._changed:
            if self._drop == "newest" and len(self._places) >= self._depth and not self._closed:
                self._count += 1
                self.dropped += 1
                return None
            if not self._changed.wait_for(lambda: self._closed or self._has_room(), timeout):
                raise TimeoutError(f"no place in the ring came free within {timeout} s")
            if self._closed:
                raise Closed
            index = self._count
            self._count += 1
            self._places.append(_Place(index, item))
            self._changed.notify_all()
            return index

    def _has_room(self) -> bool:
        if len(self._places) >= self._depth and self._drop == "oldest":
            for stage in ("waiting", "done"):
                old = next((place for place in self._places if place.stage == stage), None)
                if old is not None:
                    self._places.remove(old)
                    self.dropped += 1
                    break
        return len(self._places) < self._depth

    def begin(self) -> tuple[int, Item]:
        """Wait for the oldest that nobody has begun, and begin it.

        Raises:
            Closed: none is left.
        """
        with self._changed:
            while True:
                for place in self._places:
                    if place.stage == "waiting":
                        place.stage = "begun"
                        return place.index, place.item
                if self._closed:
                    raise Closed
                self._changed.wait()

    def finish(self, index: int) -> None:
        """A frame that was begun is done."""
        with self._changed:
            for place in self._places:
                if place.index == index:
                    place.stage = "done"
            self._changed.notify_all()

    def take(self, timeout: float | None) -> tuple[int, Item]:
        """Wait for the oldest to be done, and take it.

        Raises:
            TimeoutError: it was not in time.
            Closed: none is left.
        """
        end = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._places or self._places[0].stage != "done":
                if not self._places and self._closed:
                    raise Closed
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError(f"no frame was finished within {timeout} s")
                self._changed.wait(left)
            place = self._places.popleft()
            self.collected += 1
            self._changed.notify_all()
            return place.index, place.item

    def close(self) -> None:
        """Take no more. What is in the ring can still be begun, finished and taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
