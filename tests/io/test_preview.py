"""The picture of how far the work is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
from media_files import FakeRestorer, make_video, picture

from elir_trt.errors import ElirWarning, MediaError
from elir_trt.io import preview as previews
from elir_trt.io.preview import Preview
from elir_trt.io.restore import restore_path
from elir_trt.io.source import Frame


def test_before_and_after_of_the_newest_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(previews.time, "monotonic", lambda: now[0])
    preview = Preview(tmp_path / "p.png")
    for n, (at, written) in enumerate(((100.0, 0), (100.9, 0), (101.0, 2), (101.5, 2))):
        now[0] = at
        pixels = picture(seed=n)
        preview(SimpleNamespace(frame=255 - pixels), Frame(pixels))  # type: ignore[arg-type]
        shown = np.asarray(PIL.Image.open(tmp_path / "p.png"))
        np.testing.assert_array_equal(shown, np.hstack([picture(seed=written), 255 - picture(seed=written)]))


def test_large_and_deep_frames_become_small(tmp_path: Path) -> None:
    pixels = np.full((1080, 1920, 3), 0x8080, np.uint16)
    Preview(tmp_path / "p.jpg")(SimpleNamespace(frame=pixels), Frame(pixels))  # type: ignore[arg-type]
    with PIL.Image.open(tmp_path / "p.jpg") as image:
        assert image.size == (1280, 360)
        assert image.getpixel((5, 5)) == (128, 128, 128)


def test_with_a_video_and_without_a_disk(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4")
    restore_path(FakeRestorer(), source, tmp_path / "b.mp4", preview=Preview(tmp_path / "p.jpg"))
    with PIL.Image.open(tmp_path / "p.jpg") as image:
        assert image.size == (128, 48)
    with pytest.raises(MediaError, match="allowed for an image"):
        Preview(tmp_path / "p.mp4")
    (tmp_path / "gone").mkdir()
    gone = Preview(tmp_path / "gone" / "p.jpg")
    (tmp_path / "gone").rmdir()
    with pytest.warns(ElirWarning, match=r"p\.jpg.*the work goes on without it"):
        report = restore_path(FakeRestorer(), source, tmp_path / "c.mp4", preview=gone)
    assert report.frames == 12
