"""Still regions on the GPU: the tiles that are taken are the host's, and so is what comes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from libraries import Library
from streams import BOUNDS, recipe_of, results, stream_of

SIZE = (90, 131)


def moving(frames: int = 24) -> list[np.ndarray]:
    """A still scene; in some frames a small thing is somewhere else, in some there is noise."""
    rng = np.random.default_rng(4)
    scene = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    made = []
    for index in range(frames):
        if index % 3 == 1:
            top, left = rng.integers(0, SIZE[0] - 6), rng.integers(0, SIZE[1] - 6)
            scene[top : top + 6, left : left + 6] = rng.integers(0, 256, 3)
        frame = scene.copy()
        if index % 5 == 4:
            frame ^= rng.integers(0, 2, frame.shape, dtype=np.uint8)
        made.append(frame)
    return made


@pytest.mark.parametrize("in_flight", [1, 2])
@pytest.mark.parametrize("still", [0.0, 2.0])
@pytest.mark.parametrize(
    "options",
    [
        {"element": "float32"},
        {"element": "float16", "temporal": "auto"},
        {"frames": "mapped", "batch": 2},
        {"record": False},
    ],
)
def test_tiles_are_those_of_the_host(
    gpu: Library, in_flight: int, still: float, options: dict[str, Any]
) -> None:
    on_both = {name: options[name] for name in ("temporal", "batch") if name in options}
    recipe, frames = recipe_of("tile"), moving()
    host = list(results(stream_of(SIZE, recipe, still=still, noise="off", **on_both), frames))
    found = list(
        results(stream_of(SIZE, recipe, gpu, still=still, noise="off", **options), frames, in_flight)
    )
    assert [one.error for one in found] == [None] * len(frames)
    assert [one.reused for one in found] == [one.reused for one in host]
    assert 0.3 < np.mean([one.reused for one in host]) < 1.0
    bound = BOUNDS[options.get("element", "float32")] + ("temporal" in options)
    for one, right in zip(found, host, strict=True):
        assert int(np.abs(one.frame.astype(int) - right.frame.astype(int)).max()) <= bound


@pytest.mark.parametrize("format", ["nv12", "p010le", "yuv444p"])
def test_planes(gpu: Library, format: str) -> None:
    size = (90, 132)
    rng = np.random.default_rng(6)
    rows = size[0] * 3 if format == "yuv444p" else size[0] * 3 // 2
    frame = rng.integers(0, 256, (rows, size[1])).astype(np.uint16 if format == "p010le" else np.uint8)
    recipe = recipe_of("tile")
    frames = []
    for place in [(0, 0), (rows - 1, size[1] - 1), (rows // 2, 70), None, None]:
        if place is not None:
            frame[place] ^= 64
        frames.append(frame.copy())
    options = {"still": 0.0, "format": format}
    host = list(results(stream_of(size, recipe, **options), frames))
    found = list(results(stream_of(size, recipe, gpu, **options), frames))
    assert [one.reused for one in found] == [one.reused for one in host]
    assert found[-1].reused == 1.0 and 0.0 < found[2].reused < 1.0
    for one, right in zip(found, host, strict=True):
        assert int(np.abs(one.frame.astype(int) - right.frame.astype(int)).max()) <= BOUNDS["float32"]


def test_exact_is_restoring_again(gpu: Library) -> None:
    recipe, frames = recipe_of("tile"), moving()
    still = results(stream_of(SIZE, recipe, gpu, still=0.0, batch=2), frames, 2)
    fresh = results(stream_of(SIZE, recipe, gpu, batch=2), frames, 2)
    for one, other in zip(still, fresh, strict=True):
        np.testing.assert_array_equal(one.frame, other.frame)
