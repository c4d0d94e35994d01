"""Which tiles a frame is cut into: the cheapest that memory allows.

Tiles of one grid are equal, and as small as so many can be: they share ``overlap`` pixels, and lack less than the
network's ``multiple`` of the frame's sides, so that no frame is padded to squares. A pixel costs the same in a tile
of any size above some 300x300, alone or in a batch (benchmarks/sizes.py): the grid that computes the fewest pixels is
the cheapest. Memory grows in proportion to the tile, and so decides how large it may be.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from elir_trt.recipe import Architecture

#: Fewest pixels of a tile: below, what tiles share is most of what is computed.
SMALLEST_TILE = 192 * 192
#: Pixels that cost as much as one tile more: calls, blending, the engines' own beginnings.
_CALL_PIXELS = 4096
#: Tensors of one level that encoder and decoder keep at a time: in, out, and a block's residual.
_LIVE_TENSORS = 3
#: Memory that opening engines takes whatever the tile is: weights, code, and what compiling them leaves behind.
_ENGINE_BYTES = 160 * 10**6


@dataclass(frozen=True)
class Grid:
    """Tiles of one size over a frame.

    Attributes:
        tile: height and width, multiples of what the network takes.
        rows, columns: where tiles start, on the latent's grid.
    """

    tile: tuple[int, int]
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    @property
    def tiles(self) -> int:
        """How many."""
        return len(self.rows) * len(self.columns)

    @property
    def tile_pixels(self) -> int:
        """Pixels of a tile."""
        return self.tile[0] * self.tile[1]

    @property
    def computed_pixels(self) -> int:
        """Pixels of all tiles: of the frame, of what tiles share, of padding."""
        return self.tiles * self.tile_pixels


def relative_cost(grid: Grid) -> int:
    """What restoring a frame costs, in pixels."""
    return grid.computed_pixels + grid.tiles * _CALL_PIXELS


def cheapest_grid(
    frame: tuple[int, int],
    *,
    multiple: int,
    grid: int,
    overlap: int,
    most_pixels: int,
    most: tuple[int, int] | None = None,
) -> Grid:
    """The grid that costs least among those whose tiles are small enough.

    Args:
        frame: height and width.
        multiple: of a tile's sides.
        grid: of where tiles start; divides ``multiple``.
        overlap: pixels that neighbours share at least, a multiple of ``grid``.
        most_pixels: of a tile, as memory allows. A tile of :data:`SMALLEST_TILE` pixels is always allowed.
        most: height and width of a tile at most; None: as large as the frame.
    """
    allowed = max(most_pixels, SMALLEST_TILE)
    best: Grid | None = None
    columns = list(_divisions(frame[1], multiple, grid, overlap, None if most is None else most[1]))
    for height, rows in _divisions(frame[0], multiple, grid, overlap, None if most is None else most[0]):
        for width, starts in columns:
            found = Grid((height, width), rows, starts)
            if found.tile_pixels > allowed:
                continue
            if best is None or relative_cost(found) < relative_cost(best):
                best = found
            # Much narrower ones than are allowed share more, and cannot be cheaper.
            if 2 * found.tile_pixels < allowed:
                break
    assert best is not None, "the smallest tile is always allowed"
    return best


def _divisions(
    length: int, multiple: int, grid: int, overlap: int, longest: int | None
) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Lengths of tiles along one side, the longest first, each with where the tiles start."""
    shortest = up(overlap + grid, multiple)
    before = 0
    for count in range(1, length + 1):
        tile = up(-(-(length + (count - 1) * overlap) // count), multiple)
        if count > 1 and tile < shortest:
            return
        # More tiles of the same length would share more, and nothing else.
        if tile != before and (longest is None or tile <= longest):
            yield tile, starts(length, tile, overlap, grid)
        before = tile


def starts(length: int, tile: int, overlap: int, grid: int) -> tuple[int, ...]:
    """Where tiles start along one side, evenly spread, the last so that it ends with the frame.

    Neighbours share at least ``overlap`` pixels, but for what rounding the last one to the grid takes.
    """
    if length <= tile:
        return (0,)
    last = up(length - tile, grid)
    stride = max(grid, (tile - overlap) // grid * grid)
    steps = -(-last // stride)
    return (*(round(last * step / steps / grid) * grid for step in range(steps)), last)


def up(value: int, multiple: int) -> int:
    """The least multiple that is not less."""
    return -(-value // multiple) * multiple


def engine_bytes_per_pixel(architecture: Architecture) -> int:
    """Memory of engines and core for each pixel that goes through together, an upper bound.

    Counted from the architecture: what each part keeps at its widest place, in float32, and the tensors between the
    parts. With the built-in restorer OpenVINO takes two thirds of it in float32, and half of it in 8 and 16 bits.
    """
    coder = architecture.autoencoder
    cell = float(architecture.downscale**2)
    widest = max(width / float(4**level) for level, width in enumerate(coder.widths)) / float(
        coder.unshuffle**2
    )
    dense = 2 * (architecture.latent_channels + 4 * architecture.coarse.growth) / cell
    field = 6 * architecture.velocity.hidden / cell
    between = 2 * 3 + 5 * architecture.latent_channels / cell
    # The encoder's and the decoder's, then the coarse part's and the velocity's.
    return math.ceil(4 * (between + 2 * _LIVE_TENSORS * widest + dense + field))


def affordable_pixels(architecture: Architecture, free_bytes: int) -> int:
    """Pixels that may go through the engines together where so much memory is free; 0 or less: none."""
    return (free_bytes - _ENGINE_BYTES) // engine_bytes_per_pixel(architecture)


def frame_bytes(frame: tuple[int, int], scaled: tuple[int, int], depth: int, pixel_bytes: int = 3) -> int:
    """Memory of a stream of such frames, beside its engines: slots, what is read ahead and written, sums of tiles.

    Args:
        frame, scaled: height and width of frames, and of restored ones.
        depth: of the stream's ring.
        pixel_bytes: of a pixel of either.
    """
    # In Python one frame is being read and one waits to be submitted; of the results one is collected and one
    # encoded, which takes a copy and the file. Sums of a row of tiles are at most a quarter of a large frame.
    taken = (depth + 2) * pixel_bytes
    given = (depth + 3) * pixel_bytes + 3
    return frame[0] * frame[1] * taken + scaled[0] * scaled[1] * given
