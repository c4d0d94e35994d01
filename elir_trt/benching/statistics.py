"""Figures of many times: medians with their spread, percentiles, jitter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Fewest frames of which a percentile is told: some must lie beyond it.
_LEAST = {50.0: 1, 95.0: 20, 99.0: 100, 99.9: 1000}


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """The p50, p95, p99 and p99.9 of which there are enough values, and the largest."""
    found = {
        f"p{percentile:g}": round(float(np.percentile(values, percentile)), 4)
        for percentile, least in _LEAST.items()
        if len(values) >= least
    }
    return {**found, "max": round(float(max(values)), 4)}


def jitter(values: Sequence[float]) -> float:
    """Mean difference between one value and the next, as RFC 3550 has it, without its smoothing."""
    return round(float(np.mean(np.abs(np.diff(values)))), 4) if len(values) > 1 else 0.0


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, and the least and the largest."""
    ends = {"median": float(np.median(values)), "min": float(min(values)), "max": float(max(values))}
    return {name: round(value, 3) for name, value in ends.items()}


def histogram(values: Sequence[float], bins: int = 60) -> dict[str, list[float]]:
    """Counts between edges, with everything beyond the 99.9th percentile in the last."""
    top = float(np.percentile(values, 99.9))
    counts, edges = np.histogram(np.minimum(values, top), bins)
    return {"counts": [int(count) for count in counts], "edges_ms": [round(float(edge), 4) for edge in edges]}
