"""A live run: pump after pump over one source and its sinks, each with the settings of the time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

from elir_trt.errors import ElirError
from elir_trt.io.pumping import pump
from elir_trt.io.sink import Sink
from elir_trt.io.source import Frame, Unreadable
from elir_trt.live.fanout import Fanout
from elir_trt.live.monitor import Monitor
from elir_trt.live.source import LiveSource
from elir_trt.stream import Noise, Temporal

if TYPE_CHECKING:
    from elir_trt.stream import Result

DEPTH = 2
"""Frames in the ring of a live stream: one is restored, and the newest one waits."""

# Frames that fail in a row, after which nothing good is expected any more.
_FAILURES = 100
# The same complaint is not made more often.
_SILENCE_S = 10.0


@dataclass(frozen=True)
class Settings:
    """What can be changed while a run goes on.

    Attributes:
        bundle: name of the bundle that restores.
        steps: Euler steps; None: the recipe's default.
        seed, noise, temporal, deadline_ms: see :meth:`elir_trt.restorer.Restorer.stream`.
    """

    bundle: str
    steps: int | None = None
    seed: int = 0
    noise: Noise = "fixed"
    temporal: Temporal = "off"
    deadline_ms: float | None = None


class Session:
    """Restores a source into sinks until one of them ends, and lets others change the settings meanwhile.

    A change ends the pump after the frame at hand, and another begins with the frame that is newest then. A bundle
    that is new is opened while the old one goes on.
    """

    def __init__(
        self,
        source: LiveSource,
        sink: Fanout,
        open_restorer: Callable[[str], Any],
        settings: Settings,
        *,
        offered: tuple[str, ...] = (),
        depth: int = DEPTH,
        duration_s: float | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Open the restorer.

        Args:
            source: open; its monitor counts. It stays open.
            sink: closed, or aborted, at the end.
            open_restorer: opens a bundle by its name; restorers stay open until :meth:`close`.
            settings: to begin with.
            offered: bundles that may be changed to, besides the first.
            depth: of the stream's ring.
            duration_s: seconds to run from the first result on; None: until something ends it.
            say: called with a line when frames fail.

        Raises:
            ElirError: the bundle cannot be opened, or a setting is none.
        """
        self.source = source
        self.monitor: Monitor = source.monitor
        self.offered = tuple(dict.fromkeys((settings.bundle, *offered)))
        self._sink = sink
        self._open = open_restorer
        self._depth = depth
        self._duration_s = duration_s
        self._end_s: float | None = None
        self._say = say
        self._restorers: dict[str, Any] = {}
        self._changing = threading.Lock()
        self._changed = threading.Event()
        self._stopped = threading.Event()
        self._failures = 0
        self._told: dict[str, float] = {}
        self._settings = self._checked(settings)

    @property
    def settings(self) -> Settings:
        """As they are now."""
        return self._settings

    @property
    def restorer(self) -> Any:
        """That restores now."""
        return self._restorers[self._settings.bundle]

    def change(self, changes: Mapping[str, Any]) -> Settings:
        """Change settings; from any thread. Waits until a new bundle is open.

        Args:
            changes: attributes of :class:`Settings` and their new values.

        Raises:
            ElirError: there is no such setting, a value is not allowed, or the bundle cannot be opened.
        """
        unknown = sorted(set(changes) - set(asdict(self._settings)))
        if unknown:
            raise ElirError(
                f"there is no setting {unknown[0]!r}; allowed: {', '.join(asdict(self._settings))}"
            )
        with self._changing:
            wanted = replace(self._settings, **changes)
            if wanted.bundle != self._settings.bundle and "steps" not in changes:
                wanted = replace(wanted, steps=None)  # another recipe has other steps
            wanted = self._checked(wanted)
            if wanted != self._settings:
                self._settings = wanted
                self._changed.set()
            return wanted

    def _checked(self, settings: Settings) -> Settings:
        if settings.bundle not in self.offered:
            raise ElirError(f"bundle is {settings.bundle!r}; offered here: {', '.join(self.offered)}")
        for name, value, allowed in (
            ("noise", settings.noise, get_args(Noise)),
            ("temporal", settings.temporal, get_args(Temporal)),
        ):
            if value not in allowed:
                raise ElirError(f"{name} is {value!r}; allowed: {', '.join(allowed)}")
        if settings.bundle not in self._restorers:
            self._restorers[settings.bundle] = self._open(settings.bundle)
        maximum = self._restorers[settings.bundle].recipe.steps
        steps = settings.steps
        if steps is not None and not (type(steps) is int and 0 <= steps <= maximum):
            raise ElirError(f"steps is {steps!r}; bundle {settings.bundle} allows 0 to {maximum}")
        if type(settings.seed) is not int or not 0 <= settings.seed < 2**64:
            raise ElirError(f"seed is {settings.seed!r}; expected 0 to 2**64 - 1")
        deadline_ms = settings.deadline_ms
        if deadline_ms is not None and (
            not isinstance(deadline_ms, (int, float)) or isinstance(deadline_ms, bool) or not deadline_ms > 0
        ):
            raise ElirError(f"deadline_ms is {deadline_ms!r}; expected more than 0")
        return settings

    def describe(self) -> dict[str, Any]:
        """Settings and what they may be, as JSON."""
        recipe = self.restorer.recipe
        steps = recipe.default_steps if self._settings.steps is None else self._settings.steps
        return {
            **asdict(self._settings),
            "steps": steps,
            "allowed": {
                "bundle": list(self.offered),
                "steps": [0, recipe.steps],
                "noise": list(get_args(Noise)),
                "temporal": list(get_args(Temporal)),
            },
            "source": self.source.name,
            "title": recipe.title,
        }

    # Running

    def run(self) -> None:
        """Restore until the source ends, a sink is done, :meth:`stop` is called or the time is over.

        Raises:
            ElirError: the source was lost for good, all sinks failed, or every frame fails.
            KeyboardInterrupt, SystemExit: Ctrl-C and SIGTERM, after the sinks were finished.
        """
        try:
            while not (self.is_over() or self.source.ended):
                self._changed.clear()
                self._pump(self._settings)
        except (KeyboardInterrupt, SystemExit):
            self._sink.close(complete=False)
            raise
        except BaseException:
            # What was recorded is worth as much as if somebody had stopped it.
            self._finish()
            raise
        self._sink.close(complete=True)

    def _finish(self) -> None:
        try:
            self._sink.close(complete=False)
        except ElirError as error:
            self._say(str(error))

    def _pump(self, settings: Settings) -> None:
        self.source.again()
        pump(
            self.source,
            self._restorers[settings.bundle],
            _Lent(self),
            depth=self._depth,
            drop="oldest",
            steps=settings.steps,
            seed=settings.seed,
            noise=settings.noise,
            temporal=settings.temporal,
            deadline_ms=settings.deadline_ms,
            on_error=self._on_error,
            on_drop=lambda frame: self.monitor.count_drop("overtaken"),
        )

    def stop(self) -> None:
        """End the run; from any thread."""
        self._stopped.set()

    def is_over(self) -> bool:
        """Whether the run is to end now."""
        timed_out = self._end_s is not None and time.monotonic() >= self._end_s
        return timed_out or self._stopped.is_set() or self._sink.done

    def close(self) -> None:
        """Close the restorers."""
        for restorer in self._restorers.values():
            restorer.close()

    def write(self, result: Result, frame: Frame) -> None:
        """Pass a result to the sinks."""
        self._failures = 0
        if self._duration_s is not None and self._end_s is None:
            self._end_s = time.monotonic() + self._duration_s
        self._sink.write(result, frame)

    @property
    def pixel_format(self) -> Any:
        """Of the results that the sinks want."""
        return self._sink.pixel_format

    def wants_another_pump(self) -> bool:
        """Whether settings were changed."""
        return self._changed.is_set()

    def _on_error(self, item: Frame | Unreadable, error: ElirError) -> None:
        self.monitor.count_failure()
        self._failures += 1
        if self._failures >= _FAILURES:
            raise ElirError(f"{self._failures} frames in a row failed, the last one with: {error}")
        text, now = str(error).partition(":")[2] or str(error), time.monotonic()
        if now - self._told.get(text, -_SILENCE_S) >= _SILENCE_S:
            self._told[text] = now
            self._say(f"a frame failed, the others go on: {error}")


class _Lent(Sink):
    """The session's sinks, lent to one pump, which does not end them."""

    finish_on_interrupt = True

    def __init__(self, session: Session) -> None:
        self._session = session
        self.pixel_format = session.pixel_format

    @property
    def done(self) -> bool:  # type: ignore[override]
        return self._session.wants_another_pump() or self._session.is_over()

    def write(self, result: Result, frame: Frame) -> None:
        self._session.write(result, frame)
