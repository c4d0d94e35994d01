"""Still regions: tiles whose input did not change are taken from their last restoration."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from core_streams import frame_of, make, wire

from elir_trt import _core
from elir_trt.formats import FORMATS

SIZE, TILE = (40, 56), (16, 16)
TILES = [(y, x) for y in (0, 12, 24) for x in (0, 12, 24, 36, 40)]
TABLE = np.zeros((3, 3), np.float32)
MOST_AGE = 120


def tiled(calls: list[int] | None = None, size: tuple[int, int] = SIZE, **changes: Any) -> _core.Stream:
    """Parts whose output depends on all of the tile's input, as a network's does."""
    arguments = {"tiles": TILES, "depth": 1, "steps": 1, "sigma": 0.3, "table": TABLE, **changes}
    stream = make(size, TILE, **arguments)
    image, decoded, latent = (stream.buffer(name) for name in ("image", "decoded", "latent"))

    def encoder(_: int) -> None:
        if calls is not None:
            calls.append(1)
        stream_coarse[:] = image.mean(axis=(1, 2, 3), keepdims=True)

    def decoder(_: int) -> None:
        np.copyto(decoded, 0.5 * image + 0.1 * latent.mean(axis=(1, 2, 3), keepdims=True))

    stream_coarse = stream.buffer("coarse")
    velocity = stream.buffer("velocity")
    return wire(stream, encoder=encoder, velocity=lambda _: velocity.fill(0.1), decoder=decoder)


def restored(stream: _core.Stream, frame: np.ndarray, **options: Any) -> _core.Result:
    stream.submit(frame, **options)
    found = stream.result()
    assert found.error is None, found.error
    return found


def edited(frame: np.ndarray, rng: np.random.Generator) -> list[int]:
    """Changes a rectangle; which tiles do not see it."""
    top, left = rng.integers(0, frame.shape[0] - 1), rng.integers(0, frame.shape[1] - 1)
    height, width = rng.integers(1, 9, 2)
    there = frame[top : top + height, left : left + width]
    there += rng.integers(1, 256, there.shape, dtype=frame.dtype)  # wraps: every number is another
    return [
        number
        for number, (y, x) in enumerate(TILES)
        if y + TILE[0] <= top or y >= top + height or x + TILE[1] <= left or x >= left + width
    ]


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("temporal", ["off", "auto"])
def test_exact_is_restoring_again_over_random_edits(batch: int, temporal: str) -> None:
    rng = np.random.default_rng(batch)
    calls: list[int] = []
    options = {"batch": batch, "temporal": temporal}
    still, fresh = tiled(calls, still=0.0, **options), tiled(**options)
    frame = frame_of(*SIZE)
    assert restored(still, frame).reused == 0.0
    np.testing.assert_array_equal(
        restored(still, frame).frame, [restored(fresh, frame).frame for _ in range(2)][1]
    )
    for _ in range(60):
        same = edited(frame, rng) if rng.random() < 0.8 else list(range(len(TILES)))
        before = len(calls)
        found = restored(still, frame)
        np.testing.assert_array_equal(found.frame, restored(fresh, frame).frame)
        assert found.reused == pytest.approx(len(same) / len(TILES))
        changed = len(TILES) - len(same)
        assert -(-changed // batch) <= len(calls) - before <= min(changed, -(-len(TILES) // batch))


def test_with_a_tolerance_the_engines_take_as_many_together_as_they_can() -> None:
    rng = np.random.default_rng(9)
    calls: list[int] = []
    still = tiled(calls, still=0.5, batch=4)
    frame = frame_of(*SIZE)
    restored(still, frame)
    for _ in range(20):
        edited(frame, rng)
        before = len(calls)
        share = restored(still, frame).reused
        assert len(calls) - before == -(-round((1 - share) * len(TILES)) // 4)


def test_other_steps_are_another_restoration() -> None:
    still, fresh = tiled(still=0.0), tiled()
    frame = frame_of(*SIZE)
    for steps, reused in ((1, 0.0), (1, 1.0), (0, 0.0), (0, 1.0), (2, 0.0), (1, 0.0)):
        found = restored(still, frame, steps=steps)
        assert found.reused == reused
        np.testing.assert_array_equal(found.frame, restored(fresh, frame, steps=steps).frame)


@pytest.mark.parametrize("name", FORMATS)
def test_a_word_of_any_plane_counts(name: str) -> None:
    stream = tiled(still=0.0, format=name)
    rng = np.random.default_rng(3)
    like = stream_shape(name)
    frame = rng.integers(0, 256, like, dtype=np.uint8 if FORMATS[name].dtype == "uint8" else np.uint16)
    restored(stream, frame)
    assert restored(stream, frame).reused == 1.0
    for place in [(0, 0), (like[0] - 1, like[1] - 1), (like[0] // 2, 3), (like[0] * 3 // 4, 11)]:
        frame[place] += 1
        found = restored(stream, frame).reused
        assert 0.0 < found < 1.0, place
        assert restored(stream, frame).reused == 1.0


def stream_shape(name: str) -> tuple[int, ...]:
    form = FORMATS[name]
    if form.channels:
        return (*SIZE, form.channels) if form.channels > 1 else SIZE
    rows = SIZE[0] * 3 // (2 if form.subsampling == (2, 2) else 1)
    return (rows, SIZE[1])


def test_a_scaled_frame() -> None:
    """Tiles are made of the pixels that scaling takes."""
    options = {"scaled": (80, 112), "scale": (2.0, 2.0), "depth": 1}
    options["tiles"] = [(y, x) for y in range(0, 80, 16) for x in range(0, 112, 16)]
    still, fresh = tiled(still=0.0, **options), tiled(**options)
    rng = np.random.default_rng(5)
    frame = frame_of(*SIZE)
    shares = []
    for _ in range(30):
        found = restored(still, frame)
        np.testing.assert_array_equal(found.frame, restored(fresh, frame).frame)
        shares.append(found.reused)
        edited(frame, rng)
    assert 0.3 < np.mean(shares) < 1.0


def test_what_accumulates_is_bounded_by_the_tolerance() -> None:
    """A frame that drifts by a level at a time: it is compared with what was restored, not with the frame before."""
    stream = tiled(still=3.0)
    frame = np.full((*SIZE, 3), 60, np.uint8)
    taken = restored(stream, frame).frame
    shares = []
    for level in range(61, 100):
        frame[:] = level
        found = restored(stream, frame)
        fresh = restored(tiled(), frame).frame
        assert np.abs(found.frame.astype(int) - fresh.astype(int)).max() <= 3
        shares.append(found.reused)
    # Every fourth frame is another, but for tiles whose turn it was to be restored again before.
    assert np.mean(shares[3::4]) < 0.4 and np.mean(shares) > 0.6
    assert np.abs(found.frame.astype(int) - taken.astype(int)).max() > 10


def test_a_small_thing_counts_and_noise_does_not() -> None:
    stream = tiled(still=6.0)
    rng = np.random.default_rng(7)
    scene = rng.integers(60, 200, (*SIZE, 3)).astype(float)

    def noisy() -> np.ndarray:
        return np.clip(scene + rng.normal(0, 2.0, scene.shape), 0, 255).astype(np.uint8)

    restored(stream, noisy())
    assert all(restored(stream, noisy()).reused >= 1 - 1 / len(TILES) for _ in range(20))
    scene[2:8, 2:8] += 40
    assert 0.5 <= restored(stream, noisy()).reused < 1.0
    assert restored(stream, noisy()).reused >= 1 - 1 / len(TILES)


def test_every_tile_is_restored_again_in_time() -> None:
    calls: list[int] = []
    stream = tiled(calls, still=1.0)
    frame = frame_of(*SIZE)
    restored(stream, frame)
    shares = [restored(stream, frame).reused for _ in range(3 * MOST_AGE)]
    assert min(shares) >= 1 - 2 / len(TILES)  # one after the other
    for begin in range(0, len(shares) - MOST_AGE, 40):
        refreshed = sum(1 - share for share in shares[begin : begin + MOST_AGE])
        assert refreshed == pytest.approx(1.0, abs=1e-4)


def test_nothing_is_taken_of_a_frame_that_failed() -> None:
    stream = make(SIZE, TILE, tiles=TILES, depth=1, still=0.0)
    image, decoded = stream.buffer("image"), stream.buffer("decoded")
    broken = [""]

    def encoder(_: int) -> None:
        if broken[0] == "raise":
            raise ValueError("no")

    def decoder(_: int) -> None:
        np.copyto(decoded, image)
        if broken[0] == "nan":
            decoded[0, 0, 0, 0] = np.nan

    wire(stream, encoder=encoder, decoder=decoder)
    frame = frame_of(*SIZE)
    for how in ("raise", "nan"):
        restored(stream, frame)
        assert restored(stream, frame).reused == 1.0
        frame[0, 0] += 1
        broken[0] = how
        stream.submit(frame)
        assert stream.result().error is not None
        broken[0] = ""
        found = restored(stream, frame)
        assert found.reused == 0.0
        np.testing.assert_array_equal(found.frame, frame)


def test_frames_that_are_dropped_change_nothing() -> None:
    stream = tiled(still=0.0, depth=2, drop="oldest")
    fresh = tiled()
    frames = [frame_of(*SIZE) for _ in range(4)]
    for index in range(40):
        stream.submit(frames[index // 3 % 4])
    stream.close()
    while True:
        try:
            found = stream.result()
        except _core.Closed:
            break
        np.testing.assert_array_equal(found.frame, restored(fresh, frames[found.index // 3 % 4]).frame)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"still": -1.0}, r"still is -1\.0+; expected 0 \(exact\) to 64"),
        ({"still": 65.0}, "still is 65"),
        ({"still": float("nan")}, "still is"),
        ({"still": 0.0, "noise": "per-frame"}, "expected noise 'fixed' or 'off'"),
    ],
)
def test_what_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiled(**changes)


def test_tiles_are_not_named_besides() -> None:
    stream = tiled(still=0.0)
    with pytest.raises(ValueError, match="a stream that finds still regions itself"):
        stream.submit(frame_of(*SIZE), reuse=[0])


def test_under_a_deadline_tiles_of_more_steps_are_taken_and_of_fewer_are_not() -> None:
    stream = tiled(still=0.0, deadline_ms=3.6e6, steps=2)
    frame = frame_of(*SIZE)
    assert restored(stream, frame, steps=0).reused == 0.0
    found = [restored(stream, frame, steps=2) for _ in range(10)]  # climbs to two steps after some frames
    assert found[-1].steps == 2
    for before, result in itertools.pairwise(found):
        assert result.reused == float(result.steps == before.steps)
    assert restored(stream, frame, steps=1).reused == 1.0
