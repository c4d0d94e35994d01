"""How a frame lies on what the network takes: scaling, padding, tiles.

Frames are scaled first, then covered by one or more tiles of the engine's size; what a tile has beyond the
frame comes from reflection, and is cropped from the output.
"""

from __future__ import annotations

from elir_trt._core import Geometry
from elir_trt.errors import FrameError
from elir_trt.recipe import Recipe

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
) -> Geometry:
    """Lay out frames of one size.

    Args:
        recipe: how the task prepares its frames.
        frame: height and width of the frames.
        size: height and width for which the engines were built.
        fixed: the engines take that size only (TensorRT); else any multiple that the recipe allows.
        latent_multiple: the velocity field halves the latent's sides twice.

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
    multiple = max(prepare.multiple, latent_multiple * recipe.architecture.downscale)
    engine = (_up(scaled[0], multiple), _up(scaled[1], multiple))
    if fixed or prepare.mode == "fit":
        engine = size
    elif prepare.mode == "tile":
        # A tile no larger than the frame needs: the same result for less work.
        engine = (min(engine[0], size[0]), min(engine[1], size[1]))
    elif engine[0] * engine[1] > LARGEST_TILE:
        side = _up(int(LARGEST_TILE**0.5), multiple)
        engine = (min(engine[0], side), min(engine[1], side))
    overlap = _up(prepare.overlap or DEFAULT_OVERLAP, recipe.architecture.downscale)
    rows = _starts(scaled[0], engine[0], overlap, recipe.architecture.downscale)
    columns = _starts(scaled[1], engine[1], overlap, recipe.architecture.downscale)
    return Geometry(
        frame=frame,
        engine=engine,
        scaled=scaled,
        scale=(scaled[0] / height, scaled[1] / width),
        interpolation=prepare.interpolation,
        tiles=tuple((y, x) for y in rows for x in columns),
        downscale=recipe.architecture.downscale,
        latent_channels=recipe.architecture.latent_channels,
    )


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _starts(length: int, tile: int, overlap: int, grid: int) -> list[int]:
    """Starts of tiles along one side, the last shifted back inside, on the latent's grid."""
    if length <= tile:
        return [0]
    stride = max(grid, (tile - overlap) // grid * grid)
    starts = list(range(0, length - tile, stride))
    last = _up(length - tile, grid)
    return [*starts, last] if starts[-1] != last else starts
