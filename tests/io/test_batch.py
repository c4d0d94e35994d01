from __future__ import annotations

from pathlib import Path

import pytest
from media_files import FakeRestorer, make_video, picture

from elir_trt.errors import MediaError
from elir_trt.io.batch import plan
from elir_trt.io.images import write_image
from elir_trt.io.restore import restore_path
from elir_trt.io.video import VideoReader


def test_folders_patterns_and_names(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "deeper").mkdir(parents=True)
    for name in ("a.mp4", "deeper/b.avi"):
        make_video(folder / name, frames=2)
    write_image(folder / "c.png", picture())
    (folder / "d.txt").write_text("")
    found = plan([str(folder)], out)
    assert [(item.source, item.target) for item in found.items] == [
        (str(folder), out),
        (str(folder / "a.mp4"), out / "a.mp4"),
        (str(folder / "deeper" / "b.avi"), out / "deeper" / "b.mp4"),
    ]
    assert found.skipped == [folder / "d.txt"]
    # Without the folders in it.
    found = plan([str(folder)], out, recursive=False)
    assert [item.target for item in found.items] == [out, out / "a.mp4"]
    found = plan([f"{folder}/**/*.*i*", f"{folder}/a.*"], out, container="mkv")
    assert [item.target for item in found.items] == [out / "b.mkv", out / "a.mkv"]
    for inputs, output, container, words in (
        ([str(folder / "a.mp4"), str(folder / "none.mp4")], out, None, "none.mp4: there is no such file"),
        ([f"{folder}/x*"], out, None, "no file has a name like this"),
        ([str(folder / "a.mp4"), "-"], out, None, "no other input"),
        ([str(folder)], Path("-"), None, "standard output takes one image or video"),
        ([str(folder / "a.mp4"), str(folder / "c.png")], Path("-"), None, "standard output takes one"),
        ([str(folder / "a.mp4")], tmp_path / "x.mp4", "mkv", "not that of the container mkv"),
        ([str(folder / "a.mp4"), str(folder / "c.png")], folder / "d.txt", None, "this is a file"),
    ):
        with pytest.raises(MediaError, match=words):
            plan(inputs, output, container=container)
    make_video(tmp_path / "a.mp4", frames=2)
    with pytest.raises(MediaError, match=r"is that of .* already"):
        plan([str(folder / "a.mp4"), str(tmp_path / "a.mp4")], out)


def test_frames_are_counted_where_the_header_does_not(tmp_path: Path) -> None:
    """Uneven times make a rate of which the length tells nothing."""
    pts = [0, 1, 2, 3, 4, 5, 6, 7, 8, 3000]
    source = make_video(tmp_path / "a.mkv", frames=10, pts=pts)
    totals: list[int | None] = []
    restore_path(
        FakeRestorer(), source, tmp_path / "b.mp4", progress=lambda done, total, fps: totals.append(total)
    )
    assert totals[-1] == 10
    with VideoReader(source, count=True) as reader:
        assert reader._counter is not None
        reader._counter._thread.join()
        assert reader.frames == 10
