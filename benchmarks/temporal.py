"""Flicker: restored videos with and without the temporal stage, beside FFmpeg's temporal filter after the restorer.

    python benchmarks/temporal.py [--data DIR] [--bundle NAME] [--photos N] [--frames N] [--json FILE]

Still scenes are photos under noise that is fresh in every frame (sigma 25, clipped to 8 bits, fixed seeds): the
standard deviation over time of the restored pixels, the same of means over 8x8 pixels (blotches), and PSNR. Moving
scenes are the clips of DIR/videos, cuts included, under noise: mean PSNR, that of the worst frame, and the largest
loss of a frame. The peer is FFmpeg's atadenoise with its defaults. DIR is $ELIR_TRT_DATA, else ../shared/data.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from quality import images, read, shared

import elir_trt
from elir_trt.backends.openvino import cpu_name
from elir_trt.degradations import gaussian_noise, to_uint8
from elir_trt.metrics import psnr

Frames = npt.NDArray[np.uint8]
SIDE = 512
STILL_SIGMA = 25.0
SIGMAS = (0.0, 10.0, 25.0)
#: Clips and how many of their frames are taken, from which on.
CLIPS = {
    "carphone_176x144_face.mp4": (0, 60),
    "bikes_640x272_cuts.mp4": (0, 90),
    "dog_848x464_audio.mp4": (20, 40),
    "vtest_480x360_static.avi": (0, 60),
    "pancake_426x240_audio.mkv": (0, 60),
}
MODES = ("off", "auto", "atadenoise")


def clip(path: Path, first: int, count: int) -> Frames:
    """``[count, H, W, 3]`` of a video."""
    frames: list[Frames] = []
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index >= first:
                frames.append(frame.to_ndarray(format="rgb24"))
            if len(frames) == count:
                break
    return np.stack(frames)


def noisy(frames: Iterable[Frames], sigma: float, seed: int) -> list[Frames]:
    """Fresh noise on each."""
    rng = np.random.default_rng([seed, int(10 * sigma)])
    return [to_uint8(gaussian_noise(frame.astype(np.float32), sigma, rng)) for frame in frames]


def atadenoise(frames: Frames) -> Frames:
    """FFmpeg's adaptive temporal averaging, with its defaults."""
    graph = av.filter.Graph()
    height, width = frames.shape[1:3]
    source = graph.add_buffer(width=width, height=height, format="gbrp", time_base="1/25")
    filtered, sink = graph.add("atadenoise"), graph.add("buffersink")
    source.link_to(filtered)
    filtered.link_to(sink)
    graph.configure()
    out: list[Frames] = []

    def pull() -> None:
        while True:
            try:
                out.append(graph.pull().reformat(format="rgb24").to_ndarray())
            except (BlockingIOError, EOFError):
                return

    for index, frame in enumerate(frames):
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="gbrp")
        picture.pts = index
        graph.push(picture)
        pull()
    graph.push(None)
    pull()
    return np.stack(out)


def restored(restorer: elir_trt.Restorer, frames: list[Frames], mode: str) -> tuple[Frames, float]:
    """Restored frames, and the median milliseconds of the temporal stage."""
    temporal: Any = "auto" if mode == "auto" else "off"
    with restorer.stream(depth=2, temporal=temporal) as stream:
        results = [(result.frame.copy(), result.stages.get("temporal", 0.0)) for result in stream.map(frames)]
    found = np.stack([frame for frame, _ in results])
    return (atadenoise(found) if mode == "atadenoise" else found), float(np.median([ms for _, ms in results]))


def still(found: Frames, clean: Frames) -> dict[str, float]:
    """Standard deviations over time in levels, and PSNR in dB."""
    low = np.stack([cv2.blur(frame.astype(np.float32), (8, 8))[4::8, 4::8] for frame in found])
    return {
        "std": float(found.std(axis=0).mean()),
        "low": float(low.std(axis=0).mean()),
        "psnr": float(np.mean([psnr(clean, frame) for frame in found])),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=shared())
    parser.add_argument("--bundle", default="camera")
    parser.add_argument("--photos", type=int, default=6)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    report: dict[str, Any] = {"cpu": cpu_name(), "still": {}, "moving": {}}
    photos = [
        photo for photo in images(arguments.data / "clean_photos") if min(read(photo).shape[:2]) >= SIDE
    ]
    chosen = [photos[i] for i in np.linspace(0, len(photos) - 1, arguments.photos).astype(int)]
    with elir_trt.open(arguments.bundle) as restorer:
        rows: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
        for photo in chosen:
            whole = read(photo)
            top, left = (whole.shape[0] - SIDE) // 2, (whole.shape[1] - SIDE) // 2
            clean = np.ascontiguousarray(whole[top : top + SIDE, left : left + SIDE])
            frames = noisy([clean] * arguments.frames, STILL_SIGMA, zlib.crc32(photo.name.encode()))
            for mode in MODES:
                found, ms = restored(restorer, frames, mode)
                rows[mode].append({**still(found, clean), "ms": ms})
        for mode in MODES:
            mean = {key: float(np.mean([row[key] for row in rows[mode]])) for key in rows[mode][0]}
            report["still"][mode] = mean
            print(
                f"still  {mode:11s}",
                " ".join(f"{key} {value:.2f}" for key, value in mean.items()),
                flush=True,
            )
        for name, (first, count) in CLIPS.items():
            scene = clip(arguments.data / "videos" / name, first, count)
            for sigma in SIGMAS:
                frames = noisy(scene, sigma, zlib.crc32(name.encode())) if sigma else list(scene)
                alone: list[float] = []
                for mode in MODES:
                    found, _ = restored(restorer, frames, mode)
                    values = [psnr(a, b) for a, b in zip(scene, found, strict=True)]
                    alone = alone or values
                    row = {
                        "mean": float(np.mean(values)),
                        "worst": min(values),
                        "most_lost": float(max(a - b for a, b in zip(alone, values, strict=True))),
                    }
                    report["moving"][f"{name} sigma {sigma:g} {mode}"] = row
                    print(
                        f"{name[:20]:20s} sigma {sigma:2g} {mode:10s} PSNR {row['mean']:.2f} "
                        f"worst {row['worst']:.2f} most lost {row['most_lost']:+.2f}",
                        flush=True,
                    )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
