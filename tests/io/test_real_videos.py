"""What the table of docs/media.md says of videos, of real ones: the start of each, through both containers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import av
import pytest
from media_files import FakeRestorer, real

from elir_trt.errors import ElirError
from elir_trt.io.reader import VideoReader
from elir_trt.io.restore import restore_path
from elir_trt.io.selection import Selection
from elir_trt.io.video_job import VideoOptions


def properties(path: Path, part: Selection) -> dict[str, Any]:
    """What stays of a video; times as in the file that is made of it, in milliseconds, which Matroska has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with VideoReader(path, damaged="warn", selection=part) as reader:
            times = [float(frame.timestamp_s or 0) for frame in reader]
            stored = av.VideoFormat(reader.pixel_format_stored)
            return {
                "size": reader.size,
                "deep": reader.pixel_format,
                "chroma": (stored.chroma_width(64), stored.chroma_height(64)),
                "gray": len(stored.components) < 3,
                "matrix": reader.colour.matrix,
                "transfer": reader.colour.transfer,
                "range": reader.colour.full_range,
                "times": times,
                "tracks": sorted(s.type for s in reader.container.streams if s.type == "audio"),
            }


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("path", real("videos") + real("bad_inputs"))
def test_real_videos_keep_what_they_have(path: Path, suffix: str, tmp_path: Path) -> None:
    part = Selection(duration_s=0.5)
    if path.suffix == ".gif":
        return  # an animation, which test_animation.py has
    try:
        before = properties(path, part)
    except ElirError:
        return  # it is no video, which test_video.py has
    target = tmp_path / f"b{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = restore_path(
            FakeRestorer(), path, target, damaged="warn", video=VideoOptions(selection=part)
        )
    after = properties(target, Selection())
    said = " ".join(report.notes)
    # An odd size has no 4:2:0, and grey has no chroma of its own.
    if before["size"][0] % 2 == 0 and before["size"][1] % 2 == 0 and not before["gray"]:
        assert after["chroma"] == before["chroma"] or "lower resolution" in said
    assert len(after["tracks"]) == len(before["tracks"]) or "left out" in said
    start = before["times"][0]
    for left, right in zip(after["times"], before["times"], strict=True):
        assert abs((left - after["times"][0]) - (right - start)) <= 0.0011
    for name in ("size", "deep", "matrix", "transfer", "range"):
        assert after[name] == before[name], name
