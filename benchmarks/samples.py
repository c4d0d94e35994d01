"""Sheets of real photos to look at: what differs most between restorers, at 100 %, for each kind of damage.

    python benchmarks/samples.py FOLDER [--photos DIR] [--bundle DIR] [--only COLUMN ...]

A sheet FOLDER/camera_COLUMN.jpg for each damage; a row for each subject: damaged, restored without a step and with
each number of steps, and the photo.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from quality import degraded, images, read, shared

import elir_trt
from elir_trt.training.sheets import sample_sheet

#: A photo of each subject, and the crop's top left corner.
SUBJECTS = {
    "skin": ("kodim15.png", (130, 330)),
    "hair": ("kodim04.png", (300, 150)),
    "cloth": ("kodim04.png", (560, 60)),
    "foliage": ("kodim13.png", (150, 250)),
    "text": ("kodim10.png", (20, 130)),
    "dark wall": ("kodim17.png", (0, 0)),
    "sky": ("kodim16.png", (60, 300)),
}
#: Damage, as benchmarks/quality.py names it.
COLUMNS = ("clean", "sigma 15", "sigma 50", "JPEG 10", "camera a=.03 q90", "H.264 37")
HEIGHT, WIDTH = 160, 224


def main() -> None:
    """Write the sheets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=Path, default=shared() / "clean_photos")
    parser.add_argument("--bundle", default="camera")
    parser.add_argument("--only", nargs="+", choices=COLUMNS, default=COLUMNS)
    arguments = parser.parse_args()
    found = {path.name: path for path in images(arguments.photos)}
    sheets: dict[str, list[list[np.ndarray]]] = {column: [] for column in arguments.only}
    with elir_trt.open(arguments.bundle) as restorer:
        for name, (y, x) in SUBJECTS.values():
            clean = read(found[name])
            columns = degraded(found[name], clean)
            for column, rows in sheets.items():
                row = [columns[column][0]]
                for steps in range(restorer.recipe.steps + 1):
                    row.append(restorer(row[0], steps=steps))
                cut = (slice(y, y + HEIGHT), slice(x, x + WIDTH))
                rows.append([np.ascontiguousarray(image[cut]) for image in (*row, clean)])
    for column, rows in sheets.items():
        name = column.replace(" ", "_").replace("=", "").replace(".", "")
        sample_sheet(rows, arguments.folder / f"camera_{name}.jpg")


if __name__ == "__main__":
    main()
