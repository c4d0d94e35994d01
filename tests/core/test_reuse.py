"""Tiles that a frame takes from the last one instead of restoring them again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from core_streams import frame_of, make, wire

from elir_trt import _core

SIZE, TILE = (40, 56), (16, 16)
TILES = [(y, x) for y in (0, 12, 24) for x in (0, 12, 24, 36, 40)]
RNG = np.random.default_rng(11)


def tiled(calls: list[int] | None = None, **changes: Any) -> _core.Stream:
    stream = make(SIZE, TILE, **{"tiles": TILES, "depth": 1, "keep_tiles": True, **changes})
    return wire(stream, encoder=lambda _: calls.append(1) if calls is not None else None)


def restored(stream: _core.Stream, frame: np.ndarray, reuse: list[int] | None = None) -> np.ndarray:
    stream.submit(frame, reuse=reuse or [])
    found = stream.result()
    assert found.error is None, found.error
    return np.array(found.frame)


@pytest.mark.parametrize("batch", [1, 4])
def test_unchanged_tiles_give_what_restoring_them_gives(batch: int) -> None:
    calls: list[int] = []
    stream, fresh = tiled(calls, batch=batch), tiled(batch=batch)
    frame = frame_of(*SIZE)
    np.testing.assert_array_equal(restored(stream, frame), restored(fresh, frame))
    for _ in range(12):
        top, left = RNG.integers(0, SIZE[0] - 8), RNG.integers(0, SIZE[1] - 8)
        height, width = RNG.integers(1, 9, 2)
        frame[top : top + height, left : left + width] = RNG.integers(0, 256, (height, width, 3))
        same = [
            number
            for number, (y, x) in enumerate(TILES)
            if y + TILE[0] <= top or y >= top + height or x + TILE[1] <= left or x >= left + width
        ]
        before = len(calls)
        np.testing.assert_array_equal(restored(stream, frame, same), restored(fresh, frame))
        assert 1 <= len(calls) - before <= len(TILES) - len(same)


def test_all_tiles_may_be_reused() -> None:
    calls: list[int] = []
    stream = tiled(calls)
    first = restored(stream, frame_of(*SIZE))
    before = len(calls)
    np.testing.assert_array_equal(restored(stream, frame_of(*SIZE), list(range(len(TILES)))), first)
    assert len(calls) == before


def test_a_tile_that_no_frame_restored_cannot_be_reused() -> None:
    stream = tiled()
    stream.submit(frame_of(*SIZE), reuse=[2])
    error = stream.result().error
    assert error == ("store", "tile 2 is to be reused, and no frame before this one restored it")
    restored(stream, frame_of(*SIZE))
    restored(stream, frame_of(*SIZE), [2])


def test_nothing_is_reused_of_a_frame_that_failed() -> None:
    stream = make(SIZE, TILE, tiles=TILES, depth=1, keep_tiles=True)
    image, decoded = stream.buffer("image"), stream.buffer("decoded")
    nan = [False]

    def decoder(_: int) -> None:
        np.copyto(decoded, image)
        if nan[0]:
            decoded[0, 0, 0, 0] = np.nan

    wire(stream, decoder=decoder)
    restored(stream, frame_of(*SIZE))
    nan[0] = True
    stream.submit(frame_of(*SIZE))
    assert stream.result().error == ("decoder", "the output holds NaN or infinity")
    nan[0] = False
    stream.submit(frame_of(*SIZE), reuse=[0])
    assert "no frame before this one restored it" in str(stream.result().error)


@pytest.mark.parametrize(
    ("changes", "reuse", "message"),
    [
        ({}, [15], "reuse has tile 15; this stream has 15"),
        ({"keep_tiles": False}, [0], "keeps no tiles; expected keep_tiles"),
        ({"drop": "oldest"}, [0], "may drop the frame whose tiles they are; expected drop 'block'"),
    ],
)
def test_what_cannot_be_reused_is_refused(changes: dict[str, Any], reuse: list[int], message: str) -> None:
    stream = tiled(**changes)
    restored(stream, frame_of(*SIZE))
    with pytest.raises(ValueError, match=message):
        stream.submit(frame_of(*SIZE), reuse=reuse)
    restored(stream, frame_of(*SIZE))
