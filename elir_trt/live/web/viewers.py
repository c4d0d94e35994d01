"""Those who look: each is sent the newest picture when it is ready for one, so that a slow one alone loses frames."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from elir_trt.errors import ElirError
from elir_trt.live.web.pictures import Picture

#: Pictures on their way to a viewer that it has not shown yet: one is drawn while the next one travels.
UNSHOWN = 2


class Viewer:
    """A browser that is connected. All of it happens on the event loop.

    Attributes:
        name: for metrics.
        compare: whether it wants frames as they came, too.
        sent, lost: pictures that it was sent, and that it was not ready for.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.compare = True
        self.sent = 0
        self.lost = 0
        self._unshown: set[int] = set()
        self._picture: Picture | None = None
        self._texts: dict[str, str] = {}
        self._changed = asyncio.Event()

    @property
    def is_ready(self) -> bool:
        """Whether it takes another picture now."""
        return len(self._unshown) < UNSHOWN

    def offer(self, picture: Picture) -> None:
        """Have a newer picture for it."""
        if self._picture is not None:
            self.lost += 1
        self._picture = picture
        self._changed.set()

    def tell(self, kind: str, message: Mapping[str, Any]) -> None:
        """Have a message for it; of each kind the newest is sent."""
        self._texts[kind] = json.dumps({"type": kind, **message})
        self._changed.set()

    def note_shown(self, number: int) -> None:
        """It has drawn a picture, or passed it over."""
        self._unshown = {other for other in self._unshown if other > number}
        self._changed.set()

    async def next(self) -> str | bytes:
        """What is to be sent next; waits for it."""
        while True:
            if self._texts:
                return self._texts.pop(next(iter(self._texts)))
            if self._picture is not None and self.is_ready:
                picture, self._picture = self._picture, None
                self._unshown.add(picture.number)
                self.sent += 1
                return picture.message(compare=self.compare)
            self._changed.clear()
            await self._changed.wait()


class Hub:
    """All viewers, and who reads the MJPEG stream.

    Attributes:
        viewers: those with the page.
        plain: queues of those who read MJPEG, one picture long.
    """

    def __init__(self) -> None:
        self.viewers: set[Viewer] = set()
        self.plain: set[asyncio.Queue[Picture]] = set()
        self._named = 0

    def add(self) -> Viewer:
        """Another viewer."""
        self._named += 1
        viewer = Viewer(f"viewer {self._named}")
        self.viewers.add(viewer)
        return viewer

    @property
    def count(self) -> int:
        """How many look."""
        return len(self.viewers) + len(self.plain)

    def wants(self) -> tuple[bool, bool]:
        """Whether anybody is ready for a picture, and for one as it came; read from any thread."""
        # A copy: viewers come and go on another thread.
        ready = [viewer for viewer in tuple(self.viewers) if viewer.is_ready]
        return bool(ready or self.plain), any(viewer.compare for viewer in ready)

    def publish(self, picture: Picture) -> None:
        """Offer a picture to all."""
        for viewer in self.viewers:
            viewer.offer(picture)
        for queue in self.plain:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(picture)

    def tell(self, kind: str, message: Mapping[str, Any], viewers: Iterable[Viewer] | None = None) -> None:
        """Send a message to all, or some."""
        for viewer in self.viewers if viewers is None else viewers:
            viewer.tell(kind, message)


def read_message(text: str) -> dict[str, Any]:
    """What a page sent.

    Raises:
        ElirError: it is no message.
    """
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("type"), str):
        raise ElirError("expected a JSON object with a type")
    return found


def read_latency(message: Mapping[str, Any]) -> dict[str, float]:
    """The percentiles that a page measured, in milliseconds.

    Raises:
        ElirError: they are no numbers that a latency can be.
    """
    found = {}
    for name in ("p50", "p95", "p99"):
        value = message.get(name)
        if not isinstance(value, (int, float)) or not math.isfinite(value) or not 0 <= value < 3.6e6:
            raise ElirError(f"{name} is {value!r}; expected milliseconds")
        found[name] = round(float(value), 2)
    return found
