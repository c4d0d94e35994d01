"""Choosing a backend and a device: what is refused, and what is said."""

from __future__ import annotations

from pathlib import Path

import pytest

import elir_trt
from elir_trt import _core
from elir_trt.backends import DEVICES, open_backend
from elir_trt.bundle import Bundle, find_bundle
from elir_trt.errors import BackendError, DeviceError, ElirWarning


@pytest.fixture
def bundle() -> Bundle:
    return Bundle(find_bundle("camera"))


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "cuda_problem", lambda: "no CUDA driver")


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "cuda_problem", lambda: "")


def test_the_cpu_is_used_where_there_is_no_gpu(bundle: Bundle, no_gpu: None) -> None:
    backend = open_backend(bundle)
    assert (backend.name, backend.device, backend.element) == ("openvino", "cpu", "float32")
    assert open_backend(bundle, "openvino", "cpu").name == "openvino"


@pytest.mark.parametrize(
    ("name", "device"), [("auto", "cuda"), ("tensorrt", "auto"), ("tensorrt-rtx", "cuda")]
)
def test_a_gpu_that_is_not_there_is_named(bundle: Bundle, no_gpu: None, name: str, device: str) -> None:
    with pytest.raises(DeviceError, match="the device cuda is not usable here: no CUDA driver"):
        open_backend(bundle, name, device)


def test_wrong_names_are_named(bundle: Bundle) -> None:
    with pytest.raises(BackendError, match=f"backend is 'onnx'; allowed: auto, {', '.join(DEVICES)}"):
        open_backend(bundle, "onnx")
    with pytest.raises(DeviceError, match="device is 'tpu'; allowed: auto, cpu, cuda"):
        open_backend(bundle, device="tpu")
    with pytest.raises(DeviceError, match="the backend openvino runs on cpu"):
        open_backend(bundle, "openvino", "cuda")


def test_a_bundle_without_gpu_engines_says_so(bundle: Bundle, a_gpu: None) -> None:
    with pytest.raises(BackendError, match=r"no engines for the GPU .*: the bundle has openvino"):
        open_backend(bundle, device="cuda")
    assert open_backend(bundle).name == "openvino"


def test_engines_that_the_gpu_refuses_fall_back_with_a_reason(
    bundle: Bundle, a_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import elir_trt.backends as backends

    def refuse(of: Bundle, name: str) -> object:
        if name != "openvino":
            raise BackendError("built for another GPU")
        return found

    found = object()
    specification = bundle.manifest.specification.model_copy(
        update={"backends": ("openvino", "tensorrt-rtx")}
    )
    bundle.manifest = bundle.manifest.model_copy(update={"specification": specification})
    monkeypatch.setattr(backends, "_open", refuse)
    monkeypatch.setattr(backends.tensorrt_api, "installed", lambda: ("tensorrt-rtx",))
    with pytest.warns(ElirWarning, match="built for another GPU; using the CPU instead"):
        assert open_backend(bundle) is found
    with pytest.raises(BackendError, match="built for another GPU"):
        open_backend(bundle, device="cuda")


def test_open_passes_the_device_on(no_gpu: None) -> None:
    with pytest.raises(DeviceError, match="no CUDA driver"):
        elir_trt.open(Path(find_bundle("camera")), device="cuda")
