"""What is said about wrong arguments, and what a restorer takes and becomes."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elir_trt
from elir_trt.bundle import find_bundle
from elir_trt.errors import BundleError, FrameError


@pytest.fixture(scope="module")
def camera() -> Iterator[elir_trt.Restorer]:
    with elir_trt.open("camera", device="cpu", tune="off") as restorer:
        yield restorer


@pytest.mark.parametrize(
    ("wrong", "near"), [("camra", "camera"), ("Camera", "camera"), ("cameras", "camera")]
)
def test_a_near_name_is_suggested(wrong: str, near: str) -> None:
    with pytest.raises(BundleError, match=f"no bundle named '{wrong}' .did you mean '{near}'"):
        find_bundle(wrong)


def test_no_name_is_suggested_that_is_not_near() -> None:
    with pytest.raises(BundleError) as caught:
        find_bundle("weather")
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": (5,)}, r"size is \(5,\); expected height and width"),
        ({"size": 512}, "size is 512; expected height and width"),
        ({"size": (0, 5)}, r"size is \(0, 5\); expected height and width"),
        ({"size": (5.5, 5)}, "expected height and width"),
        ({"size": "55"}, "size is '55'; expected height and width"),
        ({"depth": 1.5}, "depth is 1.5; expected a whole number"),
        ({"depth": "3"}, "depth is '3'; expected a whole number"),
        ({"steps": 0.5}, "steps is 0.5; expected a whole number"),
        ({"seed": None}, "seed is None; expected a whole number"),
    ],
)
def test_arguments_of_streams(camera: elir_trt.Restorer, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        camera.stream(**options)


def test_time_stamps_are_numbers(camera: elir_trt.Restorer) -> None:
    frame = np.zeros((16, 16, 3), np.uint8)
    with camera.stream(depth=2, steps=0) as stream:
        with pytest.raises(ValueError, match="timestamp is '12:00'; expected seconds"):
            stream.submit(frame, "12:00")  # type: ignore[arg-type]
        for timestamp in (1, 2.5, np.float32(0.5), None):
            stream.submit(frame, timestamp)
            assert stream.result().timestamp == timestamp


def test_a_restorer_takes_what_streams_take(camera: elir_trt.Restorer) -> None:
    torch = pytest.importorskip("torch")
    frame = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    expected = camera(frame, steps=0)
    np.testing.assert_array_equal(camera(torch.from_numpy(frame), steps=0), expected)
    np.testing.assert_array_equal(camera(np.asfortranarray(frame), steps=0), expected)
    for wrong in (frame.astype(np.float32), frame[:, :, 0], [[1]], torch.zeros(3, 4, 4)):
        with pytest.raises(FrameError, match=r"frame is|expected"):
            camera(wrong, steps=0)


def test_a_restorer_pickles_as_its_arguments() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    with elir_trt.open("camera", device="cpu", tune="off", order="bgr", max_memory="3GB") as restorer:
        data = pickle.dumps(restorer)
        expected = restorer(frame)
    assert len(data) < 1000
    with pickle.loads(data) as again:
        assert (again.order, again.max_memory, again.bundle.path) == (
            "bgr",
            3 * 10**9,
            restorer.bundle.path.absolute(),
        )
        np.testing.assert_array_equal(again(frame), expected)


def test_a_restorer_goes_to_a_spawned_process(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text("def restore(restorer, frame):\n    return restorer(frame)\n")
    script = f"""
import multiprocessing, sys
sys.path.insert(0, {str(tmp_path)!r})
import numpy as np
import elir_trt
from task import restore
if __name__ == "__main__":
    frame = np.full((32, 48, 3), 90, np.uint8)
    with elir_trt.open("camera", device="cpu", tune="off") as restorer:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            there = pool.apply(restore, (restorer, frame))
        assert np.array_equal(there, restorer(frame))
    print("equal")
"""
    (tmp_path / "main.py").write_text(script)
    done = subprocess.run([sys.executable, "-P", str(tmp_path / "main.py")], capture_output=True, text=True)
    assert done.stdout.strip() == "equal", done.stderr


@pytest.mark.parametrize("columns", ["20", "60", "200"])
def test_info_never_cuts_a_path(columns: str, tmp_path: Path) -> None:
    path = find_bundle("camera")
    deep = tmp_path / ("long-" * 20) / "bundle"
    deep.parent.mkdir()
    deep.symlink_to(path)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "elir_trt", "info", str(deep)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": columns},
    )
    assert done.returncode == 0, done.stderr
    assert str(deep) in done.stdout
