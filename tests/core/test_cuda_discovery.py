"""CMake finds the CUDA compiler where NVIDIA puts it, on a PATH without it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import cmake
import pytest

ROOT = Path(__file__).resolve().parents[2]
USUAL = Path("/usr/local/cuda/bin/nvcc")


def _configure(build: Path, **environment: str) -> tuple[str, str]:
    """What CMake says, and the CUDA compiler that it took."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CUDA")}
    configured = subprocess.run(
        [
            str(Path(cmake.CMAKE_BIN_DIR) / "cmake"),
            *("-S", str(ROOT), "-B", str(build), "-DELIR_TRT_BINDINGS=OFF", "-DCMAKE_CUDA_ARCHITECTURES=80"),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**kept, **environment},
    )
    assert configured.returncode == 0, configured.stdout + configured.stderr
    cache = (build / "CMakeCache.txt").read_text()
    taken = [line.partition("=")[2] for line in cache.splitlines() if line.startswith("CMAKE_CUDA_COMPILER:")]
    return configured.stdout, taken[0] if taken else ""


def _path_without_nvcc(folder: Path) -> str:
    """A PATH with what a configuration needs, and no CUDA."""
    folder.mkdir()
    names = (
        "c++",
        "cc",
        "gcc",
        "g++",
        "cpp",
        "ld",
        "as",
        "ar",
        "ranlib",
        "nm",
        "make",
        "ninja",
        "uname",
        "sh",
        "rm",
    )
    for name in names:
        found = shutil.which(name)
        if found is not None:
            (folder / name).symlink_to(found)
    return str(folder)


def test_nvcc_is_found_in_its_usual_folder(tmp_path: Path) -> None:
    if not USUAL.exists():
        pytest.skip("no CUDA toolkit in /usr/local/cuda")
    said, taken = _configure(tmp_path / "build", PATH=_path_without_nvcc(tmp_path / "bin"))
    assert "building the CUDA device for 80" in said
    assert Path(taken).resolve() == USUAL.resolve()


def test_a_named_toolkit_is_taken_first(tmp_path: Path) -> None:
    if not USUAL.exists():
        pytest.skip("no CUDA toolkit in /usr/local/cuda")
    named = tmp_path / "toolkit"
    named.symlink_to(USUAL.resolve().parents[1])
    _, taken = _configure(tmp_path / "build", PATH=_path_without_nvcc(tmp_path / "bin"), CUDA_HOME=str(named))
    assert taken == str(named / "bin" / "nvcc")
