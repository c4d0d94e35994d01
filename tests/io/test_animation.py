"""Animated GIF, APNG and WebP: read, restored into each other, and into videos and back."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from media_files import FakeRestorer, make_video, picture

from elir_trt.errors import MediaError
from elir_trt.io.animation import AnimationSource, is_animation
from elir_trt.io.restore import restore_path
from elir_trt.io.selection import Selection
from elir_trt.io.video import VideoReader
from elir_trt.io.video_job import VideoOptions

DURATIONS = [40, 120, 70, 300]
FORMATS = {".gif": "GIF", ".png": "PNG", ".webp": "WEBP"}


def animation(path: Path, *, loop: int | None = 0, alpha: bool = False, **options: Any) -> Path:
    """Four frames of few colours, shown for different times; with transparent corners if wanted."""
    frames = []
    for n in range(4):
        pixels = np.full(
            (24, 32, 4 if alpha else 3), (40 + 50 * n, 90, 200 - 30 * n, 255)[: 4 if alpha else 3]
        )
        pixels = pixels.astype(np.uint8)
        pixels[4 : 8 + n, 6:20, :3] = (250, 250, 10)
        if alpha:
            pixels[:8, :8, 3] = 0
        frames.append(PIL.Image.fromarray(pixels))
    suffix = path.suffix
    if loop is not None:
        options["loop"] = loop
    if suffix == ".webp":
        options |= {"lossless": True, "exact": True}
    if suffix == ".gif" and alpha:
        options["disposal"] = 2
    frames[0].save(
        path, FORMATS[suffix], save_all=True, append_images=frames[1:], duration=DURATIONS, **options
    )
    return path


def read(path: Path) -> tuple[list[np.ndarray], list[int], int]:
    """RGBA of the frames, their durations in ms, and how often they are shown."""
    with AnimationSource(path) as source:
        frames = [
            np.dstack(
                [frame.pixels, np.full(frame.pixels.shape[:2], 255) if frame.alpha is None else frame.alpha]
            )
            for frame in source
        ]
        durations = [frame.duration for frame in source]
        return frames, durations, source.plays


@pytest.mark.parametrize("before", FORMATS)
@pytest.mark.parametrize("after", FORMATS)
def test_times_loops_and_transparency_stay(tmp_path: Path, before: str, after: str) -> None:
    for loop, alpha in ((0, False), (4, True), (None, True)):
        source = animation(tmp_path / f"a{before}", loop=loop, alpha=alpha)
        target = tmp_path / f"b{after}"
        report = restore_path(FakeRestorer(), source, target, overwrite=True)
        assert report.frames == 4
        frames, durations, plays = read(source)
        found, found_durations, found_plays = read(target)
        assert durations == found_durations == DURATIONS
        assert (
            found_plays == plays == {0: 0, 4: 5 if before == ".gif" else 4, None: int(before == ".gif")}[loop]
        )
        for left, right in zip(found, frames, strict=True):
            np.testing.assert_array_equal(left[:, :, 3], right[:, :, 3])
            shown = right[:, :, 3] > 0
            difference = np.abs(left[shown][:, :3].astype(int) - (255 - right[shown][:, :3].astype(int)))
            assert difference.max() <= (8 if after == ".gif" else 0)
        said = " ".join(report.notes)
        assert ("256" in said) == (after == ".gif")
        assert ("all or nothing" in said) == (after == ".gif" and alpha)


@pytest.mark.parametrize("before", FORMATS)
def test_into_a_video(tmp_path: Path, before: str) -> None:
    source = animation(tmp_path / f"a{before}", alpha=True)
    report = restore_path(FakeRestorer(), source, tmp_path / "b.mkv")
    with VideoReader(tmp_path / "b.mkv") as reader:
        frames = list(reader)
        assert [round((frame.timestamp_s or 0) * 1000) for frame in frames] == [0, 40, 160, 230]
        assert round(frames[-1].duration * frames[-1].time_base * 1000) == 300
        assert 5 < float(reader.rate or 0) < 30  # and not the ticks of its times
    said = " ".join(report.notes)
    assert "transparency is left out" in said
    assert "shown for ever" in said


@pytest.mark.parametrize("after", FORMATS)
def test_of_a_video(tmp_path: Path, after: str) -> None:
    source = make_video(tmp_path / "a.mp4", frames=10, audio=True)
    target = tmp_path / f"b{after}"
    part = VideoOptions(selection=Selection(start_s=0.08, duration_s=0.24))
    report = restore_path(FakeRestorer(), source, target, video=part)
    assert report.frames == 6
    frames, durations, plays = read(target)
    assert durations == [40] * 6
    assert plays == 0
    with VideoReader(source) as reader:
        before = list(reader)[2:8]
    for left, right in zip(frames, before, strict=True):
        assert np.abs(left[:, :, :3].astype(int) - (255 - right.pixels.astype(int))).mean() < 6
    assert "sound" in " ".join(report.notes)


def test_times_of_a_gif_are_rounded_without_drift(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", frames=10, pts=[33 * n + 5 for n in range(10)])
    report = restore_path(FakeRestorer(), source, tmp_path / "b.gif")
    _, durations, _ = read(tmp_path / "b.gif")
    assert abs(sum(durations[:9]) - 9 * 33) <= 5
    assert "times are rounded to 10 ms" in " ".join(report.notes)


def test_a_folder_keeps_what_moves(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    animation(folder / "a.gif")
    PIL.Image.fromarray(picture()).save(folder / "b.gif")
    (folder / "c.gif").write_bytes((folder / "a.gif").read_bytes()[:-40])
    report = restore_path(FakeRestorer(), folder, tmp_path / "out")
    assert sorted(path.name for path in report.outputs) == ["a.gif", "b.png"]
    assert [path.name for path, _ in report.failures] == ["c.gif"]
    assert is_animation(tmp_path / "out" / "a.gif")
    assert restore_path(FakeRestorer(), folder, tmp_path / "out").outputs == []
    # By itself it keeps its name too.
    assert restore_path(FakeRestorer(), folder / "a.gif", tmp_path).outputs == [tmp_path / "a.gif"]


def test_what_does_not_move_or_cannot_be_kept(tmp_path: Path) -> None:
    source = animation(tmp_path / "a.gif")
    report = restore_path(FakeRestorer(), source, tmp_path / "b.tif")
    assert "animation: first of 4 frames" in report.notes[0]
    still = tmp_path / "still.png"
    PIL.Image.fromarray(picture()).save(still)
    assert not is_animation(still)
    with pytest.raises(MediaError, match="--start, --duration and --every are of videos"):
        part = VideoOptions(selection=Selection(every=2))
        restore_path(FakeRestorer(), source, tmp_path / "b.gif", video=part)
    with pytest.raises(MediaError, match="animations are GIF, PNG and WebP"):
        PIL.Image.fromarray(picture()).save(tmp_path / "c.bmp")
        AnimationSource(tmp_path / "c.bmp")


def test_a_frame_without_a_time_is_shown_as_browsers_do(tmp_path: Path) -> None:
    frames = [PIL.Image.fromarray(picture(seed=n)) for n in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=0)
    with AnimationSource(tmp_path / "a.gif") as source:
        assert [frame.duration for frame in source] == [100, 100, 100]
        assert source.rate == Fraction(10)


def test_the_picture_for_those_who_know_no_animations_is_none(tmp_path: Path) -> None:
    source = animation(tmp_path / "a.png", default_image=True)
    with AnimationSource(source) as frames:
        assert frames.frames == 3
        assert len(list(frames)) == 3
