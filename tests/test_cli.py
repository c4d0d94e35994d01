"""The command line as a user meets it: a process, its output and its status."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.core import TyperGroup

from elir_trt.cli.app import app

ROOT = Path(__file__).resolve().parents[1]


def call(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = (
        [sys.executable, "-P", "-m", "elir_trt"]
        if sys.version_info >= (3, 11)
        else [sys.executable, "-m", "elir_trt"]
    )
    return subprocess.run(
        [*command, *(str(word) for word in words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd or "/",
    )


def one_error(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode not in (0, -11)
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), pixels)
    return path


def test_import_is_light() -> None:
    code = (
        "import time, sys; t = time.perf_counter(); import elir_trt; d = time.perf_counter() - t;"
        "heavy = {'torch', 'onnx', 'tensorrt', 'tensorrt_rtx', 'openvino'} & set(sys.modules);"
        "assert not heavy, heavy; assert d < 0.2, d"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd="/").returncode == 0


def test_run_side_imports_nothing_of_the_build_side(small_bundle: Path) -> None:
    code = (
        "import sys, numpy, elir_trt; r = elir_trt.open(sys.argv[1]); r(numpy.zeros((32, 32, 3), 'uint8'));"
        "heavy = {'torch', 'onnx', 'tensorrt'} & set(sys.modules); assert not heavy, heavy"
    )
    assert subprocess.run([sys.executable, "-c", code, small_bundle], check=False, cwd="/").returncode == 0


def test_doctor_info_help(small_bundle: Path) -> None:
    done = call("doctor")
    assert done.returncode == 0 and "backend openvino" in done.stdout and "GPU" in done.stdout
    done = call("info", small_bundle)
    assert done.returncode == 0 and "small" in done.stdout and "velocity" in done.stdout
    for command in ("build", "tune", "run", "info", "doctor", "demo", "train"):
        assert call(command, "--help").returncode == 0


def _written_commands() -> list[str]:
    texts = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    blocks = [
        block for path in texts for block in re.findall(r"```sh\n(.*?)```", path.read_text(), re.DOTALL)
    ]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line.split("#")[0].strip() for line in lines if line.startswith("elir-trt ")]


@pytest.mark.parametrize("written", _written_commands())
def test_commands_of_the_documents_are_understood(written: str) -> None:
    _, name, *arguments = shlex.split(written)
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    group.commands[name].make_context(name, arguments)


def test_run_an_image(small_bundle: Path, photo: Path, tmp_path: Path) -> None:
    done = call("run", photo, "-o", tmp_path / "out.png", "--bundle", small_bundle)
    assert done.returncode == 0, done.stderr
    assert cv2.imread(str(tmp_path / "out.png")).shape == (60, 90, 3)
    done = call(
        "run", photo, "-o", tmp_path / "pair.png", "--bundle", small_bundle, "--compare", "--steps", 0
    )
    assert done.returncode == 0, done.stderr
    assert cv2.imread(str(tmp_path / "pair.png")).shape == (60, 180, 3)
    one_error(
        call("run", photo, "-o", tmp_path / "out.png", "--bundle", small_bundle), "out.png", "--overwrite"
    )


def test_errors_are_one_line(small_bundle: Path, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.png"
    (tmp_path / "empty.png").write_bytes(b"")
    one_error(call("run", tmp_path / "empty.png", "-o", out, "--bundle", small_bundle), "empty.png")
    one_error(call("run", tmp_path / "none.png", "-o", out, "--bundle", small_bundle), "none.png")
    one_error(call("run", photo, "-o", out, "--bundle", "bfr"), "bfr")
    one_error(call("run", photo, "-o", out, "--bundle", small_bundle, "--steps", 9), "--steps is 9", "0 to 3")
    one_error(call("run", photo, "-o", out, "--bundle", small_bundle, "--noise", "pink"), "--noise", "fixed")
    one_error(call("info", tmp_path), "not a bundle")
    one_error(call("build", "bfr", "--weights", tmp_path / "none.pth"), "none.pth")
    one_error(call("build", "bfx", "--weights", tmp_path / "none.pth"), "bfx", "inpainting")
    one_error(call("build", "bfr", "--weights", photo, "--size", "5"), "--size", "HEIGHTxWIDTH")
    assert not out.exists()


def test_changed_engine_is_refused(small_bundle: Path, photo: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(small_bundle, tmp_path / "copy"))
    weights = copy / "openvino" / "velocity.bin"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x55")
    one_error(call("run", photo, "-o", tmp_path / "o.png", "--bundle", copy), "velocity.bin")


def test_full_pipe(small_bundle: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "elir_trt", "info", str(small_bundle)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd="/")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_built_in_restorer_restores(photo: Path, tmp_path: Path) -> None:
    done = call("run", photo, "-o", tmp_path / "out.png")
    assert done.returncode == 0, done.stderr
    assert cv2.imread(str(tmp_path / "out.png")).shape == (60, 90, 3)


def test_tune_measures_and_info_shows_it(
    portable_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELIR_TRT_CACHE", str(tmp_path))
    done = call("info", portable_bundle)
    assert done.returncode == 0 and "engines keep 20 dB against float32" in done.stdout
    assert "on this machine" not in done.stdout
    done = call("tune", portable_bundle, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "chosen" in done.stdout and "openvino on cpu" in done.stdout
    done = call("info", portable_bundle)
    assert "openvino on this machine" in done.stdout and "chosen" in done.stdout


def test_a_task_that_ships_needs_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELIR_TRT_CACHE", str(tmp_path))
    done = call("build", "camera")
    assert done.returncode == 0, done.stderr
    assert "chosen" in done.stdout and list(tmp_path.rglob("engine.bin"))
    one_error(call("build", "bfr"), "--weights is missing", "no bundle of 'bfr' ships")
