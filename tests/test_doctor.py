"""What ``elir-trt doctor`` finds, on machines that a test makes up."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from elir_trt import _core, backends, doctor
from elir_trt.backends import tensorrt_api
from elir_trt.doctor import Finding, examine
from elir_trt.gpu import Gpu


def found(subject: str) -> Finding:
    (finding,) = [finding for finding in examine() if finding.subject == subject]
    return finding


def test_devices_that_are_compiled_in_and_devices_that_are_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "compiled_devices", lambda: ["cpu", "cuda"], raising=False)
    monkeypatch.setattr(_core, "devices", lambda: ["cpu"])
    monkeypatch.setattr(_core, "cuda_problem", lambda: "there is no driver")
    finding = found("core")
    assert finding.usable
    assert finding.detail == (
        "devices compiled in: cpu, cuda; usable here: cpu; cuda is not usable: there is no driver"
    )
    monkeypatch.setattr(_core, "compiled_devices", lambda: ["cpu"])
    assert found("core").detail == "devices compiled in: cpu; usable here: cpu"


def test_every_backend_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("half of it is missing")

    toys = [
        SimpleNamespace(
            name="toy",
            devices=("cpu", "cuda"),
            probe=lambda: SimpleNamespace(usable=True, version="1.2", reason=None),
        ),
        SimpleNamespace(
            name="gone",
            devices=("cpu",),
            probe=lambda: SimpleNamespace(usable=False, version=None, reason="it is not installed"),
        ),
        SimpleNamespace(name="broken", devices=("cpu",), probe=broken),
    ]
    monkeypatch.setattr(backends, "registry", lambda: toys)
    assert found("backend toy") == Finding("backend toy", True, "1.2 on cpu, cuda")
    assert found("backend gone") == Finding("backend gone", False, "it is not installed")
    assert found("backend broken") == Finding("backend broken", False, "RuntimeError: half of it is missing")


def test_it_finds_what_is_here() -> None:
    subjects = {finding.subject for finding in examine()}
    assert {f"backend {name}" for name in backends.names()} <= subjects
    assert {"core", "GPU", "images", "videos", "bundles", "cache"} <= subjects
    assert found("images").usable


GPU = "NVIDIA H100 80GB HBM3: /proc/driver/nvidia"
JETSON = "NVIDIA Jetson Orin NX, Jetson Linux 36.4.3: /etc/nv_tegra_release"
AGAIN = "build the package again, in its checkout: pip install --force-reinstall --no-deps ."


@pytest.mark.parametrize(
    ("sign", "release", "nvcc", "what_to_do"),
    [
        (
            GPU,
            None,
            None,
            f"install the CUDA toolkit (https://developer.nvidia.com/cuda-downloads); then {AGAIN}",
        ),
        (GPU, None, Path("/usr/bin/nvcc"), f"the compiler is /usr/bin/nvcc; {AGAIN}"),
        (
            JETSON,
            "36.4.3",
            None,
            f"sudo apt install nvidia-jetpack, which brings the compiler; then {AGAIN} (docs/jetson.md)",
        ),
    ],
)
def test_a_core_without_cuda_beside_a_gpu_is_told_of(
    monkeypatch: pytest.MonkeyPatch, sign: str, release: str | None, nvcc: Path | None, what_to_do: str
) -> None:
    monkeypatch.setattr(_core, "compiled_devices", lambda: ["cpu"])
    monkeypatch.setattr(_core, "devices", lambda: ["cpu"])
    monkeypatch.setattr(doctor, "gpu_sign", lambda: sign)
    monkeypatch.setattr(doctor, "jetson_release", lambda: release)
    monkeypatch.setattr(doctor, "find_nvcc", lambda: nvcc)
    assert found("core").detail.endswith(
        f"; a GPU is here ({sign}), the core was built without CUDA: {what_to_do}"
    )
    monkeypatch.setattr(_core, "compiled_devices", lambda: ["cpu", "cuda"])
    monkeypatch.setattr(_core, "cuda_problem", lambda: "there is no driver")
    assert "a GPU is here" not in found("core").detail


def test_a_gpu_without_a_driver_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elir_trt.gpu.find_gpu", lambda: Gpu(reason="no CUDA driver"))
    monkeypatch.setattr(doctor, "gpu_sign", lambda: None)
    assert found("GPU") == Finding("GPU", False, "no CUDA driver")
    monkeypatch.setattr(doctor, "gpu_sign", lambda: GPU)
    assert found("GPU").detail.startswith(
        f"no CUDA driver; a GPU is here ({GPU}): install NVIDIA's driver; in a container, "
    )
    monkeypatch.setattr(doctor, "gpu_sign", lambda: JETSON)
    monkeypatch.setattr(doctor, "jetson_release", lambda: "36.4.3")
    assert "sudo apt install nvidia-l4t-cuda; " in found("GPU").detail


def test_a_jetson_is_told_to_use_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip's OpenCV would hide JetPack's, and pip's TensorRT is for another CUDA."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "cv2" else find(name))
    for name in tensorrt_api.MODULES.values():
        monkeypatch.setitem(sys.modules, name, None)
    assert found("images").detail == "cv2 is not installed: pip install 'elir_trt[image]'"
    assert "pip install tensorrt" in found("backend tensorrt").detail
    monkeypatch.setattr(doctor, "jetson_release", lambda: "36.4.3")
    monkeypatch.setattr(tensorrt_api, "jetson_release", lambda: "36.4.3")
    assert "sudo apt install libopencv-python" in found("images").detail
    for name in tensorrt_api.MODULES:
        detail = found(f"backend {name}").detail
        assert "sudo apt install python3-libnvinfer" in detail and "--system-site-packages" in detail
        assert "pip" not in detail
    assert "has no kernels for a Jetson" in found("backend tensorrt-rtx").detail
