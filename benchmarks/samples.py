"""Real photos, degraded, restored without and with steps, and clean, as one PNG to look at.

python benchmarks/samples.py OUT.png [--photos DIR] [--bundle DIR]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from quality import degraded, images, read, shared

import elir_trt
from elir_trt.training.sheets import sample_sheet

#: Names of photos, what is done to them, and the crop's top left corner.
ROWS = (
    ("kodim05.png", "sigma 25", (150, 300)),
    ("kodim23.png", "sigma 50", (30, 100)),
    ("kodim04.png", "sigma 89.6", (150, 120)),
    ("kodim08.png", "JPEG 10", (150, 200)),
)
HEIGHT, WIDTH = 192, 256


def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("--photos", type=Path, default=shared() / "clean_photos")
    parser.add_argument("--bundle", default="camera")
    arguments = parser.parse_args()
    found = {path.name: path for path in images(arguments.photos)}
    restorer = elir_trt.open(arguments.bundle)
    default = restorer.recipe.default_steps
    rungs = sorted({0, default or restorer.recipe.steps})
    rows = []
    for name, column, (y, x) in ROWS:
        path = found.get(name) or next(iter(found.values()))
        clean = read(path)
        fed = degraded(path, clean)[column][0]
        row = [fed]
        for steps in rungs:
            with restorer.stream(steps=steps) as stream:
                stream.submit(fed)
                row.append(stream.result().frame)
        row.append(clean)
        rows.append([np.ascontiguousarray(image[y : y + HEIGHT, x : x + WIDTH]) for image in row])
    sample_sheet(rows, arguments.out)


if __name__ == "__main__":
    main()
