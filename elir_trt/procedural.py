"""Images that are made, where there are no photos."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Pixels = npt.NDArray[np.float32]


def dead_leaves(size: int, rng: np.random.Generator) -> Image:
    """A dead leaves image ``[size, size, 3]``: shapes of power-law size, each hiding what is behind it.

    Source: Lee, Mumford, Huang, "Occlusion Models for Natural Images", IJCV 2001. Leaves carry a gradient or a
    texture, and the picture is slightly blurred, so that edges are not all ideal.
    """
    image: Pixels = np.full((size, size, 3), rng.uniform(0, 255, 3), dtype=np.float32)
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
    # Radii with density r^-3 between 3 pixels and half the picture.
    radii = 3.0 / np.sqrt(1.0 - rng.uniform(0, 1 - (6.0 / size) ** 2, 60 + size // 2))
    for radius in radii:
        y, x = rng.uniform(0, size, 2)
        mask = np.zeros((size, size), np.uint8)
        if rng.random() < 0.5:
            axes = (int(radius) + 1, int(radius * rng.uniform(0.3, 1)) + 1)
            cv2.ellipse(mask, (int(x), int(y)), axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
        else:
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
            corners = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1)
            cv2.fillPoly(mask, [corners.astype(np.int32)], 1)
        colour = rng.uniform(0, 255, 3).astype(np.float32)
        kind = rng.random()
        if kind < 0.4:
            fill = np.broadcast_to(colour, image.shape)
        elif kind < 0.7:
            slope = rng.normal(0, 40 / size, 2)
            shade = slope[0] * (rows - y) + slope[1] * (columns - x)
            fill = colour + shade[:, :, None].astype(np.float32)
        else:
            wave = rng.uniform(0.1, 1.2, 2)
            texture = np.sin(rows * wave[0] + columns * wave[1]) * rng.uniform(5, 40)
            fill = colour + texture[:, :, None].astype(np.float32)
        image = np.where(mask[:, :, None] > 0, fill, image)
    blurred = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.3, 0.9)))
    return np.clip(np.rint(blurred), 0, 255).astype(np.uint8)
