"""What a live run counts and measures, for whoever shows it: a terminal, a page, a scraper."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Any, Literal

Reason = Literal["overtaken", "too-old", "late"]
"""Why a frame was given up: a newer one came before it was begun; it was older than allowed before it was restored;
or afterwards."""

State = Literal["connecting", "live", "silent", "stalled", "lost", "ended"]
"""Of the source: being opened; giving frames; open, but no frame came yet, or none any more; gone, to be opened
again; at its end."""

_LATEST = 512
_RATE_S = 2.0
_PERCENTILES = (50, 95, 99)


class Latencies:
    """The percentiles of the latest values, in milliseconds."""

    def __init__(self, latest: int = _LATEST) -> None:
        """Args: latest: how many count."""
        self._values: deque[float] = deque(maxlen=latest)

    def add(self, milliseconds: float) -> None:
        """Count one."""
        self._values.append(milliseconds)

    def percentiles(self) -> dict[str, float]:
        """p50, p95 and p99: the smallest value that so many percent do not exceed; empty without values."""
        ordered = sorted(self._values)
        last = len(ordered) - 1
        if last < 0:
            return {}
        return {f"p{p}": round(ordered[min(last, -(-p * (last + 1) // 100) - 1)], 2) for p in _PERCENTILES}


class RecentRate:
    """Events a second, of the last two seconds."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def step(self, now_s: float) -> None:
        """Count one."""
        self._times.append(now_s)
        self._forget(now_s)

    def __call__(self, now_s: float) -> float:
        """How many a second."""
        self._forget(now_s)
        if len(self._times) < 2:
            return 0.0
        return (len(self._times) - 1) / max(now_s - self._times[0], 1e-9)

    def _forget(self, now_s: float) -> None:
        while self._times and self._times[0] < now_s - _RATE_S:
            self._times.popleft()


class Monitor:
    """Counts and latencies of a live run. Every thread may write and read.

    Every captured frame is restored, given up for a :data:`Reason`, failed, or on its way.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: State = "connecting"
        self._reason = ""
        self._started_s = time.monotonic()
        self._counts: Counter[str] = Counter(captured=0, restored=0, failed=0, unrestored=0, reconnects=0)
        self._dropped: Counter[str] = Counter({"overtaken": 0, "too-old": 0, "late": 0})
        self._rungs: Counter[str] = Counter()
        self._captured = RecentRate()
        self._restored = RecentRate()
        self._latency = Latencies()
        self._waited = Latencies()
        self._stages: dict[str, Latencies] = {}
        self._sinks: dict[str, SinkMonitor] = {}
        self._displays: dict[str, dict[str, float]] = {}

    # What happens

    def set_state(self, state: State, reason: str = "") -> None:
        """Note how the source is, and why."""
        with self._lock:
            self._state, self._reason = state, reason

    @property
    def state(self) -> State:
        """How the source is."""
        with self._lock:
            return self._state

    def count_captured(self) -> None:
        """A frame came."""
        with self._lock:
            self._counts["captured"] += 1
            self._captured.step(time.monotonic())

    def count_drop(self, reason: Reason) -> None:
        """A frame was given up."""
        with self._lock:
            self._dropped[reason] += 1

    def count_failure(self) -> None:
        """A frame could not be read or restored."""
        with self._lock:
            self._counts["failed"] += 1

    def count_reconnect(self) -> None:
        """The source was opened again."""
        with self._lock:
            self._counts["reconnects"] += 1

    def count_restored(self, result: Any, age_s: float) -> None:
        """A frame is ready to be shown.

        Args:
            result: a :class:`elir_trt.stream.Result`.
            age_s: since it was taken.
        """
        with self._lock:
            now = time.monotonic()
            self._counts["restored"] += 1
            self._counts["unrestored"] += not result.restored
            self._rungs[result.rung] += 1
            self._restored.step(now)
            self._latency.add(age_s * 1e3)
            self._waited.add(age_s * 1e3 - result.latency_ms)
            for name, milliseconds in result.stages.items():
                self._stages.setdefault(name, Latencies()).add(milliseconds)

    def sink(self, name: str) -> SinkMonitor:
        """The counts of a sink; the first call adds it."""
        with self._lock:
            return self._sinks.setdefault(name, SinkMonitor())

    def set_display(self, viewer: str, latency_ms: Mapping[str, float] | None) -> None:
        """Note what a viewer measured from capture to display, p50, p95 and p99; None: it has gone."""
        with self._lock:
            if latency_ms is None:
                self._displays.pop(viewer, None)
            else:
                self._displays[viewer] = dict(latency_ms)

    # What is shown

    def snapshot(self) -> dict[str, Any]:
        """All of it, as JSON: see docs/live.md."""
        with self._lock:
            now = time.monotonic()
            return {
                "state": self._state,
                "reason": self._reason,
                "seconds": round(now - self._started_s, 1),
                "captured": self._counts["captured"],
                "restored": self._counts["restored"],
                "unrestored": self._counts["unrestored"],
                "failed": self._counts["failed"],
                "reconnects": self._counts["reconnects"],
                "dropped": dict(self._dropped),
                "rungs": dict(self._rungs),
                "captured_fps": round(self._captured(now), 1),
                "fps": round(self._restored(now), 1),
                "latency_ms": self._latency.percentiles(),
                "before_stream_ms": self._waited.percentiles(),
                "stages_ms": _medians(self._stages.items()),
                "sinks": {name: sink.snapshot() for name, sink in self._sinks.items()},
                "displays": {name: dict(found) for name, found in self._displays.items()},
            }


class SinkMonitor:
    """Counts of one sink; written by its own thread and the one that hands it frames.

    Attributes:
        written, dropped: frames that went out, and that came while it was busy.
        error: why it was given up; empty: it was not.
    """

    def __init__(self) -> None:
        self.written = 0
        self.dropped = 0
        self.error = ""
        self._latency = Latencies()
        self._lock = threading.Lock()

    def count_written(self, age_s: float) -> None:
        """A frame went out; ``age_s`` since it was taken."""
        with self._lock:
            self.written += 1
            self._latency.add(age_s * 1e3)

    def count_drop(self) -> None:
        """A frame came while it was busy."""
        with self._lock:
            self.dropped += 1

    def snapshot(self) -> dict[str, Any]:
        """All of it, as JSON."""
        with self._lock:
            return {
                "written": self.written,
                "dropped": self.dropped,
                "error": self.error,
                "latency_ms": self._latency.percentiles(),
            }


def _medians(stages: Iterable[tuple[str, Latencies]]) -> dict[str, float]:
    return {name: found.percentiles()["p50"] for name, found in stages if found.percentiles()}


def as_line(snapshot: Mapping[str, Any]) -> str:
    """A line for a terminal."""
    latency = snapshot["latency_ms"]
    parts = [
        f"{snapshot['state']}{': ' + snapshot['reason'] if snapshot['reason'] else ''}",
        f"{snapshot['fps']:.1f} of {snapshot['captured_fps']:.1f} frames/s",
    ]
    if latency:
        parts.append("latency p50 {p50:.0f} p95 {p95:.0f} p99 {p99:.0f} ms".format(**latency))
    dropped = [f"{count} {reason}" for reason, count in snapshot["dropped"].items() if count]
    if dropped:
        parts.append(f"dropped {', '.join(dropped)}")
    for name in ("failed", "unrestored", "reconnects"):
        if snapshot[name]:
            parts.append(f"{snapshot[name]} {name}")
    for name, sink in snapshot["sinks"].items():
        if sink["error"]:
            parts.append(f"{name} failed")
        elif sink["dropped"]:
            parts.append(f"{name} lost {sink['dropped']}")
    return ", ".join(parts)
