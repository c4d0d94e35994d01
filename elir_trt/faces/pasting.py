"""Pasting: aligned faces back into their frame, under soft masks, so that nothing else changes by a bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from elir_trt.extras import needs
from elir_trt.faces.alignment import SIDE, Matrix, after, inverse
from elir_trt.faces.warping import Floats, quad_bounds, warp

#: Pixels of the aligned face in which its mask rises from 0 at the border to 1.
FEATHER = 64


@dataclass(frozen=True)
class Patch:
    """An aligned face, restored.

    Attributes:
        pixels: ``[512, 512, 3]`` of the frame's type.
        matrix: from the frame's pixels to the face's.
        opacity: how much of it is seen, 0 to 1.
    """

    pixels: npt.NDArray[Any]
    matrix: Matrix
    opacity: float = 1.0


@cache
def soft_mask() -> Floats:
    """``[512, 512, 2]``: how much is seen of an aligned face, and how much it counts where two overlap.

    The first rises as a raised cosine over :data:`FEATHER` pixels and is 1 in the middle. The second is highest in
    the middle: where aligned faces overlap, a pixel is from the one in whose middle it lies, as only that is aligned.
    """
    from_border = np.minimum(np.arange(SIDE), np.arange(SIDE)[::-1])
    seen = 0.5 - 0.5 * np.cos(np.pi * np.clip(from_border / FEATHER, 0.0, 1.0))
    counts = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(SIDE) / (SIDE - 1))) ** 2
    made = np.stack([np.outer(seen, seen), np.outer(counts, counts)], axis=2).astype(np.float32)
    made.setflags(write=False)
    return made


def paste(base: npt.NDArray[Any], patches: Sequence[Patch]) -> npt.NDArray[Any]:
    """A copy of ``base``, ``[H, W, 3]`` uint8 or uint16, with faces in it; in what order they come is the same.

    Pixels that no mask reaches are those of ``base``, bit by bit.
    """
    pasted = base.copy()
    regions = [_region(patch, base.shape[:2]) for patch in patches]
    placed = [(patch, region) for patch, region in zip(patches, regions, strict=True) if region is not None]
    if not placed:
        return pasted
    left, top = (min(region[side] for _, region in placed) for side in (0, 1))
    right, bottom = (max(region[side] for _, region in placed) for side in (2, 3))
    seen = np.zeros((bottom - top, right - left, 1), np.float32)
    total = np.zeros_like(seen)
    faces = np.zeros((bottom - top, right - left, 3), np.float32)
    for patch, (x, y, x_end, y_end) in placed:
        back = after(np.array([[1.0, 0.0, -x], [0.0, 1.0, -y]]), inverse(patch.matrix))
        size = (y_end - y, x_end - x)
        mask = _warped_mask(back, size) * np.float32(patch.opacity)
        within = (slice(y - top, y_end - top), slice(x - left, x_end - left))
        share = mask[:, :, :1] * mask[:, :, 1:]
        seen[within] = np.maximum(seen[within], mask[:, :, :1])
        total[within] += share
        faces[within] += share * warp(patch.pixels.astype(np.float32), back, size)
    region = (slice(top, bottom), slice(left, right))
    before = base[region].astype(np.float32)
    # Where nothing counts nothing is seen: what is divided there is multiplied by 0.
    known = total > 1e-12
    mixed = before + np.where(known, seen, 0) * (faces / np.where(known, total, 1) - before)
    most = np.iinfo(base.dtype).max
    pasted[region] = np.clip(np.rint(mixed), 0, most).astype(base.dtype)
    return pasted


def _region(patch: Patch, size: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of the frame's part that a face lies in; None: it lies outside."""
    left, top, right, bottom = quad_bounds(inverse(patch.matrix), (SIDE, SIDE))
    x, y = max(0, math.floor(left)), max(0, math.floor(top))
    x_end, y_end = min(size[1], math.ceil(right) + 1), min(size[0], math.ceil(bottom) + 1)
    return (x, y, x_end, y_end) if x < x_end and y < y_end and patch.opacity > 0 else None


def _warped_mask(back: Matrix, size: tuple[int, int]) -> Floats:
    with needs("cv2", extra="faces", what="restoring faces"):
        import cv2
    warped = cv2.warpAffine(soft_mask(), back, size[::-1], flags=cv2.INTER_LINEAR, borderValue=0)
    return np.asarray(warped, dtype=np.float32)
