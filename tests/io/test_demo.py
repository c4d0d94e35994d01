from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media_files import FakeRestorer, FakeStream

from elir_trt import demo
from elir_trt.errors import ElirError
from elir_trt.io.images import read_image
from elir_trt.io.video import VideoReader


class Unchanged(FakeRestorer):
    """Gives back what it gets."""

    def stream(self, **options: Any) -> FakeStream:
        stream = super().stream(**options)
        submit = stream.submit
        stream.submit = lambda frame, *a, **k: submit(255 - frame, *a, **k)  # type: ignore[method-assign]
        return stream


def test_noise_has_the_deviation_that_was_asked_for() -> None:
    grey = np.full((256, 256, 3), 128, np.uint8)
    noisy = demo.add_camera_noise(grey, 10.0, np.random.default_rng(0))
    assert abs(float(noisy.std()) - 10.0) < 0.5
    np.testing.assert_array_equal(demo.add_camera_noise(grey, 0.0, np.random.default_rng(0)), grey)
    dark = np.full((64, 64, 3), 10, np.uint8)
    assert demo.add_camera_noise(dark, 10.0, np.random.default_rng(0)).min() == 0


@pytest.mark.skipif(importlib.util.find_spec("skimage") is None, reason="needs scikit-image")
def test_the_demo_writes_a_clip_and_a_picture(tmp_path: Path) -> None:
    steps: list[int] = []
    report = demo.run_demo(
        Unchanged(), tmp_path / "out", seconds=0.5, progress=lambda done, total, fps: steps.append(done)
    )
    assert report.frames == 12
    assert steps == list(range(1, 13))
    assert report.psnr_before == pytest.approx(report.psnr_after)
    assert 15 < report.psnr_before < 35
    assert read_image(report.image).rgb.shape == (4 * demo.SIDE, 2 * demo.SIDE, 3)
    with VideoReader(report.video) as reader:
        assert reader.size == (demo.SIDE, 2 * demo.SIDE)
        assert len(list(reader)) == 12
    assert "dB before" in str(report)


@pytest.mark.skipif(importlib.util.find_spec("skimage") is None, reason="needs scikit-image")
@pytest.mark.parametrize("seconds", [1 / 24, 2 / 24, 3 / 24])
def test_a_very_short_demo(tmp_path: Path, seconds: float) -> None:
    assert demo.run_demo(Unchanged(), tmp_path, seconds=seconds).frames == round(seconds * 24)


def test_without_scikit_image_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ElirError, match=r"scikit-image.*pip install 'elir_trt\[demo\]'"):
        demo.run_demo(FakeRestorer(), tmp_path)
