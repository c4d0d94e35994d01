"""A long run over small frames with everything on: deadline, still regions, temporal stage, drops.

    python benchmarks/soak.py [--bundle NAME] [--frames N] [--size HxW] [--json FILE]

A scene in which now and then something moves, or noise comes. At times frames are submitted faster than they can be
restored, so that some are dropped, some are late, and some get fewer steps. It ends with status 1 if the counts do
not add up, results come out of order, or the process has grown between the first tenth of the run and its end.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

import elir_trt
from elir_trt.memory import resident_bytes

#: Bytes by which a process may seem to grow: pages that the allocator took and keeps.
SLACK = 8 * 2**20


def scene(count: int, size: tuple[int, int], rng: np.random.Generator) -> list[np.ndarray]:
    """Frames to be shown over and over: still for a while, then a thing elsewhere, or noise."""
    still = rng.integers(40, 200, (*size, 3), dtype=np.uint8)
    frames = []
    for index in range(count):
        frame = still.copy()
        if index % 8 >= 6:
            top, left = rng.integers(0, size[0] - 8), rng.integers(0, size[1] - 8)
            frame[top : top + 8, left : left + 8] = 255
        if index % 16 == 15:
            frame += rng.integers(0, 20, frame.shape, dtype=np.uint8)
        frames.append(frame)
    return frames


def soak(restorer: elir_trt.Restorer, count: int, size: tuple[int, int]) -> dict[str, Any]:
    """Frames through one stream; what is told of it."""
    rng = np.random.default_rng(0)
    frames = scene(64, size, rng)
    with restorer.stream(depth=2, steps=0, size=size) as stream:
        idle = min(
            sum(result.stages.values()) / 2 for result in stream.map(frames)
        )  # the total is one of them
    deadline = 5.0 * idle
    stream = restorer.stream(
        depth=4,
        drop="oldest",
        steps=min(1, restorer.recipe.steps),
        temporal="auto",
        still=4.0,
        deadline_ms=deadline,
        on_late="drop",
        size=size,
    )

    def feed() -> None:
        for index in range(count):
            stream.submit(frames[index // 3 % len(frames)])
            # Bursts of 50 as fast as they go, then as fast as half of them are restored.
            if index // 50 % 4:
                time.sleep(idle / 2e3)
        stream.close()

    feeder = threading.Thread(target=feed)
    began = time.perf_counter()
    feeder.start()
    rungs: Counter[str] = Counter()
    resident: list[tuple[int, int]] = []
    last, reused, inside, in_order = -1, 0.0, 0, True
    while True:
        try:
            result = stream.result()
        except EOFError:
            break
        in_order = in_order and result.index > last
        last = result.index
        rungs[result.rung] += 1
        reused += result.reused
        inside += result.latency_ms <= deadline
        done = sum(rungs.values())
        if done % 500 == 0:
            resident.append((last, resident_bytes()))
    feeder.join()
    counts = {
        name: stream.stats()[name] for name in ("submitted", "completed", "dropped", "failed", "pending")
    }
    total = max(1, counts["completed"])
    settled = [memory for at, memory in resident if at >= count // 10] or [resident_bytes()]
    return {
        "counts": counts,
        "adds_up": counts["submitted"] == count
        and counts["submitted"] == counts["completed"] + counts["dropped"] + counts["failed"]
        and counts["completed"] == sum(rungs.values()),
        "in_order": in_order,
        "rungs": dict(sorted(rungs.items())),
        "reused": reused / total,
        "inside": inside / total,
        "deadline_ms": deadline,
        "seconds": time.perf_counter() - began,
        "resident_mb": {
            "settled": settled[0] / 2**20,
            "last": settled[-1] / 2**20,
            "most": max(settled) / 2**20,
        },
        "grown": max(0, settled[-1] - settled[0]),
    }


def main() -> None:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", default="camera")
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--size", default="64x96")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    height, width = (int(side) for side in arguments.size.split("x"))
    with elir_trt.open(arguments.bundle) as restorer:
        report = soak(restorer, arguments.frames, (height, width))
    print(json.dumps(report, indent=1))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if (
        not report["adds_up"]
        or not report["in_order"]
        or report["grown"] > SLACK
        or report["counts"]["failed"]
    ):
        sys.exit(1)


if __name__ == "__main__":
    main()
