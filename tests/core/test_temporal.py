"""Frames averaged with those before, where nothing but noise changes: against numpy, and what must never happen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from core_streams import make, wire

from elir_trt import _core

Frames = npt.NDArray[np.float32]
BLOCK = 8
SIZE = (64, 96)
#: In levels of 8 bits: what csrc/temporal.hpp has, written here once more.
KEPT, MOST, FLAT, BUSY, LEAST, CAP = 9.0, 0.4**2, 0.13**2, 0.5, 0.09, 400.0
OF_BLOCK, OF_DRIFT, OF_PIXEL, LONGEST = 2.0, 0.4, 14.0, 12.0


def block_means(plane: Frames) -> Frames:
    height, width = plane.shape
    return plane.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).mean((1, 3))


def averaged(noisy: Sequence[Frames], restored: Sequence[Frames]) -> list[Frames]:
    """The same by numpy and OpenCV, with frames in levels of 8 bits, sides in multiples of 8."""
    last, count = np.zeros_like(restored[0]), np.zeros(restored[0].shape[:2], np.float32)
    out = []
    for taken, frame in zip(noisy, restored, strict=True):
        difference = frame - last
        grey = last.mean(2)
        across = np.diff(grey, axis=1, append=grey[:, -1:])
        down = np.diff(grey, axis=0, append=grey[-1:])
        mean = {"ksize": (3, 3), "borderType": cv2.BORDER_REPLICATE}
        noise = np.maximum(cv2.blur(block_means(((taken - frame) ** 2).mean(2)), **mean) - KEPT, 0)
        activity = cv2.blur(block_means(across**2 + down**2), **mean)
        flicker = np.minimum(np.minimum(MOST * noise, FLAT * noise + BUSY * activity) + LEAST, CAP)
        change = block_means((difference**2).mean(2)) / (OF_BLOCK * flicker)
        drift = block_means(difference.mean(2)) ** 2 / (OF_DRIFT * flicker)
        ratio = cv2.dilate(np.minimum(np.maximum(change, drift), 2.0), np.ones((3, 3), np.uint8))
        size = frame.shape[1], frame.shape[0]
        ratio, flicker = (cv2.resize(m, size, interpolation=cv2.INTER_LINEAR) for m in (ratio, flicker))
        pixel = (difference**2).max(2) / (OF_PIXEL * flicker)
        still = 1.0 - np.clip(np.maximum(ratio, pixel) - 1.0, 0.0, 1.0)
        count = np.minimum(count, LONGEST) * still
        last = last + difference / (count + 1)[:, :, None]
        count = count + 1
        out.append(last)
    return out


class Restorer:
    """A stream whose restored frames are given: its decoder writes the next of them."""

    def __init__(self, size: tuple[int, int], restored: Sequence[Frames], **options: Any) -> None:
        self.stream = make(size, options.pop("engine", size), depth=1, **{"temporal": "auto", **options})
        self.waiting = [np.moveaxis(frame, 2, 0) / 255 for frame in restored]
        decoded = self.stream.buffer("decoded")
        wire(self.stream, decoder=lambda _: np.copyto(decoded[0], self.waiting.pop(0)))

    def __call__(self, frame: Frames) -> npt.NDArray[np.uint8]:
        self.stream.submit(np.rint(np.clip(frame, 0, 255)).astype(np.uint8))
        result = self.stream.result()
        assert result.error is None, result.error
        return np.array(result.frame)


def picture(seed: int) -> Frames:
    """Flat and busy places."""
    rng = np.random.default_rng(seed)
    rough = rng.uniform(60, 200, (SIZE[0] // 8, SIZE[1] // 8, 3)).astype(np.float32)
    smooth = cv2.resize(rough, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    smooth[:, SIZE[1] // 2 :] += rng.normal(0, 20, (SIZE[0], SIZE[1] // 2, 1))
    return np.asarray(np.clip(smooth, 0, 255), np.float32)


def noisy_and_restored(scene: Sequence[Frames], sigma: float) -> tuple[list[Frames], list[Frames]]:
    """A restorer that leaves a tenth of the noise, smoothed."""
    rng = np.random.default_rng(5)
    taken, given = [], []
    for frame in scene:
        noise = rng.normal(0, sigma, frame.shape).astype(np.float32)
        taken.append(np.rint(np.clip(frame + noise, 0, 255)))
        given.append(frame + 0.4 * cv2.GaussianBlur(noise, (0, 0), 0.9))
    return taken, given


def scene_of(kind: str) -> list[Frames]:
    still = picture(1)
    if kind == "still":
        return [still] * 12
    if kind == "cut":
        return [still] * 6 + [picture(2)] * 6
    if kind == "pan":
        return [np.roll(still, 3 * i, axis=1) for i in range(12)]
    moving = []
    for i in range(12):
        frame = still.copy()
        frame[20:36, 6 * i : 6 * i + 16] = 230
        moving.append(frame)
    return moving


@pytest.mark.parametrize("kind", ["still", "cut", "pan", "object"])
@pytest.mark.parametrize("sigma", [0.0, 10.0, 30.0])
def test_it_is_what_numpy_gives(kind: str, sigma: float) -> None:
    taken, given = noisy_and_restored(scene_of(kind), sigma)
    restorer = Restorer(SIZE, given)
    expected = averaged(taken, [np.clip(frame, 0, 255) for frame in given])
    for frame, right in zip(taken, expected, strict=True):
        assert np.abs(restorer(frame) - right).max() <= 0.51 + 0.02


def test_a_still_scene_stops_flickering() -> None:
    scene = scene_of("still") * 3
    taken, given = noisy_and_restored(scene, 25.0)
    restorer = Restorer(SIZE, given)
    found = np.stack([restorer(frame) for frame in taken]).astype(np.float32)
    alone = np.stack([np.clip(frame, 0, 255) for frame in given])
    assert found.std(0).mean() < 0.45 * alone.std(0).mean()
    assert ((found - scene[0]) ** 2)[12:].mean() < 0.3 * ((alone - scene[0]) ** 2)[12:].mean()


@pytest.mark.parametrize("kind", ["cut", "pan", "object"])
def test_nothing_of_the_past_shows_where_things_move(kind: str) -> None:
    """Next to the frames restored one by one, none is worse for the average."""
    scene = scene_of(kind)
    taken, given = noisy_and_restored(scene, 10.0)
    restorer = Restorer(SIZE, given)
    for frame, alone, clean in zip(taken, given, scene, strict=True):
        found = restorer(frame).astype(np.float32)
        single = np.rint(np.clip(alone, 0, 255))
        assert ((found - clean) ** 2).mean() <= ((single - clean) ** 2).mean() * 1.02


def test_the_first_frame_and_a_frame_after_a_cut_are_themselves() -> None:
    taken, given = noisy_and_restored(scene_of("cut"), 20.0)
    restorer = Restorer(SIZE, given)
    found = [restorer(frame) for frame in taken]
    for index in (0, 6):
        np.testing.assert_array_equal(found[index], np.rint(np.clip(given[index], 0, 255)).astype(np.uint8))


def test_off_changes_nothing() -> None:
    taken, given = noisy_and_restored(scene_of("still"), 20.0)
    restorer = Restorer(SIZE, given, temporal="off")
    for frame, alone in zip(taken, given, strict=True):
        np.testing.assert_array_equal(restorer(frame), np.rint(np.clip(alone, 0, 255)).astype(np.uint8))


def test_a_frame_that_is_not_a_number_leaves_nothing_behind() -> None:
    taken, given = noisy_and_restored([picture(1)] * 8, 20.0)
    given[3] = given[3].copy()
    given[3][10, 20] = np.nan
    given[3][40, 70, 1] = np.inf
    restorer = Restorer(SIZE, given)
    for index, frame in enumerate(taken):
        restorer.stream.submit(frame.astype(np.uint8))
        result = restorer.stream.result()
        assert (result.error is not None) == (index == 3)
        if index == 4:
            block = np.s_[8:16, 16:24]
            alone = np.rint(np.clip(given[4], 0, 255)).astype(np.uint8)
            np.testing.assert_array_equal(np.array(result.frame)[block], alone[block])


def test_tiles_have_a_past_of_their_own() -> None:
    size, engine = (64, 64), (64, 32)
    scene = [picture(3)[:, :64]] * 10
    taken, given = noisy_and_restored(scene, 20.0)
    halves = [half for frame in given for half in (frame[:, :32], frame[:, 32:])]
    restorer = Restorer(size, halves, engine=engine, tiles=[(0, 0), (0, 32)])
    expected = zip(
        averaged([f[:, :32] for f in taken], halves[::2]),
        averaged([f[:, 32:] for f in taken], halves[1::2]),
        strict=True,
    )
    for frame, (left, right) in zip(taken, expected, strict=True):
        found = restorer(frame).astype(np.float32)
        assert np.abs(found - np.concatenate([left, right], 1)).max() <= 0.51 + 0.02


def test_its_time_is_told_and_its_words_are_checked() -> None:
    restorer = Restorer(SIZE, [picture(1)])
    restorer.stream.submit(picture(1).astype(np.uint8))
    assert restorer.stream.result().stages["temporal"] > 0.0
    with pytest.raises(ValueError, match="temporal is 'on'; allowed: off, auto"):
        make(SIZE, SIZE, temporal="on")
    assert isinstance(restorer.stream, _core.Stream)


def test_another_stream_goes_on_where_one_was() -> None:
    rng = np.random.default_rng(5)
    still = picture(1)
    frames = [np.clip(still + rng.normal(0, 10, still.shape), 0, 255).astype(np.float32) for _ in range(9)]
    restored = [(still + (frame - still) / 4).astype(np.float32) for frame in frames]
    whole = Restorer(SIZE, restored)
    expected = [whole(frame) for frame in frames]
    first, second = Restorer(SIZE, restored), _core_stream()
    for frame in frames[:5]:
        first(frame)
    state = first.stream.temporal_state()
    assert state.shape == (1, 4, *SIZE)
    decoded = second.buffer("decoded")
    waiting = [np.moveaxis(frame, 2, 0) / 255 for frame in restored[5:]]
    second.set_temporal_state(state)
    wire(second, decoder=lambda _: np.copyto(decoded[0], waiting.pop(0)))
    for frame, want in zip(frames[5:], expected[5:], strict=True):
        second.submit(np.rint(frame).astype(np.uint8))
        np.testing.assert_array_equal(second.result().frame, want)
    with pytest.raises(RuntimeError, match="started"):
        second.set_temporal_state(state)
    with pytest.raises(ValueError, match=r"state is \[1, 4, 64, 95\]; this stream keeps \[1, 4, 64, 96\]"):
        _core_stream().set_temporal_state(state[..., 1:])
    with pytest.raises(ValueError, match="averages nothing"):
        make(SIZE, SIZE).temporal_state()
    busy = Restorer(SIZE, restored).stream
    busy.submit(np.zeros((*SIZE, 3), np.uint8))
    with pytest.raises(RuntimeError, match="frames are in work"):
        busy.temporal_state()


def _core_stream() -> _core.Stream:
    return make(SIZE, SIZE, depth=1, temporal="auto")
