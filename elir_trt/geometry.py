"""How a frame lies on what the network takes: scaling, padding, tiles.

Frames are scaled first, then covered by one or more tiles of the engine's size; what a tile has beyond the
frame comes from reflection, and is cropped from the output.
"""

from __future__ import annotations

from collections.abc import Sequence

from elir_trt._core import Geometry
from elir_trt.errors import FrameError
from elir_trt.recipe import Recipe
from elir_trt.still import still_grid
from elir_trt.tiling import cheapest_grid, up

#: Longest side of a frame that a stream takes, after scaling.
LONGEST_SIDE = 16384
#: Pixels of the largest tile that recipes of mode "pad" make; larger frames are tiled.
LARGEST_TILE = 2048 * 2048
#: Most tiles that go through the engines together.
LARGEST_BATCH = 64
#: Pixels that tiles share where a recipe states no overlap.
DEFAULT_OVERLAP = 64


def plan(
    recipe: Recipe,
    frame: tuple[int, int],
    *,
    size: tuple[int, int],
    fixed: bool = False,
    latent_multiple: int = 4,
    tile_pixels: int = LARGEST_TILE,
    still: bool = False,
) -> Geometry:
    """Lay out frames of one size.

    Args:
        recipe: how the task prepares its frames.
        frame: height and width of the frames.
        size: height and width for which the engines were built.
        fixed: the engines take that size only (TensorRT); else any multiple that the recipe allows.
        latent_multiple: the velocity field halves the latent's sides twice.
        tile_pixels: of the largest tile, as memory allows.
        still: into tiles that are small enough for still regions, where engines take them.

    Raises:
        FrameError: the frame is empty, or too large.
    """
    scaled = scaled_size(recipe, frame, size)
    prepare = recipe.prepare
    multiple = max(prepare.multiple, latent_multiple * recipe.architecture.downscale)
    downscale = recipe.architecture.downscale
    overlap = up(prepare.overlap or DEFAULT_OVERLAP, downscale)
    engine = (up(scaled[0], multiple), up(scaled[1], multiple))
    rows: Sequence[int]
    columns: Sequence[int]
    # A tile of the recipe's size, but no larger than the frame needs: the same result for less work.
    own = (min(engine[0], size[0]), min(engine[1], size[1]))
    whole = prepare.mode == "tile" and own[0] * own[1] <= tile_pixels and not still
    if fixed or prepare.mode == "fit" or whole:
        engine = size if fixed or prepare.mode == "fit" else own
        rows = _starts(scaled[0], engine[0], overlap, downscale)
        columns = _starts(scaled[1], engine[1], overlap, downscale)
    elif still:
        grid = still_grid(scaled, multiple=multiple, grid=downscale, most_pixels=tile_pixels)
        engine, rows, columns = grid.tile, grid.rows, grid.columns
    else:
        grid = cheapest_grid(
            scaled,
            multiple=multiple,
            grid=downscale,
            overlap=overlap,
            most_pixels=min(tile_pixels, LARGEST_TILE),
            most=size if prepare.mode == "tile" else None,
        )
        engine, rows, columns = grid.tile, grid.rows, grid.columns
    return Geometry(
        frame=frame,
        engine=engine,
        scaled=scaled,
        scale=(scaled[0] / frame[0], scaled[1] / frame[1]),
        interpolation=prepare.interpolation,
        tiles=tuple((y, x) for y in rows for x in columns),
        downscale=downscale,
        latent_channels=recipe.architecture.latent_channels,
    )


def scaled_size(recipe: Recipe, frame: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a frame after scaling, and so of the restored one; see :func:`plan`.

    Raises:
        FrameError: the frame is empty, or too large.
    """
    height, width = frame
    if height < 1 or width < 1:
        raise FrameError(f"frame is {width}x{height}; expected at least 1x1")
    prepare = recipe.prepare
    if prepare.mode == "fit":
        ratio = min(size[0] / height, size[1] / width)
        scaled = (max(1, round(height * ratio)), max(1, round(width * ratio)))
    else:
        scaled = (height * prepare.scale, width * prepare.scale)
    if max(scaled) > LONGEST_SIDE:
        raise FrameError(
            f"frame is {width}x{height}, {scaled[1]}x{scaled[0]} after scaling; "
            f"sides of at most {LONGEST_SIDE} are allowed"
        )
    return scaled


def _starts(length: int, tile: int, overlap: int, grid: int) -> list[int]:
    """Starts of tiles along one side, the last shifted back inside, on the latent's grid."""
    if length <= tile:
        return [0]
    stride = max(grid, (tile - overlap) // grid * grid)
    starts = list(range(0, length - tile, stride))
    last = up(length - tile, grid)
    return [*starts, last] if starts[-1] != last else starts
