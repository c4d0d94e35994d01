"""Latency as a contract: frames that are inside their deadline on a machine that others load too.

    python benchmarks/deadline.py [--bundle NAME] [--size HxW] [--frames N] [--deadline MS] [--json FILE]

A source gives a frame every deadline, and does not wait. A second process burns one core, a second on and a second
off. The same frames go through a stream without a deadline and one with it, both of K steps (--steps, default 1); the
deadline is 1.4 times the median that such a frame takes on the idle machine, unless it is given. Told are the share
of frames inside the deadline, the rungs they were given, and what a choice costs, Python's call included.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from quality import images, read, shared

import elir_trt
from elir_trt import _core
from elir_trt.backends.openvino import cpu_name
from elir_trt.degradations import gaussian_noise, to_uint8
from elir_trt.stream import Stream


def burn(stop: Any) -> None:
    """A core, one second on and one off."""
    while not stop.is_set():
        until = time.perf_counter() + 1.0
        while time.perf_counter() < until:
            pass
        stop.wait(1.0)


def run(stream: Stream, frames: list[Any], count: int, every_s: float) -> list[elir_trt.Result]:
    """Frames at a steady rate, collected as they come."""

    def feed() -> None:
        began = time.perf_counter()
        for index in range(count):
            time.sleep(max(0.0, began + index * every_s - time.perf_counter()))
            stream.submit(frames[index % len(frames)])
        stream.close()

    feeder = threading.Thread(target=feed)
    feeder.start()
    results = []
    while True:
        try:
            results.append(stream.result())
        except EOFError:
            break
    feeder.join()
    return results


def told(results: list[elir_trt.Result], deadline_ms: float) -> dict[str, Any]:
    """Shares and percentiles."""
    latency = np.array([result.latency_ms for result in results])
    return {
        "inside": float(np.mean(latency <= deadline_ms)),
        "p50": float(np.percentile(latency, 50)),
        "p99": float(np.percentile(latency, 99)),
        "worst": float(latency.max()),
        "rungs": dict(sorted(Counter(result.rung for result in results).items())),
    }


def cost_us() -> float:
    """Median of one choice of a ladder that knows 256 frames, in microseconds."""
    ladder = _core.Ladder()
    rng = np.random.default_rng(0)
    for _ in range(256):
        ladder.note(2, float(rng.uniform(40, 60)), float(rng.uniform(10, 20)))
    times = []
    for _ in range(2000):
        began = time.perf_counter()
        ladder.choose(2, 50.0)
        times.append(1e6 * (time.perf_counter() - began))
    return float(np.median(times))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=shared())
    parser.add_argument("--bundle", default="camera")
    parser.add_argument("--size", default="256x384")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--deadline", type=float)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    height, width = (int(side) for side in arguments.size.split("x"))
    rng = np.random.default_rng(0)
    photos = [read(path) for path in images(arguments.data / "clean_photos")]
    frames = [
        to_uint8(gaussian_noise(photo[:height, :width].astype(np.float32), 25.0, rng))
        for photo in photos
        if photo.shape[0] >= height and photo.shape[1] >= width
    ][:8]
    report: dict[str, Any] = {"cpu": cpu_name(), "size": arguments.size, "steps": arguments.steps}
    with elir_trt.open(arguments.bundle) as restorer:
        options: dict[str, Any] = {"steps": arguments.steps, "depth": 64, "size": (height, width)}
        with restorer.stream(**{**options, "depth": 1}) as stream:
            idle = [result.latency_ms for result in stream.map(frames * 5)]
        deadline = arguments.deadline or 1.4 * float(np.median(idle))
        report.update(idle_ms=float(np.median(idle)), deadline_ms=deadline, choice_us=cost_us())
        print(
            f"idle {report['idle_ms']:.1f} ms, deadline {deadline:.1f} ms, a choice {report['choice_us']:.1f} us"
        )
        for name, given in (("without", None), ("with", deadline)):
            stop = multiprocessing.Event()
            burner = multiprocessing.Process(target=burn, args=(stop,), daemon=True)
            burner.start()
            try:
                stream = restorer.stream(**options, deadline_ms=given)
                report[name] = told(run(stream, frames, arguments.frames, deadline / 1e3), deadline)
            finally:
                stop.set()
                burner.join()
            print(name, report[name], flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
