"""Faces of real scenes: how many are found and restored, how well they align, and what it takes.

    python benchmarks/faces.py [--data DIR] [--yunet FILE] [--bundle NAME] [--frames N] [--sheet FILE] [--json FILE]

Scenes are the pictures of DIR/degraded_scenes and N frames, evenly spaced, of each film of DIR/videos; two films are
also followed frame by frame from their start, which gives the jitter: the median over frames of how far landmarks lie
from the mean of the frames before and after, in distances between the eyes, as the detector gives them and smoothed.
DIR is $ELIR_TRT_DATA, else ../shared/data; --yunet is by default the file in ../shared/models, if there is one.
--bundle stands in for one of faces: the sheet shows a frame with faces of each scene before and after.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from quality import ROOT, images, read, shared

import elir_trt
from elir_trt.backends.openvino import cpu_name
from elir_trt.faces import Detector, Face, Gates, open_detector
from elir_trt.faces.alignment import SIDE, inverse
from elir_trt.faces.pasting import Patch, paste, soft_mask
from elir_trt.faces.tracking import Tracker, single_faces
from elir_trt.faces.warping import cut_out

Frame = npt.NDArray[np.uint8]
FILMS = (
    "carphone_176x144_face.mp4",
    "talking_face_512x512_audio.mp4",
    "phone_374x666_vfr_audio.mp4",
    "pancake_426x240_audio.mkv",
    "bikes_640x272_cuts.mp4",
    "vtest_480x360_static.avi",
    "nasa_multistream.mp4",
)
FOLLOWED = 30
#: Of a mask: what is less is the seam.
SEAM = 0.1


def film(path: Path) -> Iterator[tuple[float, Frame]]:
    """Seconds and pixels of each frame."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield float(frame.time or 0.0), frame.to_ndarray(format="rgb24")


def identity_error(frame: Frame, face: Face) -> tuple[int, int]:
    """Largest difference outside and at the seam, in levels, after the face is pasted as it was cut out."""
    assert face.alignment is not None
    aligned = np.clip(np.rint(cut_out(frame, face.alignment.matrix, (SIDE, SIDE))), 0, 255).astype(np.uint8)
    pasted = paste(frame, [Patch(aligned, face.alignment.matrix)])
    difference = np.abs(pasted.astype(int) - frame).max(axis=2)
    back = inverse(face.alignment.matrix)
    mask = cv2.warpAffine(soft_mask()[:, :, 0], back, frame.shape[1::-1], flags=cv2.INTER_LINEAR)
    outside, seam = mask == 0, (mask > 0) & (mask < SEAM)
    return int(difference[outside].max(initial=0)), int(difference[seam].max(initial=0))


def measure(detector: Detector, frames: list[Frame]) -> dict[str, Any]:
    """What is found in frames that stand alone."""
    faces: list[tuple[Frame, Face]] = []
    times = []
    for frame in frames:
        begun = time.perf_counter()
        found = detector.detect(frame)
        times.append(time.perf_counter() - begun)
        faces += [(frame, face) for face in single_faces(found, Gates())]
    restored = [(frame, face) for frame, face in faces if face.restored]
    residuals = [face.alignment.residual for _, face in faces if face.alignment is not None]
    errors = [identity_error(frame, face) for frame, face in restored]
    left = [face.reason.split()[1] for _, face in faces if face.reason]
    return {
        "frames": len(frames),
        "found": len(faces),
        "restored": len(restored),
        "left": {word: left.count(word) for word in sorted(set(left))},
        "residuals": sorted(round(residual, 3) for residual in residuals),
        "outside_levels": max((outside for outside, _ in errors), default=None),
        "seam_levels": max((seam for _, seam in errors), default=None),
        "detect_ms": round(1e3 * float(np.median(times)), 1),
    }


def jitter(detector: Detector, path: Path) -> dict[str, float] | None:
    """Of the landmarks of a film's first face, as found and smoothed; None: it is not there all the time."""
    tracker = Tracker(Gates(min_score=0.5, max_residual=1.0))
    raw, smooth = [], []
    for (seconds, frame), _ in zip(film(path), range(FOLLOWED), strict=False):
        found = detector.detect(frame)
        faces = tracker.update(found, frame, seconds)
        if not found or not faces or faces[0].track != 0:
            return None
        own = min(found, key=lambda one: float(np.abs(one.landmarks - faces[0].landmarks).mean()))
        raw.append(own.landmarks)
        smooth.append(faces[0].landmarks)
    return {"found": _second_difference(raw), "smoothed": _second_difference(smooth)}


def _second_difference(landmarks: list[npt.NDArray[np.float64]]) -> float:
    points = np.stack(landmarks)
    eyes = float(np.linalg.norm(points[:, 1] - points[:, 0], axis=1).mean())
    bends = points[1:-1] - (points[:-2] + points[2:]) / 2
    return round(float(np.median(np.linalg.norm(bends, axis=2))) / eyes, 4)


def sheet(detector: Detector, bundle: str, scenes: dict[str, list[Frame]], target: Path) -> None:
    """The first frame with a face of each scene, before and after, at 100 %."""
    pairs = []
    with elir_trt.open(bundle) as restorer, restorer.faces(detector=detector) as faces:
        for frames in scenes.values():
            frame = next((one for one in frames if any(face.restored for face in faces.find(one))), None)
            if frame is not None:
                pairs.append(np.hstack([frame, faces(frame)]))
    width = max(pair.shape[1] for pair in pairs)
    rows = [np.pad(pair, ((0, 8), (0, width - pair.shape[1]), (0, 0))) for pair in pairs]
    cv2.imwrite(str(target), np.vstack(rows)[:, :, ::-1])


def main() -> None:
    """Measure, print tables in Markdown; a scene in which a detector finds nothing has no row of its."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=shared())
    parser.add_argument(
        "--yunet", type=Path, default=ROOT.parent / "shared/models/face_detection_yunet_2026may.onnx"
    )
    parser.add_argument("--bundle", default="camera")
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    scenes = {path.name: [read(path)] for path in images(arguments.data / "degraded_scenes")}
    for name in FILMS:
        path = arguments.data / "videos" / name
        if path.is_file():
            all_frames = [frame for _, frame in film(path)]
            scenes[name] = [
                all_frames[n] for n in np.linspace(0, len(all_frames) - 1, arguments.frames, dtype=int)
            ]
    detectors = {"MTCNN": open_detector()}
    if arguments.yunet.is_file():
        detectors["YuNet"] = open_detector(arguments.yunet)
    report: dict[str, Any] = {"cpu": cpu_name(), "scenes": {}, "jitter": {}}
    print("| scene | detector | frames | found | restored | left for | residual | outside, seam | ms |")
    print("|---|---|---|---|---|---|---|---|---|")
    for scene, frames in scenes.items():
        for name, detector in detectors.items():
            row = measure(detector, frames)
            report["scenes"].setdefault(scene, {})[name] = row
            if not row["found"]:
                continue
            left = ", ".join(f"{count} {word}" for word, count in row["left"].items())
            residuals = row["residuals"]
            residual = " to ".join(dict.fromkeys(f"{one:.2f}" for one in residuals[:1] + residuals[-1:]))
            levels = "" if not row["restored"] else f"{row['outside_levels']}, {row['seam_levels']}"
            print(
                f"| {scene} | {name} | {row['frames']} | {row['found']} | {row['restored']} | {left} | "
                f"{residual} | {levels} | {row['detect_ms']:.0f} |",
                flush=True,
            )
    print("\n| film | detector | jitter as found | smoothed |\n|---|---|---|---|")
    for film_name in FILMS[:2]:
        for name, detector in detectors.items():
            path = arguments.data / "videos" / film_name
            found = jitter(detector, path) if path.is_file() else None
            if found is not None:
                report["jitter"].setdefault(film_name, {})[name] = found
                print(
                    f"| {film_name} | {name} | {found['found']:.4f} | {found['smoothed']:.4f} |", flush=True
                )
    if arguments.sheet is not None:
        sheet(detectors.get("YuNet", detectors["MTCNN"]), arguments.bundle, scenes, arguments.sheet)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
