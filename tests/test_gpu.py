"""The device's primary context, asked of a driver that a test makes up."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from elir_trt import gpu


class Driver:
    """libcuda with a stack of contexts."""

    def __init__(self, **results: int) -> None:
        self.results = results
        self.stack: list[int] = [7]
        self.retained = 0

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            if self.results.get(name):
                return self.results[name]
            if name == "cuDevicePrimaryCtxRetain":
                self.retained += 1
                arguments[0]._obj.value = 1 << 40  # more than a C int holds
            elif name == "cuCtxPushCurrent_v2":
                self.stack.append(arguments[0].value)
            elif name == "cuCtxPopCurrent_v2":
                self.stack.pop()
            return 0

        return call


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    gpu._primary.cache_clear()
    yield
    gpu._primary.cache_clear()


def test_the_primary_context_is_current_and_then_the_callers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    for _ in range(2):
        with gpu.primary_context():
            assert driver.stack == [7, 1 << 40]
        assert driver.stack == [7]
    with pytest.raises(ZeroDivisionError), gpu.primary_context():
        raise ZeroDivisionError
    assert driver.stack == [7]
    assert driver.retained == 1


@pytest.mark.parametrize("name", ["cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent_v2"])
def test_a_driver_that_refuses_changes_nothing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    driver = Driver(**{name: 100})
    monkeypatch.setattr(ctypes, "CDLL", lambda library: driver)
    with gpu.primary_context():
        assert driver.stack == [7]
    assert driver.stack == [7]


def test_without_a_driver_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with gpu.primary_context():
        pass


@pytest.mark.parametrize(
    ("module", "process", "release"),
    [
        ("580.65.06\n", None, "580.65.06"),
        (
            None,
            "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build  (buildbrain)\n"
            "GCC version:  collect2: error: ld returned 1 exit status\n",
            "540.4.0",
        ),
        (None, "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\n", "535.104.05"),
        (None, "nothing that is known\n", None),
        (None, None, None),
    ],
)
def test_the_driver_is_a_part_of_what_engines_are_bound_to(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str | None,
    process: str | None,
    release: str | None,
) -> None:
    for name, content in (("_MODULE", module), ("_PROC", process)):
        monkeypatch.setattr(gpu, name, tmp_path / name)
        if content is not None:
            (tmp_path / name).write_text(content)
    assert gpu.driver_release() == release
    monkeypatch.setattr(gpu, "find_gpu", lambda: gpu.Gpu("Orin", "87", "12.6"))
    assert gpu.gpu_tag() == "Orin sm_87"
    assert gpu.gpu_tag(driver=True) == f"Orin sm_87 driver {release or 'CUDA 12.6'}"
    monkeypatch.setattr(gpu, "find_gpu", lambda: gpu.Gpu(reason="none"))
    assert gpu.gpu_tag(driver=True) is None
