"""Still regions: what a stream is asked about tiles whose input did not change.

The core finds them (csrc/still.hpp). Here is what the option means, and which tiles frames are cut into for it.
"""

from __future__ import annotations

from numbers import Real
from typing import Any, Literal

from elir_trt.tiling import Grid, starts, up

#: "off"; "exact": tiles whose input is the same to the bit; or how many levels a block of 8x8 pixels may differ.
Still = Literal["off", "exact"] | float
#: Most levels, of 255.
MOST_LEVELS = 64.0
#: Side that tiles have about. Smaller ones save more of a frame in which little moves, and share more.
TILE = 64
#: Pixels that neighbours share. Fewer than recipes ask for: what is shared is computed twice (docs/still.md).
OVERLAP = 8
#: Tiles that go through the engines together, where these take any number: small ones alone cost half as much again.
BATCH = 4


def still_levels(still: Any) -> float | None:
    """Levels by which a block may differ; None: regions are not looked for.

    Raises:
        ValueError: it is neither "off" nor "exact" nor a number in range.
    """
    if still == "off":
        return None
    if still == "exact":
        return 0.0
    if isinstance(still, bool) or not isinstance(still, Real) or not 0.0 < float(still) <= MOST_LEVELS:
        raise ValueError(
            f"still is {still!r}; allowed: off, exact, or levels of more than 0, at most {MOST_LEVELS:g}"
        )
    return float(still)


def still_grid(frame: tuple[int, int], *, multiple: int, grid: int, most_pixels: int) -> Grid:
    """Tiles of about :data:`TILE` pixels a side, and no more than the frame needs.

    Args:
        frame: height and width.
        multiple: of a tile's sides.
        grid: of where tiles start; divides ``multiple``.
        most_pixels: of a tile, as memory allows.
    """
    side = max(multiple, min(TILE, int(most_pixels**0.5)) // multiple * multiple)
    overlap = min(up(OVERLAP, grid), max(0, side - grid) // grid * grid)
    sides, places = [], []
    for length in frame:
        count = max(1, -(-(length - overlap) // (side - overlap)))
        tile = up(-(-(length + (count - 1) * overlap) // count), multiple)
        sides.append(tile)
        places.append(starts(length, tile, overlap, grid))
    return Grid((sides[0], sides[1]), places[0], places[1])
