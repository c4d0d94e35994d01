"""Pictures of how training goes: before and after, and the losses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]


def sample_sheet(rows: Sequence[Sequence[Image]], path: Path, gap: int = 4) -> None:
    """Write images of one size as one picture, a row each: what was fed, what came out, what it should be."""
    joined = [np.concatenate([np.pad(i, ((0, gap), (0, gap), (0, 0))) for i in row], axis=1) for row in rows]
    sheet = np.concatenate(joined, axis=0)
    cv2.imwrite(str(path), np.ascontiguousarray(sheet[:-gap, :-gap, ::-1]))


def loss_plot(lines: Sequence[dict[str, float]], names: Sequence[str], path: Path) -> None:
    """Write the losses over the steps as a PNG; the vertical axis is logarithmic."""
    width, height, margin = 800, 400, 50
    image = np.full((height, width, 3), 255, np.uint8)
    colours = [(180, 60, 20), (20, 120, 20), (20, 20, 200), (160, 20, 160), (20, 140, 200)]
    values = np.array([[max(line.get(name, 0.0), 1e-9) for name in names] for line in lines])
    steps = np.array([line["step"] for line in lines], dtype=np.float64)
    low, high = float(np.log10(values.min())), float(np.log10(values.max()) + 1e-6)
    across = margin + (steps - steps[0]) / max(steps[-1] - steps[0], 1.0) * (width - 2 * margin)
    for index, name in enumerate(names):
        up = height - margin - (np.log10(values[:, index]) - low) / (high - low) * (height - 2 * margin)
        points = np.stack([across, up], axis=1).round().astype(np.int32)
        colour = colours[index % len(colours)]
        cv2.polylines(image, [points], False, colour, 2, cv2.LINE_AA)
        cv2.putText(
            image, name, (margin + 110 * index, 25), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA
        )
    grey = (90, 90, 90)
    for text, at in ((f"{10**high:.3g}", (4, margin)), (f"{10**low:.3g}", (4, height - margin))):
        cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, grey, 1, cv2.LINE_AA)
    label = f"step {int(steps[-1])}"
    cv2.putText(
        image, label, (width - 2 * margin, height - 15), cv2.FONT_HERSHEY_SIMPLEX, 0.4, grey, 1, cv2.LINE_AA
    )
    cv2.imwrite(str(path), image)
