"""``elir-trt run --faces`` on real files, the camera bundle in the place of one for faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from face_parts import DATA, YUNET, smooth_picture
from typer.testing import CliRunner

from elir_trt.cli.app import app
from elir_trt.io.images import read_image, write_image
from elir_trt.io.video import VideoReader

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no real files (ELIR_TRT_DATA)")
SCENE = DATA / "degraded_scenes" / "codeformer_whole_03.jpg"


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["run", *map(str, arguments)])
    return done.exit_code, str(done.exception or "") + done.output


@needs_data
def test_faces_of_an_image_alone(tmp_path: Path, small_bundle: Path) -> None:
    code, said = run(
        SCENE, "-o", tmp_path / "a.png", "--faces-only", "--face-bundle", small_bundle, "--steps", 0
    )
    assert code == 0, said
    before, after = read_image(SCENE).rgb, read_image(tmp_path / "a.png").rgb
    changed = (before != after).any(axis=2)
    assert changed[50:150, 120:190].mean() > 0.5
    assert not changed[:, -40:].any()


def test_a_picture_without_faces_stays_bit_by_bit(tmp_path: Path, small_bundle: Path) -> None:
    write_image(tmp_path / "a.png", smooth_picture())
    given = ("--faces-only", "--face-bundle", small_bundle)
    code, said = run(tmp_path / "a.png", "-o", tmp_path / "b.png", *given)
    assert code == 0, said
    np.testing.assert_array_equal(read_image(tmp_path / "b.png").rgb, smooth_picture())


@needs_data
@pytest.mark.skipif(not YUNET.is_file(), reason="no file of YuNet")
def test_faces_and_the_rest_of_a_video(tmp_path: Path, small_bundle: Path) -> None:
    film = DATA / "videos" / "carphone_176x144_face.mp4"
    given = ("--duration", 0.1, "--codec", "ffv1", "--bundle", small_bundle)
    faces = ("--faces", "--face-bundle", small_bundle, "--face-detector", YUNET, "--steps", 0)  # of faces
    for name, more in (("faces", faces), ("rest", ())):
        code, said = run(film, "-o", tmp_path / f"{name}.mkv", *given, *more)
        assert code == 0, said
    with VideoReader(tmp_path / "faces.mkv") as reader, VideoReader(tmp_path / "rest.mkv") as other:
        pairs = [(one.pixels, two.pixels) for one, two in zip(reader, other, strict=True)]
    assert len(pairs) == 3
    for restored, rest in pairs:
        changed = (restored != rest).any(axis=2)
        assert not changed[:20, :20].any()
        assert changed.mean() > 0.1


def test_faces_of_a_camera(tmp_path: Path, small_bundle: Path) -> None:
    given = ("--faces", "--face-bundle", small_bundle, "--bundle", small_bundle, "--duration", "0.2")
    arguments = ["live", "test:64x48@10", "-o", tmp_path / "a.mkv", *given, "--quiet"]
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "a.mkv").stat().st_size > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--face-bundle", "camera"), "--face-bundle camera is of faces: give --faces or --faces-only too"),
        (("--face-detector", "a.onnx"), "--face-detector a.onnx is of faces: give --faces"),
        (("--faces", "--face-detector", "none.onnx"), "none.onnx: the face detector cannot be read"),
        (("--faces-only", "--temporal", "auto"), "--temporal auto is of the rest of the frames"),
        (("--faces",), "bfr"),
    ],
)
def test_options_that_cannot_be(options: tuple[str, ...], words: str, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", smooth_picture())
    code, said = run(tmp_path / "a.png", "-o", tmp_path / "b.png", *options)
    assert code != 0
    assert words in said
    assert not (tmp_path / "b.png").exists()
