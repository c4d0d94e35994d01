"""How frames lie on the engines."""

from __future__ import annotations

import pytest
from bundles import small_recipe

from elir_trt.errors import FrameError
from elir_trt.geometry import LARGEST_TILE, plan
from elir_trt.recipe import load_recipe


def covered(length: int, tile: int, starts: set[int]) -> bool:
    return all(any(start <= at < start + tile for start in starts) for at in range(length))


def test_faces_are_fitted_with_their_aspect() -> None:
    recipe = load_recipe("bfr")
    assert plan(recipe, (512, 512), size=(512, 512)).scale == (1.0, 1.0)
    wide = plan(recipe, (300, 600), size=(512, 512))
    assert (wide.scaled, wide.engine, wide.tiles) == ((256, 512), (512, 512), ((0, 0),))


def test_frames_are_padded_to_a_multiple() -> None:
    found = plan(load_recipe("camera"), (270, 481), size=(512, 512))
    assert (found.engine, found.scaled, found.tiles) == ((272, 496), (270, 481), ((0, 0),))


def test_super_resolution_tiles_as_published() -> None:
    """Input tiles of 512 with stride 448, the last shifted back inside."""
    found = plan(load_recipe("bsr"), (600, 1200), size=(2048, 2048))
    assert (found.scaled, found.engine) == ((2400, 4800), (2048, 2048))
    rows, columns = {y for y, _ in found.tiles}, {x for _, x in found.tiles}
    assert rows == {0, 2400 - 2048}
    assert columns == {0, 4 * 448, 4800 - 2048}


@pytest.mark.parametrize("frame", [(1, 1), (7, 5), (16, 2000), (2161, 3839), (1080, 1920)])
@pytest.mark.parametrize("fixed", [False, True])
def test_tiles_cover_every_frame(frame: tuple[int, int], fixed: bool) -> None:
    found = plan(small_recipe(), frame, size=(64, 128), fixed=fixed)
    assert found.engine[0] * found.engine[1] <= LARGEST_TILE
    if fixed:
        assert found.engine == (64, 128)
    for axis in (0, 1):
        starts = {tile[axis] for tile in found.tiles}
        assert covered(frame[axis], found.engine[axis], starts)
        assert all(start % found.downscale == 0 and start < frame[axis] for start in starts)


def test_frames_that_are_too_large_or_empty() -> None:
    with pytest.raises(FrameError, match="40000x10, 40000x10 after scaling"):
        plan(small_recipe(), (10, 40000), size=(64, 128))
    with pytest.raises(FrameError, match="expected at least 1x1"):
        plan(small_recipe(), (0, 4), size=(64, 128))
