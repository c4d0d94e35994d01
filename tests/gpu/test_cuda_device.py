"""The CUDA device against the host device: the same frames through the same simple parts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from libraries import PARTS, Library
from pixels import random_frame
from streams import BOUNDS, recipe_of, stream_of, through

CASES = [
    ("pad", 1, "bicubic", (64, 64)),
    ("pad", 1, "bicubic", (47, 61)),
    ("pad", 2, "bicubic", (19, 23)),
    ("fit", 1, "bicubic", (100, 70)),
    ("fit", 1, "nearest", (31, 200)),
    ("tile", 1, "bicubic", (90, 131)),
]


@pytest.mark.parametrize("element", BOUNDS)
@pytest.mark.parametrize(("mode", "scale", "interpolation", "size"), CASES)
@pytest.mark.parametrize("noise", ["fixed", "per-frame", "off"])
def test_the_stages_are_those_of_the_host(
    gpu: Library, element: str, mode: str, scale: int, interpolation: str, size: tuple[int, int], noise: str
) -> None:
    recipe = recipe_of(mode, scale, interpolation)
    rng = np.random.default_rng(sum(size))
    frames = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(6)]
    for order in ("rgb", "bgr"):
        options = {"noise": noise, "format": f"{order}24", "output_format": f"{order}24"}
        expected = through(stream_of(size, recipe, **options), frames)
        core = stream_of(size, recipe, gpu, element=element, **options)
        for found, right in zip(through(core, frames), expected, strict=True):
            assert int(np.abs(found.astype(int) - right.astype(int)).max()) <= BOUNDS[element]
        assert core.execution_mode == "graph"


@pytest.mark.parametrize("format", ["rgb24", "nv12"])
@pytest.mark.parametrize(
    ("mode", "scale", "size"), [("pad", 1, (48, 62)), ("pad", 2, (18, 22)), ("fit", 1, (60, 120))]
)
def test_frames_that_are_too_late_are_handed_on_as_by_the_host(
    gpu: Library, format: str, mode: str, scale: int, size: tuple[int, int]
) -> None:
    frames = [random_frame(format, *size, np.random.default_rng(seed)) for seed in range(6)]
    options: dict[str, Any] = {"format": format, "output_format": format, "deadline_ms": 1e-4}
    streams = [stream_of(size, recipe_of(mode, scale), on, **options) for on in (None, gpu)]
    for frame in frames:
        for stream in streams:
            stream.submit(frame)
        right, found = (stream.result() for stream in streams)
        assert found.error is None and not found.restored and not right.restored
        assert int(np.abs(found.frame.astype(int) - right.frame.astype(int)).max()) <= 1
    assert streams[1].execution_mode == "graph"


@pytest.mark.parametrize("element", BOUNDS)
@pytest.mark.parametrize(("mode", "size"), [("pad", (47, 61)), ("tile", (90, 131)), ("fit", (100, 70))])
def test_averages_over_time_are_those_of_the_host(
    gpu: Library, monkeypatch: pytest.MonkeyPatch, element: str, mode: str, size: tuple[int, int]
) -> None:
    """A scene that moves in one place, under noise; a restorer that halves all, and so takes much away."""
    monkeypatch.setitem(PARTS, "encoder", ("image", "encoded", 0.5))
    recipe = recipe_of(mode)
    rng = np.random.default_rng(3)
    still = np.repeat(np.repeat(rng.integers(60, 200, (-(-size[0] // 8), -(-size[1] // 8), 3)), 8, 0), 8, 1)
    frames = []
    for i in range(8):
        frame = still[: size[0], : size[1]] + rng.normal(0, 10, (*size, 3))
        frame[10:24, 5 * i : 5 * i + 12] = 250
        frames.append(np.clip(frame, 0, 255).astype(np.uint8))
    options: dict[str, Any] = {"noise": "off", "temporal": "auto"}
    expected = through(stream_of(size, recipe, **options), frames)
    found = through(stream_of(size, recipe, gpu, element=element, **options), frames)
    alone = through(stream_of(size, recipe, noise="off"), frames)
    for one, right in zip(found, expected, strict=True):
        assert int(np.abs(one.astype(int) - right.astype(int)).max()) <= BOUNDS[element] + 1
    # Averaged where nothing moves, and not where it does.
    assert np.std(found[3:], axis=0)[32:].mean() < 0.6 * np.std(alone[3:], axis=0)[32:].mean()
    moving = np.s_[12:20, 5 * 7 + 2 : 5 * 7 + 8]
    if mode == "pad":
        assert int(np.abs(found[7][moving].astype(int) - alone[7][moving].astype(int)).max()) <= 2


def test_without_steps_and_noise_float32_is_exact(gpu: Library) -> None:
    recipe = recipe_of("fit")
    rng = np.random.default_rng(5)
    for _ in range(10):
        size = (int(rng.integers(16, 300)), int(rng.integers(16, 300)))
        frames = [rng.integers(0, 256, (*size, 3), dtype=np.uint8)]
        expected = through(stream_of(size, recipe, steps=0), frames)
        np.testing.assert_array_equal(through(stream_of(size, recipe, gpu, steps=0), frames), expected)


@pytest.mark.parametrize("noise", ["fixed", "per-frame"])
def test_recorded_frames_are_those_that_are_called(gpu: Library, noise: str) -> None:
    recipe = recipe_of("pad")
    rng = np.random.default_rng(1)
    frames = [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(20)]
    called = stream_of((64, 64), recipe, gpu, noise=noise, record=False, element="float16")
    recorded = stream_of((64, 64), recipe, gpu, noise=noise, element="float16")
    np.testing.assert_array_equal(through(recorded, frames), through(called, frames))
    assert (called.execution_mode, recorded.execution_mode) == ("eager", "graph")


def test_two_streams_and_two_threads(gpu: Library) -> None:
    recipe = recipe_of("pad")
    rng = np.random.default_rng(2)
    frames = [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(200)]
    expected = through(stream_of((64, 64), recipe, gpu, steps=0), frames)
    cores = [stream_of((64, 64), recipe, gpu, steps=0) for _ in range(2)]
    threads = [threading.Thread(target=lambda core=core: [core.submit(f) for f in frames]) for core in cores]
    for thread in threads:
        thread.start()
    for right in expected:
        for core in cores:
            np.testing.assert_array_equal(core.result(timeout=30).frame, right)
    for thread in threads:
        thread.join()


def test_a_failing_part_is_told_and_the_stream_goes_on(gpu: Library) -> None:
    broken = {"now": False}

    def change(name: str, part: Callable[[int], None]) -> Callable[[int], None]:
        def decoder(handle: int) -> None:
            if broken["now"]:
                raise RuntimeError("out of order")
            part(handle)

        return decoder if name == "decoder" else part

    core = stream_of((64, 64), recipe_of("pad"), gpu, change, steps=0, record=False)
    frame = np.zeros((64, 64, 3), np.uint8)
    for now in (False, True, False):
        broken["now"] = now
        core.submit(frame)
        found = core.result()
        assert (found.error is not None) == now
        if now:
            assert found.error == ("decoder", "out of order")


def test_memory_is_flat(gpu: Library) -> None:
    core = stream_of((64, 64), recipe_of("pad"), gpu, noise="per-frame")
    frame = np.zeros((64, 64, 3), np.uint8)
    through(core, [frame] * 100)
    before = gpu.free_bytes()
    for _ in range(400 if gpu.emulated else 10000):
        core.submit(frame)
        core.result()
    assert before - gpu.free_bytes() <= 0


def test_reused_tiles_are_recorded_kind_by_kind(gpu: Library) -> None:
    """More kinds than recordings are kept for, each often enough to be recorded."""
    size = (90, 131)
    core = stream_of(size, recipe_of("tile"), gpu, noise="off", keep_tiles=True)
    host = stream_of(size, recipe_of("tile"), noise="off", keep_tiles=True)
    rng = np.random.default_rng(3)
    kinds = [[tile for tile in range(6) if mask >> tile & 1] for mask in range(20)]
    for reuse in [[], *kinds, *kinds, *kinds, *kinds[:3]]:
        frame = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        for stream in (core, host):
            stream.submit(frame, reuse=reuse)
        found, right = core.result(), host.result()
        assert found.error is None and right.error is None
        assert int(np.abs(found.frame.astype(int) - right.frame.astype(int)).max()) <= BOUNDS["float32"]
    assert core.execution_mode == "graph"
