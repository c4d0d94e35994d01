"""The examples for Ray, on two workers of this machine."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "io"))

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'ray[data]'"
)


def call(*words: object, cwd: Path) -> str:
    environment = {
        **os.environ,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # By itself Ray's workers yield to everything else on a busy machine.
    }
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=540,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_folder_of_images_on_two_actors(tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    (source / "deeper").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(4):
        pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(source / ("deeper" if index % 2 else ".") / f"{index}.png"), pixels)
    (source / "broken.png").write_bytes(b"no image")
    said = call(EXAMPLES / "ray_images.py", source, target, 2, cwd=tmp_path)
    assert "5 of 5 images to restore" in said and "broken.png" in said and "4 images restored" in said
    written = {path.relative_to(target) for path in target.rglob("*.png")}
    assert written == {Path("0.png"), Path("2.png"), Path("deeper/1.png"), Path("deeper/3.png")}
    assert cv2.imread(str(target / "0.png")).shape == (48, 64, 3)
    assert "1 of 5 images to restore" in call(EXAMPLES / "ray_images.py", source, target, 2, cwd=tmp_path)


def test_a_task_a_video(tmp_path: Path) -> None:
    from media_files import make_video

    from elir_trt.io import VideoReader

    videos = [tmp_path / f"{name}.mp4" for name in ("a", "b")]
    for video in videos:
        make_video(video)
    said = call(EXAMPLES / "ray_videos.py", tmp_path / "out", *videos, cwd=tmp_path)
    for video in videos:
        with VideoReader(video) as before, VideoReader(tmp_path / "out" / video.name) as after:
            assert sum(1 for _ in after) == sum(1 for _ in before) > 0
        assert f"{video.name}: " in said
