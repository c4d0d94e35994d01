"""Frames and results that stay on the GPU: arrays of other libraries, their streams, and pixel formats."""

from __future__ import annotations

import gc
import importlib
import importlib.util
from typing import Any

import numpy as np
import pytest
from libraries import KINDS, CudaArray, Library
from pixels import plane_shapes, random_frame
from streams import BOUNDS, recipe_of, stream_of, through

from elir_trt.formats import FORMATS

RNG = np.random.default_rng(7)
SIZE = (48, 64)


def frames_of(count: int) -> list[np.ndarray]:
    return [RNG.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(count)]


def test_frames_overlap_and_keep_their_order(gpu: Library) -> None:
    frames = frames_of(40)
    alone = through(stream_of(SIZE, recipe_of("pad"), gpu, depth=1), frames)
    core = stream_of(SIZE, recipe_of("pad"), gpu, depth=5)
    for frame in frames[:5]:
        core.submit(frame)
    for number, right in enumerate(alone):
        found = core.result()
        np.testing.assert_array_equal(found.frame, right)
        assert set(found.stages) == {"launch", "total"}
        if number + 5 < len(frames):
            core.submit(frames[number + 5])


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_arrays_of_other_libraries(gpu: Library, depth: int, kind: str) -> None:
    frames = frames_of(6)
    expected = through(stream_of(SIZE, recipe_of("pad"), gpu), frames)
    core = stream_of(SIZE, recipe_of("pad"), gpu, depth=depth, results="device")
    found = through(core, (gpu.array(frame, kind) for frame in frames), depth)
    for array, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(gpu.to_host(array), right)


@pytest.mark.parametrize("name", ["cupy", "pycuda"])
def test_arrays_of_installed_libraries(gpu: Library, real_gpu: None, name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed with this GPU's CUDA")
    if name == "pycuda":
        importlib.import_module("pycuda.autoprimaryctx")
        make: Any = importlib.import_module("pycuda.gpuarray").to_gpu
    else:
        make = importlib.import_module("cupy").asarray
    frames = frames_of(6)
    expected = through(stream_of(SIZE, recipe_of("pad"), gpu), frames)
    core = stream_of(SIZE, recipe_of("pad"), gpu, depth=3, results="device")
    for array, right in zip(through(core, map(make, frames), 3), expected, strict=True):
        np.testing.assert_array_equal(gpu.to_host(array), right)


def test_results_may_be_dropped_while_they_are_used(gpu: Library) -> None:
    frames = frames_of(30)
    expected = [
        int(frame.astype(np.int64).sum()) for frame in through(stream_of(SIZE, recipe_of("pad"), gpu), frames)
    ]
    core = stream_of(SIZE, recipe_of("pad"), gpu, results="device")
    sums: list[int] = []
    for start in range(0, len(frames), 5):
        sums += gpu.sums(through(core, frames[start : start + 5], 2))
    assert sums == expected


def test_foreign_memory_is_refused(gpu: Library) -> None:
    core = stream_of(SIZE, recipe_of("pad"), gpu)
    shape = (*SIZE, 3)
    planes = CudaArray(4096, shape, (SIZE[1], 1, SIZE[0] * SIZE[1]), None, None)
    with pytest.raises(ValueError, match="pixels apart"):
        core.submit(planes)
    short = CudaArray(4096, (*SIZE, 4), (SIZE[1] * 4, 4, 1), None, None)
    with pytest.raises(ValueError, match="expected uint8"):
        core.submit(short)
    nowhere = CudaArray(16, shape, (SIZE[1] * 3, 3, 1), None, None)
    with pytest.raises(ValueError, match="not in memory of CUDA device 0"):
        core.submit(nowhere)
    assert through(core, frames_of(1))[0].shape == shape


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "rgb24"])
@pytest.mark.parametrize("frames", ["copied", "mapped"])
@pytest.mark.parametrize(("mode", "size"), [("pad", (46, 62)), ("fit", (100, 70)), ("tile", (90, 130))])
def test_formats_are_those_of_the_host(
    gpu: Library, format: str, frames: str, mode: str, size: tuple[int, int]
) -> None:
    # Restored frames have the size of given ones, but where they are fitted: then they are 64x64 or less.
    recipe = recipe_of(mode)
    row = FORMATS[format]
    given = [random_frame(format, *size, RNG) for _ in range(5)]
    options = {"format": format, "output_format": format}
    if row.subsampling == (2, 2) and mode == "fit":
        # 100x70 becomes 64x45, and chroma of 2x2 pixels has even sides.
        with pytest.raises(ValueError, match="even sides"):
            stream_of(size, recipe, gpu, frames=frames, **options)
        options["output_format"] = "rgb24"
    expected = through(stream_of(size, recipe, **options), given)
    out = FORMATS[options["output_format"]]
    unit = 2 ** (out.depth - 8)
    for element, bound in BOUNDS.items():
        core = stream_of(size, recipe, gpu, element=element, frames=frames, **options)
        for found, right in zip(through(core, given), expected, strict=True):
            assert found.dtype == right.dtype == out.dtype
            apart = np.abs((found >> out.shift).astype(int) - (right >> out.shift).astype(int)).max()
            assert int(apart) <= 2 * bound * unit


@pytest.mark.parametrize("format", ["yuv420p", "p010le", "rgb48le"])
def test_frames_of_any_format_are_taken_where_they_are(gpu: Library, format: str) -> None:
    frames = [random_frame(format, *SIZE, RNG) for _ in range(4)]
    options = {"format": format, "output_format": format}
    expected = through(stream_of(SIZE, recipe_of("pad"), gpu, **options), frames)
    core = stream_of(SIZE, recipe_of("pad"), gpu, results="device", **options)
    for found, right in zip(
        through(core, (gpu.array(frame, "dlpack") for frame in frames)), expected, strict=True
    ):
        assert found.dtype == str(right.dtype)
        np.testing.assert_array_equal(gpu.to_host(found), right)
    if format == "yuv420p":
        with pytest.raises(ValueError, match="gaps between its rows"):
            core.submit(gpu.array(frames[0], "pitched"))


@pytest.mark.parametrize("format", ["nv12", "p010le", "yuv420p"])
def test_planes_that_lie_apart(gpu: Library, format: str) -> None:
    frame = random_frame(format, *SIZE, RNG)
    expected = through(stream_of(SIZE, recipe_of("pad"), gpu, format=format), [frame] * 3)
    owners, planes = [], []
    at = 0
    for height, width in plane_shapes(format, *SIZE):
        plane = frame.reshape(-1)[at : at + height * width].reshape(height, width)
        at += height * width
        array = gpu.array(plane, "pitched")
        owners.append(array)
        planes.append((gpu.address(array), (width + 7) * frame.itemsize))
    core = stream_of(SIZE, recipe_of("pad"), gpu, format=format)
    gpu.wait()
    for right in expected:
        core.submit_planes(planes, owner=owners)
        np.testing.assert_array_equal(core.result().frame, right)
    with pytest.raises(ValueError, match="not in memory of CUDA device 0"):
        core.submit_planes([(16, planes[0][1]), *planes[1:]])


def test_memory_of_results_is_used_again(gpu: Library) -> None:
    core = stream_of(SIZE, recipe_of("pad"), gpu, results="device")
    frames = frames_of(4)
    for _ in range(3):
        gpu.sums(through(core, frames, 2))
    gc.collect()
    before = gpu.free_bytes()
    for _ in range(20):
        gpu.sums(through(core, frames, 2))
    assert before - gpu.free_bytes() <= 0
