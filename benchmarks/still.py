"""What still regions save: frames per second of a fixed camera, with tiles taken from before and without.

    python benchmarks/still.py [--video FILE] [--bundle NAME] [--frames N] [--levels X] [--json FILE]

The frames are decoded before, and go through one stream of each kind, in turns of 30 frames, so that what else the
machine does falls on all of them. Told are milliseconds per frame (of the clock, and of the processor), the share
of tiles that was taken, and how near the restored frames are to those that were all restored anew: whole, and in the
same tiles. "static" is the first frame of the video over and over.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from quality import Image, shared

import elir_trt
from elir_trt.backends.openvino import cpu_name
from elir_trt.stream import Stream

TURN = 30


def read(path: Path, count: int) -> list[Image]:
    """The first frames of a video, RGB."""
    capture = cv2.VideoCapture(str(path))
    frames: list[Image] = []
    while len(frames) < count:
        found, frame = capture.read()
        if not found:
            break
        frames.append(np.ascontiguousarray(frame[:, :, ::-1], dtype=np.uint8))
    if not frames:
        raise SystemExit(f"{path} has no frames that OpenCV reads")
    return frames


def decibels(one: Image, other: Image) -> float:
    """PSNR; 99 of equal frames."""
    error = float(np.mean((one.astype(np.float32) - other) ** 2))
    return 99.0 if error == 0.0 else float(10.0 * np.log10(255.0**2 / error))


def run(streams: dict[str, Stream], frames: list[Image]) -> tuple[dict[str, Any], dict[str, list[Image]]]:
    """Times and shares of each stream, and what it restored."""
    taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in streams}
    restored: dict[str, list[Image]] = {name: [] for name in streams}
    for first in range(0, len(frames), TURN):
        for name, stream in streams.items():
            for frame in frames[first : first + TURN]:
                wall, cpu = time.perf_counter(), time.process_time()
                stream.submit(frame)
                result = stream.result()
                taken[name].append(
                    (
                        1e3 * (time.perf_counter() - wall),
                        1e3 * (time.process_time() - cpu),
                        result.reused,
                    )
                )
                restored[name].append(result.frame)
    # The first frames are a warm-up, and nothing is there to be taken.
    report = {}
    for name, rows in taken.items():
        wall_ms, cpu_ms, reused = np.array(rows[2:]).T
        report[name] = {
            "ms": float(np.mean(wall_ms)),
            "median_ms": float(np.median(wall_ms)),
            "cpu_ms": float(np.mean(cpu_ms)),
            "reused": float(np.mean(reused)),
        }
    return report, restored


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--video", type=Path, default=shared() / "videos" / "vtest_480x360_static.avi")
    parser.add_argument("--bundle", default="camera")
    parser.add_argument("--frames", type=int, default=240)
    parser.add_argument("--levels", type=float, default=8.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    frames = read(arguments.video, arguments.frames)
    size = frames[0].shape[:2]
    report: dict[str, Any] = {"cpu": cpu_name(), "size": f"{size[0]}x{size[1]}", "levels": arguments.levels}
    with elir_trt.open(arguments.bundle) as restorer:
        for scene, shown in (("video", frames), ("static", [frames[0]] * (len(frames) // 2))):
            streams = {
                "off": restorer.stream(depth=1, size=size),
                "exact": restorer.stream(depth=1, size=size, still="exact"),
                "levels": restorer.stream(depth=1, size=size, still=arguments.levels),
            }
            measured, restored = run(streams, shown)
            for name in ("exact", "levels"):
                for other in ("off", "exact")[: 1 if name == "exact" else 2]:
                    pairs = zip(restored[name], restored[other], strict=True)
                    measured[name][f"psnr_to_{other}"] = float(np.mean([decibels(*pair) for pair in pairs]))
                for unit in ("ms", "median_ms", "cpu_ms"):
                    measured[name][f"times_{unit}"] = measured["off"][unit] / measured[name][unit]
            report[scene] = measured
            print(scene)
            for name, values in measured.items():
                print(
                    f"  {name}: {', '.join(f'{key} {value:.2f}' for key, value in values.items())}",
                    flush=True,
                )
            for stream in streams.values():
                stream.close()
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
