"""The command line as a user meets it: a process, its output and its status."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import av
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
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup) and len(group.commands) >= 12
    for command in group.commands:
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


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four small frames at 12 frames a second."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for n in range(24):
            picture = np.full((48, 64, 3), 10 * n, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_run_videos(small_bundle: Path, photo: Path, clip: Path, tmp_path: Path) -> None:
    bundle = ("--bundle", small_bundle)
    done = call("run", clip, "-o", tmp_path / "a.mkv", *bundle, "--codec", "ffv1", "--every", 2, "--start", 1)
    assert done.returncode == 0, done.stderr
    with av.open(str(tmp_path / "a.mkv")) as container:
        assert container.streams.video[0].codec_context.name == "ffv1"
        assert [round(frame.time * 12) for frame in container.decode(video=0)] == [0, 2, 4, 6, 8, 10]
    folder = tmp_path / "in"
    (folder / "deeper").mkdir(parents=True)
    shutil.copy(clip, folder / "deeper")
    shutil.copy(photo, folder)
    (folder / "notes.txt").write_text("no picture")
    done = call("run", folder, "-o", tmp_path / "out", *bundle, "--container", "mkv", "--json")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "deeper" / "clip.mkv").exists()
    assert (tmp_path / "out" / photo.name).exists()
    assert "notes.txt is neither" in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"name": "clip.mp4", "done": 24, "total": 24} in [
        {key: line.get(key) for key in ("name", "done", "total")} for line in lines
    ]
    assert lines[-1]["frames"] == 24
    done = call("run", folder, "-o", tmp_path / "out", *bundle, "--container", "mkv")
    assert done.returncode == 0, done.stderr
    assert "clip.mkv is there already" in done.stderr
    done = call("run", clip, photo, "-o", tmp_path / "few", *bundle, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(path.name for path in (tmp_path / "few").iterdir()) == sorted(["clip.mp4", photo.name])
    for arguments, words in (
        (("--codec", "divx9"), "divx9"),
        (("--crf", 99), "crf is 99"),
        (("--every", 0), "every is 0"),
        (("--duration", 0), "duration is 0"),
        (("--start", -1), "start is -1"),
        (("--deinterlace", "yes"), "--deinterlace"),
        (("--start", 50), "holds no frame there"),
    ):
        one_error(call("run", clip, "-o", tmp_path / "b.mp4", *bundle, *arguments), words)
    one_error(call("run", clip, "-o", tmp_path, *bundle, "--container", "avi"), "container is 'avi'", "mkv")
    one_error(call("run", f"{tmp_path}/*.none", "-o", tmp_path, *bundle), "no file has a name")
    assert not (tmp_path / "b.mp4").exists()


def test_run_to_standard_output_with_a_preview(small_bundle: Path, clip: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "elir_trt", "run", str(clip), "-o", "-", "--bundle", str(small_bundle)]
    command += ["--json", "--preview", str(tmp_path / "preview.jpg")]
    done = subprocess.run(command, capture_output=True, cwd="/", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"YUV4MPEG2 ")
    assert b"{" not in done.stdout[:60]
    assert json.loads(done.stderr.decode().splitlines()[-1])["outputs"] == ["-"]
    assert (tmp_path / "preview.jpg").stat().st_size > 0


def test_a_stopped_video_says_how_to_go_on(small_bundle: Path, clip: Path, tmp_path: Path) -> None:
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        code = f"""if True:
            import os
            from elir_trt.cli import main
            from elir_trt.io import pumping, resuming
            resuming._LONGEST = 13
            step = pumping.Rate.step
            def stop(rate):
                found = step(rate)
                if rate.done == 5:
                    os.kill(os.getpid(), {int(number)})
                return found
            pumping.Rate.step = stop
            main()
        """
        target = tmp_path / f"{status}.mp4"
        command = [
            sys.executable,
            "-c",
            code,
            "run",
            str(clip),
            "-o",
            str(target),
            "--bundle",
            str(small_bundle),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == status, done.stderr
        assert "interrupted, 13 of 24 frames; run the same command to go on" in done.stderr
        assert not target.exists()


def test_version_and_short_help() -> None:
    assert call("--version").stdout.startswith("elir-trt ")
    assert call("run", "-h").returncode == 0
    assert "--show-completion" in call("-h").stdout


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
