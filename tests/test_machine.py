"""Signs of GPUs and Jetsons, in file systems that a test makes up."""

from __future__ import annotations

from pathlib import Path

import pytest

from elir_trt.machine import find_nvcc, gpu_sign, jetson_release

RELEASE = (
    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 2025\n"
)


def put(root: Path, name: str, text: str, mode: int = 0o644) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)


def test_nothing_says_that_there_is_a_gpu(tmp_path: Path) -> None:
    assert gpu_sign(tmp_path) is None
    assert jetson_release(tmp_path) is None
    assert find_nvcc(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "release"),
    [
        (RELEASE, "36.4.3"),
        ("# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic\n", "38.2.0"),
        ("something else\n", "of an unknown version"),
    ],
)
def test_a_jetson_has_its_release_file(tmp_path: Path, text: str, release: str) -> None:
    put(tmp_path, "etc/nv_tegra_release", text)
    assert jetson_release(tmp_path) == release
    assert gpu_sign(tmp_path) == f"Jetson, Jetson Linux {release}: /etc/nv_tegra_release"
    put(tmp_path, "proc/device-tree/model", "NVIDIA Jetson Orin NX Engineering Reference Developer Kit\0")
    assert (gpu_sign(tmp_path) or "").startswith(
        "NVIDIA Jetson Orin NX Engineering Reference Developer Kit, Jet"
    )


def test_the_driver_names_its_gpus(tmp_path: Path) -> None:
    information = "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 64\n"
    put(tmp_path, "proc/driver/nvidia/gpus/0000:17:00.0/information", information)
    put(tmp_path, "dev/nvidia0", "")
    assert gpu_sign(tmp_path) == "NVIDIA H100 80GB HBM3: /proc/driver/nvidia"


def test_a_device_file_is_a_sign(tmp_path: Path) -> None:
    put(tmp_path, "dev/nvidiactl", "")
    assert gpu_sign(tmp_path) is None
    put(tmp_path, "dev/nvidia1", "")
    assert gpu_sign(tmp_path) == "/dev/nvidia1"


def test_nvidia_smi_is_asked_last(tmp_path: Path) -> None:
    listing = "GPU 0: NVIDIA GeForce RTX 4090 (UUID: GPU-0f3a)"
    put(tmp_path, "usr/bin/nvidia-smi", f'#!/bin/sh\n[ "$1" = -L ] && echo "{listing}"\n', 0o755)
    assert gpu_sign(tmp_path) == "NVIDIA GeForce RTX 4090: nvidia-smi"
    put(tmp_path, "usr/bin/nvidia-smi", "#!/bin/sh\necho 'NVIDIA-SMI has failed'; exit 9\n", 0o755)
    assert gpu_sign(tmp_path) is None
    put(tmp_path, "usr/bin/nvidia-smi", "not a program", 0o755)
    assert gpu_sign(tmp_path) is None


def test_a_driver_that_hangs_is_no_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elir_trt.machine._PATIENCE_S", 0.1)
    put(tmp_path, "usr/bin/nvidia-smi", "#!/bin/sh\nexec sleep 5\n", 0o755)
    assert gpu_sign(tmp_path) is None


def test_nvcc_is_where_jetpack_puts_it(tmp_path: Path) -> None:
    put(tmp_path, "usr/local/cuda/bin/nvcc", "", 0o755)
    assert find_nvcc(tmp_path) == tmp_path / "usr/local/cuda/bin/nvcc"
