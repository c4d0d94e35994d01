"""The core's own program, under AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import subprocess
from pathlib import Path

import cmake

ROOT = Path(__file__).resolve().parents[2]


def test_core_under_sanitizers(tmp_path: Path) -> None:
    binary = Path(cmake.CMAKE_BIN_DIR) / "cmake"
    options = [
        "-DELIR_TRT_SANITIZE=ON",
        "-DELIR_TRT_WERROR=ON",
        "-DELIR_TRT_TESTS=ON",
        "-DELIR_TRT_BINDINGS=OFF",
    ]
    for command in (
        [binary, "-S", ROOT, "-B", tmp_path, "-DCMAKE_BUILD_TYPE=Debug", "-DELIR_TRT_CUDA=OFF", *options],
        [binary, "--build", tmp_path, "-j", "2"],
        [tmp_path / "core_test"],
    ):
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "all passed" in done.stdout
