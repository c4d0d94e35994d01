"""The same frames under every schedule of an adversary: late uploads, late downloads, eager kernels, any order.

A schedule that fails has its name and its seed in the test's name.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import numpy as np
import pytest
from emulated_cuda.arrays import take
from emulated_cuda.emulated import SCHEDULES, Gpu
from libraries import KINDS, EmulatedLibrary
from streams import BOUNDS, recipe_of, stream_of, through

SEEDS = range(int(os.environ.get("ELIR_TRT_SEEDS", "3")))
CASES = [(schedule, seed) for schedule in SCHEDULES for seed in SEEDS]
SIZES = {"pad": (47, 61), "tile": (90, 131)}
FRAMES = 7


@cache
def frames_of(mode: str) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(11)
    return tuple(rng.integers(0, 256, (*SIZES[mode], 3), dtype=np.uint8) for _ in range(FRAMES))


@cache
def expected_of(mode: str, noise: str) -> tuple[np.ndarray, ...]:
    core = stream_of(SIZES[mode], recipe_of(mode), noise=noise, steps=2)
    return tuple(through(core, frames_of(mode)))


def assert_near(found: np.ndarray, right: np.ndarray, element: str = "float32") -> None:
    assert int(np.abs(found.astype(int) - right.astype(int)).max()) <= BOUNDS[element]


@pytest.mark.parametrize(("schedule", "seed"), CASES)
@pytest.mark.parametrize("mode", SIZES)
def test_frames_of_the_cpu(library: EmulatedLibrary, gpu: Gpu, schedule: str, seed: int, mode: str) -> None:
    gpu.reset(schedule, seed)
    noise = ("fixed", "per-frame")[seed % 2]
    element = tuple(BOUNDS)[seed % 3]
    options: dict[str, Any] = {"noise": noise, "steps": 2, "depth": 4, "element": element}
    for extra in ({}, {"record": False}, {"frames": "mapped"}):
        core = stream_of(SIZES[mode], recipe_of(mode), library, **options, **extra)
        found = through(core, frames_of(mode), 4)
        for restored, right in zip(found, expected_of(mode, noise), strict=True):
            assert_near(restored, right, element)


@pytest.mark.parametrize(("schedule", "seed"), CASES)
def test_tiles_of_the_last_frame(library: EmulatedLibrary, gpu: Gpu, schedule: str, seed: int) -> None:
    """Two frames in flight: the second takes tiles that the first has not restored yet."""
    gpu.reset(schedule, seed)
    options: dict[str, Any] = {"noise": "off", "steps": 2, "depth": 3, "keep_tiles": True}
    for extra in ({}, {"record": False}):
        core = stream_of(SIZES["tile"], recipe_of("tile"), library, **options, **extra)
        host = stream_of(SIZES["tile"], recipe_of("tile"), **options)
        for frame, reuse in zip(frames_of("tile"), ([], [0], [0], [0], [1, 3], [], [1, 3]), strict=True):
            core.submit(frame, reuse=reuse)
            host.submit(frame, reuse=reuse)
            if core.stats()["pending"] == 3:
                assert_near(core.result().frame, host.result().frame)
        core.close()
        host.close()
        for _ in range(2):
            assert_near(core.result().frame, host.result().frame)


@pytest.mark.parametrize(("schedule", "seed"), CASES)
def test_frames_of_the_gpu(library: EmulatedLibrary, gpu: Gpu, schedule: str, seed: int) -> None:
    """Made on streams of their producers, and results that are dropped while a consumer works on them."""
    gpu.reset(schedule, seed)
    right = [int(frame.astype(np.int64).sum()) for frame in expected_of("pad", "off")]
    for kind in KINDS:
        core = stream_of(
            SIZES["pad"], recipe_of("pad"), library, results="device", noise="off", steps=2, depth=3
        )
        waiting, totals = 0, []
        consumer = (1, gpu.new_stream())[seed % 2]

        def collect(core: Any = core, totals: list[Any] = totals, consumer: int = consumer) -> None:
            result = core.result()
            assert result.error is None, result.error
            total = gpu.pinned(8)
            with take(result.frame, consumer) as taken:
                gpu.sum(consumer, taken.address, total.address, int(np.prod(taken.shape)))
            totals.append(total)

        for frame in frames_of("pad"):
            core.submit(library.array(frame, kind))
            waiting += 1
            if waiting == 3:
                collect()
                waiting -= 1
        for _ in range(waiting):
            collect()
        gpu.synchronize(consumer)
        found = [total.value for total in totals]
        pixels = int(np.prod(SIZES["pad"])) * 3
        assert max(abs(a - b) for a, b in zip(found, right, strict=True)) <= pixels // 100


@pytest.mark.parametrize(("schedule", "seed"), CASES)
def test_consumers_streams_may_be_gone(library: EmulatedLibrary, gpu: Gpu, schedule: str, seed: int) -> None:
    """Results come back after the stream is destroyed on which work with them is still queued."""
    gpu.reset(schedule, seed)
    core = stream_of(SIZES["pad"], recipe_of("pad"), library, results="device", noise="off", steps=2)
    right = [int(frame.astype(np.int64).sum()) for frame in expected_of("pad", "off")]
    totals = []
    for frame in (*frames_of("pad"), *frames_of("pad"), *frames_of("pad")):
        core.submit(frame)
        result = core.result()
        assert result.error is None, result.error
        totals.append(gpu.pinned(8))
        consumer = gpu.new_stream()
        with take(result.frame, consumer) as taken:
            gpu.sum(consumer, taken.address, totals[-1].address, int(np.prod(taken.shape)))
            gpu.destroy_stream(consumer)
            del result
    gpu.finish()
    pixels = int(np.prod(SIZES["pad"])) * 3
    found = [total.value for total in totals]
    assert max(abs(a - b) for a, b in zip(found, 3 * right, strict=True)) <= pixels // 100


@pytest.mark.parametrize(("schedule", "seed"), CASES)
def test_noise_is_drawn_before_its_memory_goes(
    library: EmulatedLibrary, gpu: Gpu, schedule: str, seed: int
) -> None:
    for noise in ("fixed", "per-frame"):
        gpu.reset(schedule, seed)
        core = stream_of(SIZES["tile"], recipe_of("tile"), library, noise=noise)
        if seed % 2:
            core.submit(frames_of("tile")[0])
        core.abort()
        del core
