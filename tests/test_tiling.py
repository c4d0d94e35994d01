"""Frames of any size: the fewest pixels that memory allows, and no seams."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

import elir_trt
from elir_trt.geometry import LARGEST_TILE, plan
from elir_trt.memory import available_bytes, parse_bytes, resident_bytes
from elir_trt.recipe import load_recipe
from elir_trt.tiling import (
    SMALLEST_TILE,
    affordable_pixels,
    cheapest_grid,
    engine_bytes_per_pixel,
    frame_bytes,
)

#: Height and width of a frame, pixels of a tile, and what may be computed for each pixel of the frame.
PLANS = [
    ((360, 640), LARGEST_TILE, 1.03),
    ((1080, 1920), LARGEST_TILE, 1.01),
    ((1080, 1920), 1_000_000, 1.12),
    ((1080, 1920), 300_000, 1.34),
    ((2160, 3840), LARGEST_TILE, 1.06),
    ((2160, 3840), 1_000_000, 1.17),
    ((4320, 7680), LARGEST_TILE, 1.08),
    ((8640, 15360), 1_000_000, 1.22),
    ((16, 4000), LARGEST_TILE, 1.0),
    ((16, 16), LARGEST_TILE, 1.0),
]


@pytest.mark.parametrize(("frame", "pixels", "most"), PLANS)
def test_few_pixels_are_computed_for_nothing(frame: tuple[int, int], pixels: int, most: float) -> None:
    recipe = load_recipe("camera")
    found = plan(recipe, frame, size=recipe.size, tile_pixels=pixels)
    assert found.engine[0] * found.engine[1] <= max(pixels, SMALLEST_TILE)
    computed = len(found.tiles) * found.engine[0] * found.engine[1]
    assert computed <= most * frame[0] * frame[1]


@pytest.mark.parametrize("frame", [(17, 33), (200, 3000), (999, 1001), (2160, 3840)])
@pytest.mark.parametrize("pixels", [0, 60_000, 500_000])
def test_neighbours_share_what_they_must(frame: tuple[int, int], pixels: int) -> None:
    grid = cheapest_grid(frame, multiple=16, grid=4, overlap=64, most_pixels=pixels)
    for length, tile, starts in zip(frame, grid.tile, (grid.rows, grid.columns), strict=True):
        assert tile % 16 == 0
        assert starts[0] == 0
        assert starts[-1] + tile >= length
        assert all(start % 4 == 0 for start in starts)
        for first, second in itertools.pairwise(starts):
            # The last one is rounded to the grid.
            assert 64 - 4 <= first + tile - second < tile


def test_memory_decides_the_tile() -> None:
    architecture = load_recipe("camera").architecture
    per_pixel = engine_bytes_per_pixel(architecture)
    # Measured: 245 to 265 bytes in float32, 175 to 195 with engines of 8 and 16 bits.
    assert 265 < per_pixel < 400
    small, large = (affordable_pixels(architecture, n * 10**9) for n in (1, 2))
    assert large - small == pytest.approx(10**9 / per_pixel, rel=1e-6)
    assert affordable_pixels(architecture, 10**6) <= 0
    assert frame_bytes((10, 10), (20, 20), 1) < frame_bytes((10, 10), (20, 20), 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2GB", 2 * 10**9),
        ("1.5 GiB", 3 * 2**29),
        ("800M", 8 * 10**8),
        ("64k", 64000),
        (12345, 12345),
        ("7", 7),
    ],
)
def test_bytes_are_read(text: str | int, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "much", "-1GB", "0", 0, -5, True, 1.5, "2 parsecs", "1e9"])
def test_what_is_no_size_is_named(text: object) -> None:
    with pytest.raises(ValueError, match=r"max_memory is .*expected bytes"):
        parse_bytes(text)  # type: ignore[arg-type]


def test_what_the_system_says() -> None:
    assert resident_bytes() > 10**7
    found = available_bytes()
    assert found is not None
    assert found > 0


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Iterator[elir_trt.Restorer]:
    """In float32, whatever was chosen on this machine before: its differences are those of tiles alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ELIR_TRT_CACHE", str(tmp_path_factory.mktemp("cache")))
        with elir_trt.open("camera", device="cpu", tune="off") as restorer:
            yield restorer


def tiled(
    camera: elir_trt.Restorer, frame: np.ndarray, patch: pytest.MonkeyPatch, steps: int = 0
) -> tuple[np.ndarray, elir_trt.restorer.Geometry]:
    layout = plan(camera.recipe, frame.shape[:2], size=camera.recipe.size, tile_pixels=0)
    assert len(layout.tiles) > 3
    patch.setattr(camera, "geometry", lambda size, **options: layout)
    with camera.stream(depth=1, steps=steps) as stream:
        # Twice: nothing of a frame is left in the sums.
        stream.submit(frame)
        first = stream.result().frame
        stream.submit(frame)
        np.testing.assert_array_equal(stream.result().frame, first)
    return first, layout


def photo(height: int, width: int) -> np.ndarray:
    """Edges, texture and noise: ``[height, width, 3]``."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[0:height, 0:width]
    base = 120 + 60 * np.sin(x / 7) * np.cos(y / 11) + 50 * ((x // 40 + y // 30) % 2)
    return (base[:, :, None] + rng.normal(0, 12, (height, width, 3))).clip(0, 255).astype(np.uint8)


def test_tiles_leave_no_seam(camera: elir_trt.Restorer, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = photo(320, 448)
    whole = camera(frame, steps=0).astype(int)
    found, layout = tiled(camera, frame, monkeypatch)
    near = np.zeros(frame.shape[:2], bool)
    for axis, length in enumerate(frame.shape[:2]):
        for start in {tile[axis] for tile in layout.tiles}:
            for edge in (start, start + layout.engine[axis]):
                if 0 < edge < length:
                    near[(slice(edge - 8, edge + 8), slice(None))[:: 1 if axis == 0 else -1]] = True
    difference = np.abs(found - whole).mean(axis=2)
    # A twentieth of a level: rounding to 8 bits falls to the other side here and there.
    assert difference[near].mean() <= max(2 * difference[~near].mean(), 0.05)
    assert difference.max() <= 4


def test_a_gradient_stays_flat(camera: elir_trt.Restorer, monkeypatch: pytest.MonkeyPatch) -> None:
    row = np.linspace(40, 200, 448)
    frame = np.repeat(np.tile(row.round().astype(np.uint8), (320, 1))[:, :, None], 3, axis=2)
    found, _ = tiled(camera, frame, monkeypatch)
    whole = camera(frame, steps=0)
    assert np.abs(found.astype(int) - whole).max() <= 1
    # From row to row nothing changes, and from column to column no step is larger than one level beyond the ramp's.
    assert np.abs(np.diff(found[16:-16].astype(int), axis=0)).max() <= 1
    assert np.abs(np.diff(found[:, 16:-16].astype(int), axis=1)).max() <= 2


@pytest.mark.parametrize("size", [(16, 16), (7, 5), (1, 1), (16, 200)])
def test_small_frames(camera: elir_trt.Restorer, size: tuple[int, int]) -> None:
    assert camera(photo(*size), steps=1).shape == (*size, 3)


def test_a_stream_without_steps_may_take_some_later(camera: elir_trt.Restorer) -> None:
    """The noise field is made for the first frame that takes a step, and is the same as one made before."""
    frame = photo(64, 64)
    with camera.stream(depth=1, steps=0) as later, camera.stream(depth=1, steps=2) as at_once:
        later.submit(frame)
        later.result()
        later.submit(frame, steps=2)
        at_once.submit(frame)
        np.testing.assert_array_equal(later.result().frame, at_once.result().frame)


def test_max_memory_makes_tiles_smaller() -> None:
    size = (2160, 3840)
    resident = resident_bytes()
    with elir_trt.open("camera", device="cpu", tune="off", max_memory=resident + 900 * 10**6) as restorer:
        tight = restorer.geometry(size)
    with elir_trt.open("camera", device="cpu", tune="off") as restorer:
        free = restorer.geometry(size)
    assert tight.engine[0] * tight.engine[1] < free.engine[0] * free.engine[1] <= LARGEST_TILE
    assert len(tight.tiles) > len(free.tiles)
    with pytest.raises(ValueError, match="max_memory is 'plenty'"):
        elir_trt.open("camera", max_memory="plenty")
