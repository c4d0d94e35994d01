"""Frames as a task sees them, to calibrate with and to compare on: the user's pictures, degraded, or procedural ones.

Quantization measures ranges, so its data has to look like what comes later. Random numbers have other ranges than
pictures and are refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from elir_trt.degradations import TASKS
from elir_trt.errors import CalibrationError
from elir_trt.io.images import read_image
from elir_trt.io.paths import READABLE_IMAGES
from elir_trt.procedural import dead_leaves
from elir_trt.recipe import Recipe

Image = npt.NDArray[np.uint8]
#: A folder, an image, a video, or arrays ``[H, W, 3]``: uint8, or floats in [0, 1].
Source = Path | Sequence[npt.NDArray[Any]]

#: Fewest frames that say something about ranges, and how many are taken from a longer source.
LEAST, MOST = 4, 12
#: Shortest side of a frame, in pixels.
SHORTEST = 64
#: Standard deviation, in levels of 255, below which a frame shows nothing.
FLAT = 1.0
#: Correlation of neighbouring pixels below which a frame is noise. Photos have 0.9 and more; with noise of sigma 100
#: they still have 0.1.
RANDOM = 0.05


@dataclass(frozen=True)
class Samples:
    """Frames to calibrate with, and others to measure on.

    Attributes:
        frames: degraded frames of the engines' size, ``[H, W, 3]`` uint8.
        held_out: more of them, which quantization does not see.
        clean: what ``held_out`` was made of.
        digest: SHA-256 over all of them.
        source: what they were made from, for people.
    """

    frames: list[Image]
    held_out: list[Image]
    clean: list[Image]
    digest: str
    source: str


def load_samples(
    recipe: Recipe, size: tuple[int, int], source: Source | None = None, *, count: int = MOST, seed: int = 0
) -> Samples:
    """Take a spread of frames, lay them on the engines' size and degrade them as the task's are.

    Args:
        recipe: its task names the degradation; a task that has none gets the frames as they are.
        size: height and width of the frames.
        source: clean frames; None: procedural ones.
        count: frames to take, a third of which is held out.
        seed: of crops and degradations.

    Raises:
        CalibrationError: too few frames, or they are flat, random, too small, or hold NaN; the message names the
            file or the array, what was found and what is expected.
    """
    rng = np.random.default_rng([seed, 3])
    named = list(_procedural(size, count, rng) if source is None else _spread(_frames(source), count))
    where = "procedural images" if source is None else str(source) if isinstance(source, Path) else "arrays"
    good = [(name, frame) for name, frame in named if float(frame.std()) >= FLAT]
    for name, frame in good:
        _check(name, frame)
    if len(good) < LEAST:
        flat = (
            f" ({len(named) - len(good)} of {len(named)} are of one colour)" if len(good) < len(named) else ""
        )
        raise CalibrationError(
            f"calibration from {where}: {len(good)} usable frames{flat}; at least {LEAST} are needed"
        )
    degrade = TASKS.get(recipe.task)
    laid = [_fit_to_engine(frame, size, recipe.prepare.mode == "fit", rng) for _, frame in good]
    fed = [frame if degrade is None else degrade(frame, rng) for frame in laid]
    aside = max(2, len(fed) // 3) if len(fed) > LEAST else 1
    digest = hashlib.sha256()
    for frame in fed:
        digest.update(frame.tobytes())
    return Samples(fed[aside:], fed[:aside], laid[:aside], digest.hexdigest(), where)


def _check(name: str, frame: Image) -> None:
    height, width = frame.shape[:2]
    if min(height, width) < SHORTEST:
        raise CalibrationError(
            f"calibration: {name} is {width}x{height}; at least {SHORTEST} a side are needed"
        )
    gray = frame.astype(np.float64).mean(axis=2)
    gray -= gray.mean()
    power = float(np.mean(gray * gray))
    beside = float(np.mean(gray[:, 1:] * gray[:, :-1])) / max(power, 1e-12)
    below = float(np.mean(gray[1:] * gray[:-1])) / max(power, 1e-12)
    if max(beside, below) < RANDOM:
        raise CalibrationError(
            f"calibration: {name} is random: neighbouring pixels have a correlation of {max(beside, below):.3f}, "
            "those of pictures 0.9; use pictures"
        )


def _frames(source: Source) -> Iterator[tuple[str, Image]]:
    if not isinstance(source, Path):
        for index, array in enumerate(source):
            yield f"array {index}", _as_frame(f"array {index}", np.asarray(array))
        return
    if not source.exists():
        raise CalibrationError(f"calibration: {source}: no such file or folder")
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.suffix.lower() in READABLE_IMAGES:
                yield str(path), read_image(path).rgb
    elif source.suffix.lower() in READABLE_IMAGES:
        yield str(source), read_image(source).rgb
    else:
        from elir_trt.io.reader import VideoReader

        with VideoReader(source) as video:
            for index, frame in enumerate(video):
                yield f"{source}, frame {index}", frame.pixels


def _as_frame(name: str, array: npt.NDArray[Any]) -> Image:
    if array.ndim != 3 or array.shape[2] != 3:
        shape = "x".join(str(side) for side in array.shape)
        raise CalibrationError(f"calibration: {name} is of shape {shape}; expected HxWx3")
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise CalibrationError(f"calibration: {name} is {array.dtype}; expected uint8, or floats in [0, 1]")
    if not np.isfinite(array).all():
        raise CalibrationError(f"calibration: {name} holds NaN or infinity; expected numbers in [0, 1]")
    if array.min() < 0 or array.max() > 1:
        raise CalibrationError(
            f"calibration: {name} has values from {array.min():g} to {array.max():g}; expected [0, 1]"
        )
    return np.asarray(np.rint(255.0 * array), dtype=np.uint8)


def _spread(frames: Iterator[tuple[str, Image]], count: int) -> Iterator[tuple[str, Image]]:
    """About ``count`` of them, evenly spread, without knowing how many there are."""
    kept: list[tuple[str, Image]] = []
    every = 1
    for index, frame in enumerate(frames):
        if index % every == 0:
            kept.append(frame)
        if len(kept) >= 2 * count:
            kept, every = kept[::2], 2 * every
    if not kept:
        return iter([])
    chosen = np.linspace(0, len(kept) - 1, min(count, len(kept))).round().astype(int)
    return iter([kept[int(index)] for index in chosen])


def _procedural(size: tuple[int, int], count: int, rng: np.random.Generator) -> Iterator[tuple[str, Image]]:
    side = min(max(size), 256)
    for index in range(count):
        image = dead_leaves(side, rng)
        yield (
            f"procedural image {index}",
            np.asarray(
                cv2.resize(image, (max(size), max(size)), interpolation=cv2.INTER_CUBIC), dtype=np.uint8
            ),
        )


def _fit_to_engine(frame: Image, size: tuple[int, int], fit: bool, rng: np.random.Generator) -> Image:
    height, width = size
    if fit:
        return np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    missing = [max(0, want - have) for want, have in zip(size, frame.shape[:2], strict=True)]
    padded = np.pad(frame, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="reflect")
    y = int(rng.integers(padded.shape[0] - height + 1))
    x = int(rng.integers(padded.shape[1] - width + 1))
    return np.ascontiguousarray(padded[y : y + height, x : x + width])
