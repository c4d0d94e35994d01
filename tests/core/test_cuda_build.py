"""The CUDA device on a machine without a GPU: it compiles for every architecture, and says why it cannot run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import cmake
import pytest
from core_streams import make

from elir_trt import _core

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURES = ("75", "80", "86", "87", "89", "90", "100", "110", "120")


def _stream(**changes: object) -> _core.Stream:
    return make((16, 16), (16, 16), latent_channels=8, **changes)


def test_compiles_for_every_architecture_without_warnings(tmp_path: Path) -> None:
    compiler = shutil.which("nvcc")
    if compiler is None:
        assert "without a CUDA toolkit" in _core.cuda_problem()
        return
    known = subprocess.run([compiler, "--list-gpu-arch"], capture_output=True, text=True, check=True).stdout
    expected = [name for name in ARCHITECTURES if f"compute_{name}\n" in known]
    binary = str(Path(cmake.CMAKE_BIN_DIR) / "cmake")
    options = ["-DELIR_TRT_CUDA=ON", "-DELIR_TRT_WERROR=ON", "-DELIR_TRT_BINDINGS=OFF"]
    configured = subprocess.run(
        [binary, "-S", str(ROOT), "-B", str(tmp_path), *options], capture_output=True, text=True, check=False
    )
    assert configured.returncode == 0, configured.stdout + configured.stderr
    wanted = ";".join(f"{name}-real" for name in expected) + f";{expected[-1]}-virtual"
    assert f"building the CUDA device for {wanted}" in configured.stdout
    built = subprocess.run(
        [binary, "--build", str(tmp_path), "--target", "elir_core"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr


def test_a_device_that_is_not_usable_says_why() -> None:
    problem = _core.cuda_problem()
    assert ("cuda" in _core.devices()) == (problem == "")
    if problem:
        with pytest.raises(RuntimeError, match=problem):
            _stream(device="cuda", element="float16")


def test_the_host_device_has_float32_alone() -> None:
    with pytest.raises(ValueError, match="element is 'float16'; the device cpu allows: float32"):
        _stream(element="float16")
    with pytest.raises(ValueError, match="device is 'tpu'; allowed: cpu, cuda"):
        _stream(device="tpu")
    stream = _stream()
    assert stream.element("latent") == "float32" and stream.shape("latent") == [1, 8, 4, 4]
    assert stream.execution_mode == "eager" and stream.reserve(64) > 0
