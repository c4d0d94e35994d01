"""The counts of a live run as Prometheus reads them (text format 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_QUANTILES = {"p50": "0.5", "p95": "0.95", "p99": "0.99"}


def as_metrics(snapshot: Mapping[str, Any], viewers: int) -> str:
    """A page of metrics.

    Args:
        snapshot: of a :class:`elir_trt.live.Monitor`.
        viewers: browsers that look.
    """
    return "\n".join(_lines(snapshot, viewers)) + "\n"


def _lines(snapshot: Mapping[str, Any], viewers: int) -> Iterator[str]:
    for name, what in (
        ("captured", "Frames that the source gave."),
        ("restored", "Frames that were handed to the sinks."),
        ("unrestored", "Frames that a deadline left as they came."),
        ("failed", "Frames that could not be read or restored."),
        ("reconnects", "Times that the source was opened again."),
    ):
        yield from _head(f"elir_{name}_total", "counter", what)
        yield f"elir_{name}_total {snapshot[name]}"
    yield from _head("elir_dropped_total", "counter", "Frames that were given up, by reason.")
    for reason, count in snapshot["dropped"].items():
        yield f"elir_dropped_total{_labels(reason=reason)} {count}"
    yield from _head("elir_rung_total", "counter", "Restored frames by what they were given.")
    for rung, count in snapshot["rungs"].items():
        yield f"elir_rung_total{_labels(rung=rung)} {count}"
    yield from _head("elir_source_up", "gauge", "1 while the source gives frames.")
    yield f"elir_source_up {int(snapshot['state'] == 'live')}"
    yield from _head("elir_viewers", "gauge", "Browsers that look at the page.")
    yield f"elir_viewers {viewers}"
    yield from _head("elir_frames_per_second", "gauge", "Of the last two seconds.")
    yield f"elir_frames_per_second{_labels(at='source')} {snapshot['captured_fps']}"
    yield f"elir_frames_per_second{_labels(at='result')} {snapshot['fps']}"
    yield from _head("elir_latency_seconds", "gauge", "From capture, of the latest frames, by quantile.")
    yield from _quantiles("elir_latency_seconds", "result", snapshot["latency_ms"])
    for name, sink in snapshot["sinks"].items():
        yield from _quantiles("elir_latency_seconds", f"sink {name}", sink["latency_ms"])
    for name, found in snapshot["displays"].items():
        yield from _quantiles("elir_latency_seconds", f"display {name}", found)
    yield from _head("elir_stage_seconds", "gauge", "Median of the latest frames, by stage.")
    for stage, milliseconds in snapshot["stages_ms"].items():
        yield f"elir_stage_seconds{_labels(stage=stage)} {milliseconds / 1e3:.6f}"
    yield from _head("elir_sink_written_total", "counter", "Frames that a sink took.")
    for name, sink in snapshot["sinks"].items():
        yield f"elir_sink_written_total{_labels(sink=name)} {sink['written']}"
    yield from _head("elir_sink_dropped_total", "counter", "Frames that came while a sink was busy.")
    for name, sink in snapshot["sinks"].items():
        yield f"elir_sink_dropped_total{_labels(sink=name)} {sink['dropped']}"
    yield from _head("elir_sink_up", "gauge", "0 once a sink has failed.")
    for name, sink in snapshot["sinks"].items():
        yield f"elir_sink_up{_labels(sink=name)} {int(not sink['error'])}"


def _head(name: str, kind: str, what: str) -> Iterator[str]:
    yield f"# HELP {name} {what}"
    yield f"# TYPE {name} {kind}"


def _quantiles(name: str, place: str, found: Mapping[str, float]) -> Iterator[str]:
    for key, quantile in _QUANTILES.items():
        if key in found:
            yield f"{name}{_labels(to=place, quantile=quantile)} {found[key] / 1e3:.6f}"


def _labels(**labels: str) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in labels.items()) + "}"
