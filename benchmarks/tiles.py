"""Seams: what tiles leave at their borders on a 4K frame of real photos, against elsewhere.

    python benchmarks/tiles.py [--photos DIR] [--bundle NAME] [--tile N] [--other N] [--steps K] [--json FILE]

The frame is restored twice, cut into tiles of two sizes, whose borders lie at different places. Without seams both
would be equal. The difference is averaged within 8 pixels of the borders of either, and everywhere else; and once
more without blending, each pixel from the last tile that has it. Photos come from DIR, else from
$ELIR_TRT_DATA/clean_photos, else from ../shared/data/clean_photos; they are laid side by side to fill the frame.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from quality import images, read, shared

import elir_trt
from elir_trt._core import Geometry
from elir_trt.degradations import gaussian_noise, to_uint8
from elir_trt.geometry import plan

Image = npt.NDArray[np.uint8]
HEIGHT, WIDTH = 2160, 3840
SIGMA = 25.0
#: Pixels to either side of a border that are counted as at it.
NEAR = 8


def frame_of(photos: Path) -> Image:
    """Photos side by side and below each other, noisy: ``[2160, 3840, 3]``."""
    rows: list[Image] = []
    paths = images(photos)
    taken = 0
    while sum(row.shape[0] for row in rows) < HEIGHT:
        row: list[Image] = []
        while sum(photo.shape[1] for photo in row) < WIDTH:
            photo = read(paths[taken % len(paths)])
            row.append(photo if photo.shape[1] > photo.shape[0] else np.rot90(photo))
            taken += 1
        height = min(photo.shape[0] for photo in row)
        rows.append(np.concatenate([photo[:height] for photo in row], axis=1)[:, :WIDTH])
    clean = np.concatenate(rows)[:HEIGHT]
    return to_uint8(gaussian_noise(clean.astype(np.float32), SIGMA, np.random.default_rng(0)))


class Tiled:
    """A restorer that cuts frames into tiles of one side, whatever its recipe says."""

    def __init__(self, restorer: elir_trt.Restorer, side: int) -> None:
        self.restorer, self.side = restorer, side
        self.bundle, self.engines, self.recipe = restorer.bundle, restorer.engines, restorer.recipe
        self.batch = restorer.batch

    def geometry(self, size: tuple[int, int], *, depth: int = 1) -> Geometry:
        """The layout of tiles."""
        prepare = replace(self.recipe.prepare, mode="tile")
        recipe = replace(self.recipe, prepare=prepare)
        return plan(recipe, size, size=(self.side, self.side))


def restored(restorer: elir_trt.Restorer, frame: Image, side: int, steps: int) -> tuple[Image, Geometry]:
    """The frame, restored in tiles of ``side`` pixels."""
    tiled = Tiled(restorer, side)
    geometry = tiled.geometry((HEIGHT, WIDTH))
    with restorer.stream(depth=1, steps=steps) as stream:
        stream.restorer = tiled
        stream.submit(frame)
        return stream.result(600).frame, geometry


def hard(restorer: elir_trt.Restorer, frame: Image, geometry: Geometry, steps: int) -> Image:
    """The same tiles without blending: each is restored alone and laid over those before it."""
    out = np.empty_like(frame)
    height, width = geometry.engine
    with restorer.stream(depth=1, steps=steps, size=(height, width)) as stream:
        for y, x in geometry.tiles:
            tile = frame[y : y + height, x : x + width]
            missing = (height - tile.shape[0], width - tile.shape[1])
            stream.submit(np.pad(tile, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="reflect"))
            out[y : y + height, x : x + width] = stream.result(600).frame[: tile.shape[0], : tile.shape[1]]
    return out


def border(geometry: Geometry) -> npt.NDArray[np.bool_]:
    """Where pixels lie near a side of a tile, but for the frame's own sides: ``[H, W]``."""
    found = np.zeros(geometry.scaled, bool)
    for axis, (length, tile) in enumerate(zip(geometry.scaled, geometry.engine, strict=True)):
        starts = {corner[axis] for corner in geometry.tiles}
        for edge in starts | {start + tile for start in starts}:
            if 0 < edge < length:
                near = slice(max(0, edge - NEAR), edge + NEAR)
                found[(near, slice(None)) if axis == 0 else (slice(None), near)] = True
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--photos", type=Path, default=shared() / "clean_photos")
    parser.add_argument("--bundle", default="camera")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--other", type=int, default=768)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    frame = frame_of(arguments.photos)
    report: dict[str, Any] = {"tile": arguments.tile, "other": arguments.other, "steps": arguments.steps}
    with elir_trt.open(arguments.bundle, device="cpu") as restorer:
        first, layout = restored(restorer, frame, arguments.tile, arguments.steps)
        second, other = restored(restorer, frame, arguments.other, arguments.steps)
        laid = hard(restorer, frame, layout, arguments.steps)
        report["precision"] = restorer.engines.precision
    near = border(layout) | border(other)
    report["tiles"] = [len(layout.tiles), len(other.tiles)]
    report["at_borders_percent"] = 100.0 * float(near.mean())
    for name, image in (("blended", first), ("hard", laid)):
        difference = np.abs(image.astype(np.int16) - second.astype(np.int16)).mean(axis=2)
        report[name] = {
            "at_borders": float(difference[near].mean()),
            "elsewhere": float(difference[~near].mean()),
            "largest": int(np.abs(image.astype(np.int16) - second.astype(np.int16)).max()),
        }
        print(
            f"{name}: {report[name]['at_borders']:.3f} levels within {NEAR} pixels of a border, "
            f"{report[name]['elsewhere']:.4f} elsewhere, at most {report[name]['largest']}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
