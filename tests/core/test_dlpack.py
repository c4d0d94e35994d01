"""Tensors of the core for other libraries by DLPack, before and after version 1.0."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from core_streams import make
from dlpack_capsules import CPU, CUDA, take

from elir_trt import _core


class Unversioned:
    """An array as libraries show it that know no versions."""

    def __init__(self, array: _core.DeviceArray) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def __dlpack__(self, *, stream: int | None = None) -> Any:
        return self.array.__dlpack__(stream=stream)


@pytest.mark.parametrize(
    ("asked", "given"),
    [(None, None), ((0, 8), None), ((1, 0), (1, 1)), ((1, 1), (1, 1)), ((1, 9), (1, 1)), ((2, 0), (1, 1))],
)
def test_a_capsule_is_what_the_consumer_knows(
    asked: tuple[int, int] | None, given: tuple[int, int] | None
) -> None:
    stream = make((32, 24), (32, 24))
    capsule = stream.view("image").__dlpack__(max_version=asked, dl_device=(CPU, 0), copy=False)
    with take(capsule) as taken:
        assert (taken.version, taken.flags) == (given, None if given is None else 0)
        assert (taken.address, taken.device) == (stream.address("image"), (CPU, 0))
        assert (taken.shape, taken.strides) == ((1, 3, 32, 24), (3 * 32 * 24, 32 * 24, 24, 1))


@pytest.mark.parametrize("library", [np, torch], ids=["numpy", "torch"])
@pytest.mark.parametrize("wrap", [lambda view: view, Unversioned], ids=["versioned", "unversioned"])
def test_libraries_take_both(library: Any, wrap: Callable[[_core.DeviceArray], Any]) -> None:
    stream = make((32, 24), (32, 24))
    image = stream.buffer("image")
    array = library.from_dlpack(wrap(stream.view("image")))
    image[0, 1, 2, 3] = 0.5
    assert tuple(array.shape) == (1, 3, 32, 24) and float(array[0, 1, 2, 3]) == 0.5
    del stream, image
    gc.collect()
    assert float(array.sum()) == 0.5  # The memory outlives the stream.


def test_who_knows_versions_may_write() -> None:
    """Before them, nothing said whether a tensor may be written to, and numpy does not."""
    stream = make((8, 8), (8, 8))
    np.from_dlpack(stream.view("latent"))[...] = 2.0
    assert (stream.buffer("latent") == 2.0).all()
    assert not np.from_dlpack(Unversioned(stream.view("latent"))).flags.writeable


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dl_device": (CUDA, 0)}, r"dl_device is \(2, 0\); this array is on \(1, 0\)"),
        ({"dl_device": (CPU, 1)}, r"dl_device is \(1, 1\)"),
        ({"copy": True}, "copy is True"),
    ],
)
@pytest.mark.parametrize("max_version", [None, (1, 0)])
def test_what_cannot_be_handed_on_is_an_error(
    options: dict[str, Any], message: str, max_version: tuple[int, int] | None
) -> None:
    view = make((8, 8), (8, 8)).view("image")
    with pytest.raises(BufferError, match=message):
        view.__dlpack__(max_version=max_version, **options)
    with pytest.raises(TypeError):
        view.__dlpack__(None)  # type: ignore[misc]


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def renamed(view: _core.DeviceArray, max_version: tuple[int, int] | None) -> None:
    with take(view.__dlpack__(max_version=max_version)):
        pass


@pytest.mark.parametrize(
    "use",
    [
        lambda view: view.__dlpack__(),
        lambda view: view.__dlpack__(max_version=(1, 1)),
        lambda view: renamed(view, None),
        lambda view: renamed(view, (1, 1)),
        np.from_dlpack,
        lambda view: np.from_dlpack(Unversioned(view)),
        torch.from_dlpack,
        lambda view: torch.from_dlpack(Unversioned(view)),
    ],
    ids=["nobody", "nobody-1.1", "ctypes", "ctypes-1.1", "numpy-1.1", "numpy", "torch-1.1", "torch"],
)
def test_memory_is_given_back_taken_or_not(use: Callable[[_core.DeviceArray], Any]) -> None:
    """3 MB each time, 64 times: a capsule that is not given back keeps its own."""

    def once() -> None:
        stream = make((512, 512), (512, 512))
        stream.buffer("image").fill(1.0)
        use(stream.view("image"))

    once()
    gc.collect()
    before = resident_bytes()
    for _ in range(64):
        once()
    gc.collect()
    assert resident_bytes() - before < 100 << 20
