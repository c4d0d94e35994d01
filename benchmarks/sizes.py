"""Time and memory of frames of any size, from 16x16 to 8K, before and after a change, and what is left of seams.

    python benchmarks/sizes.py [--before PYTHON] [--max-memory 2GB] [--cases 4k,8k] [--seams] [--json FILE]

Each case is a process of its own that restores a file as ``elir-trt run`` does, with the engines that this machine
chose before (``elir-trt tune camera --full``). Its peak is the resident memory that the kernel counted. ``--before``
is a Python that has another version of the package: the cases are run by both, in turns. ``cpu_s`` is the processor
time of all threads, which other work on the machine changes little.

``--seams`` restores a frame of photos whole and in tiles, and averages the difference near the tiles' borders and
elsewhere; and a gradient of grey, in which a seam would show first.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
CASES = {
    "16x16": (16, 16, 1),
    "640x360": (360, 640, 1),
    "1080p": (1080, 1920, 1),
    "4k": (2160, 3840, 1),
    "8k": (4320, 7680, 1),
    "16k": (8640, 15360, 1),
    "4k clip": (2160, 3840, 8),
}
#: Seconds after which a case is given up.
PATIENCE_S = 280.0
#: Pixels to either side of a border that are counted as at it.
NEAR = 8


def picture(height: int, width: int) -> Image:
    """Smooth colours and noise of sigma 10: ``[height, width, 3]``."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    base = 128 + 80 * np.sin(x / 37) * np.cos(y / 23)
    noise = rng.normal(0, 10, (512, 512)).astype(np.float32)
    base += np.tile(noise, (height // 512 + 1, width // 512 + 1))[:height, :width]
    return np.repeat(base.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def write_case(folder: Path, case: str) -> Path:
    """The file of a case."""
    height, width, frames = CASES[case]
    image = picture(height, width)
    if frames == 1:
        from elir_trt.io import write_image

        write_image(folder / "in.png", image)
        return folder / "in.png"
    import av

    with av.open(str(folder / "in.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return folder / "in.mp4"


_CHILD = """
import json, resource, sys, time
began = time.perf_counter()
import elir_trt
from elir_trt.io import restore_path
options = {"max_memory": sys.argv[3]} if sys.argv[3] else {}
with elir_trt.open("camera", device="cpu", **options) as restorer:
    report = restore_path(restorer, sys.argv[1], sys.argv[2], overwrite=True)
    precision = restorer.engines.precision
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "seconds": round(time.perf_counter() - began, 2),
    "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
    "peak_mb": round(usage.ru_maxrss / 1000 * 1.024),
    "frames": report.frames, "precision": precision,
}))
"""


def measure(python: str, source: Path, max_memory: str | None) -> dict[str, Any]:
    """Restore a file in a process of its own."""
    target = source.with_name(f"out{source.suffix}")
    began = time.perf_counter()
    try:
        done = subprocess.run(
            [python, "-P", "-c", _CHILD, str(source), str(target), max_memory or ""],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        return {"seconds": round(time.perf_counter() - began, 2), "ended": False}
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1]}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def seams(tile_pixels: int, steps: int, tune: str) -> dict[str, Any]:
    """Levels of difference between a frame restored whole and in tiles, near borders and elsewhere."""
    from quality import shared
    from tiles import border, frame_of

    import elir_trt
    from elir_trt.geometry import plan

    # A multiple of what the network takes: padding would be another difference.
    height, width = 1088, 1920
    y, x = np.mgrid[0:height, 0:width]
    grey = (60 + 100 * x / width + 40 * y / height).round().astype(np.uint8)
    frames = {
        "photos": np.ascontiguousarray(frame_of(shared() / "clean_photos")[:height, :width]),
        "gradient": np.repeat(grey[:, :, None], 3, axis=2),
    }
    found: dict[str, Any] = {"tile_pixels": tile_pixels, "steps": steps}
    with elir_trt.open("camera", device="cpu", tune=tune) as restorer:
        layout = plan(restorer.recipe, (height, width), size=restorer.recipe.size, tile_pixels=tile_pixels)
        found.update(precision=restorer.engines.precision, tile=list(layout.engine), tiles=len(layout.tiles))
        whole = {name: restorer(frame, steps=steps) for name, frame in frames.items()}
        restorer.geometry = lambda size, *, depth=1: layout  # type: ignore[method-assign]
        with restorer.stream(depth=1, steps=steps) as stream:
            for name, frame in frames.items():
                stream.submit(frame)
                tiled = stream.result(600).frame.astype(np.int16)
                difference = np.abs(tiled - whole[name])
                near = border(layout)
                found[name] = {
                    "at_borders": round(float(difference[near].mean()), 4),
                    "elsewhere": round(float(difference[~near].mean()), 4),
                    "largest": int(difference.max()),
                }
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--before", help="a Python that has the version to compare with")
    parser.add_argument("--cases", default="16x16,640x360,1080p,4k,8k,4k clip")
    parser.add_argument("--max-memory", default="2GB", help="of a third run of each case")
    parser.add_argument("--seams", action="store_true")
    parser.add_argument("--tile-pixels", type=int, default=300_000)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument(
        "--tune", default="off", help='of seams: "off" is float32, whose differences are tiles\' alone'
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    from elir_trt.backends.openvino import cpu_name
    from elir_trt.cpu import available_cpus

    report: dict[str, Any] = {"cpu": cpu_name(), "cpus": available_cpus(), "cases": {}}
    if arguments.seams:
        report["seams"] = seams(arguments.tile_pixels, arguments.steps, arguments.tune)
        print(report["seams"], flush=True)
    for case in filter(None, arguments.cases.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            source = write_case(Path(folder), case)
            rows = report["cases"][case] = {}
            if arguments.before:
                rows["before"] = measure(arguments.before, source, None)
            rows["after"] = measure(sys.executable, source, None)
            rows[f"after, {arguments.max_memory}"] = measure(sys.executable, source, arguments.max_memory)
            for name, row in rows.items():
                print(f"{case}, {name}: {row}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
