"""Frames of other libraries by DLPack, before and after version 1.0: taken once, and given back once."""

from __future__ import annotations

from typing import Any

import dlpack_capsules
import numpy as np
import pytest
from dlpack_capsules import Managed, Versioned, take
from emulated_cuda.arrays import DLPackArray
from emulated_cuda.emulated import Gpu
from libraries import EmulatedLibrary
from streams import recipe_of, stream_of, through

SIZE = (47, 61)
SHAPE = (*SIZE, 3)


def frames_of(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, SHAPE, dtype=np.uint8) for _ in range(count)]


def array_of(gpu: Gpu, frame: np.ndarray, version: tuple[int, int] | None) -> DLPackArray:
    stream = gpu.new_stream()
    return DLPackArray(gpu.upload(frame, stream), frame.shape, frame.strides, stream, version)


@pytest.fixture(autouse=True)
def given_back(gpu: Gpu) -> None:
    """Nothing is outside from tests before."""
    dlpack_capsules.exported.clear()
    dlpack_capsules.deleted.clear()


@pytest.mark.parametrize("version", [None, (1, 0), (1, 1), (1, 9)])
def test_frames_of_every_version(library: EmulatedLibrary, gpu: Gpu, version: tuple[int, int] | None) -> None:
    frames = frames_of(6)
    expected = through(stream_of(SIZE, recipe_of("pad")), frames)
    core = stream_of(SIZE, recipe_of("pad"), library, depth=3)
    found = through(core, (array_of(gpu, frame, version) for frame in frames), 3)
    for array, right in zip(found, expected, strict=True):
        assert int(np.abs(array.astype(int) - right.astype(int)).max()) <= 1
    core.abort()
    assert len(dlpack_capsules.deleted) == 6 and not dlpack_capsules.exported


@pytest.mark.parametrize("version", [None, (1, 1)])
def test_a_frame_is_held_until_its_result_was_collected(
    library: EmulatedLibrary, gpu: Gpu, version: tuple[int, int] | None
) -> None:
    core = stream_of(SIZE, recipe_of("pad"), library)
    core.submit(array_of(gpu, frames_of(1)[0], version))
    assert len(dlpack_capsules.exported) == 1 and not dlpack_capsules.deleted
    assert core.result().error is None
    assert not dlpack_capsules.exported and len(dlpack_capsules.deleted) == 1


@pytest.mark.parametrize("version", [None, (1, 1)])
def test_a_frame_that_is_refused_is_given_back(
    library: EmulatedLibrary, gpu: Gpu, version: tuple[int, int] | None
) -> None:
    core = stream_of(SIZE, recipe_of("pad"), library)
    with pytest.raises(ValueError, match="frame is uint8 of shape 8x8x3; expected uint8 of shape 47x61x3"):
        core.submit(array_of(gpu, np.zeros((8, 8, 3), np.uint8), version))
    assert not dlpack_capsules.exported and len(dlpack_capsules.deleted) == 1


def test_another_major_version_is_refused_unread(library: EmulatedLibrary, gpu: Gpu) -> None:
    core = stream_of(SIZE, recipe_of("pad"), library)
    (frame,) = frames_of(1)

    class Newer(DLPackArray):
        def __dlpack__(self, **_: Any) -> Any:
            # What follows the version and the deleter is of an unknown layout.
            managed = Versioned(2, 4)
            capsule = self.capsule(managed)
            managed.tensor.data, managed.tensor.ndim = 16, 2**31 - 1
            return capsule

    stream = gpu.new_stream()
    newer = Newer(gpu.upload(frame, stream), frame.shape, frame.strides, stream)
    with pytest.raises(ValueError, match=r"frame is of DLPack 2\.4; expected version 1$"):
        core.submit(newer)
    assert not dlpack_capsules.exported and len(dlpack_capsules.deleted) == 1
    assert len(through(core, [frame])) == 1


@pytest.mark.parametrize("gives", ["other", "used", "used-1.1", "none"])
def test_what_is_no_fresh_capsule_is_refused(library: EmulatedLibrary, gpu: Gpu, gives: str) -> None:
    core = stream_of(SIZE, recipe_of("pad"), library)
    (frame,) = frames_of(1)

    class Odd(DLPackArray):
        def __dlpack__(self, **_: Any) -> Any:
            if gives == "none":
                return None
            if gives == "other":
                return self.capsule(Managed(), b"dltensor_other")
            capsule = self.capsule(Managed() if gives == "used" else Versioned(1, 1))
            with take(capsule):
                return capsule

    stream = gpu.new_stream()
    odd = Odd(gpu.upload(frame, stream), frame.shape, frame.strides, stream)
    with pytest.raises(ValueError, match=r"frame's __dlpack__ gave .*; expected a capsule"):
        core.submit(odd)
    assert len(dlpack_capsules.deleted) == (1 if gives.startswith("used") else 0)
    assert len(through(core, [frame])) == 1


def test_an_error_of_the_producer_comes_out(library: EmulatedLibrary, gpu: Gpu) -> None:
    core = stream_of(SIZE, recipe_of("pad"), library)
    (frame,) = frames_of(1)

    class Broken(DLPackArray):
        def __dlpack__(self, **_: Any) -> Any:
            raise self.error

    stream = gpu.new_stream()
    broken = Broken(gpu.upload(frame, stream), frame.shape, frame.strides, stream)
    for error in (TypeError, BufferError, RuntimeError):
        broken.error = error("not now")  # type: ignore[attr-defined]
        with pytest.raises(error, match="not now"):
            core.submit(broken)
    assert len(through(core, [frame])) == 1
