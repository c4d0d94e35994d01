"""Standard input and output: nothing but data, of videos and images; and named pipes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import av
import cv2
import numpy as np
import PIL.Image
import pytest
from media_files import FakeRestorer, make_video, picture

from elir_trt.errors import MediaError
from elir_trt.io.restore import restore_path
from elir_trt.io.video import VideoReader

SCRIPT = """
    import sys
    sys.path.insert(0, {folder!r})
    from media_files import FakeRestorer
    from elir_trt.errors import ElirError
    from elir_trt.io.encoding import EncodeOptions
    from elir_trt.io.restore import restore_path
    from elir_trt.io.video_job import VideoOptions
    asked = VideoOptions(EncodeOptions(codec=sys.argv[3])) if len(sys.argv) > 3 else None
    try:
        report = restore_path(FakeRestorer(), sys.argv[1], sys.argv[2], video=asked)
    except ElirError as error:
        sys.exit(str(error))
    print(*report.notes, sep="\\n", file=sys.stderr)
"""


def run(source: str | Path, target: str | Path, *more: str, data: bytes = b"") -> tuple[bytes, str, int]:
    script = textwrap.dedent(SCRIPT.format(folder=str(Path(__file__).parent)))
    done = subprocess.run(
        [sys.executable, "-c", script, source, target, *more],
        input=data,
        capture_output=True,
        timeout=120,
        cwd="/",
    )
    return done.stdout, done.stderr.decode(), done.returncode


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le"])
def test_a_video_comes_as_raw_frames(tmp_path: Path, pixel_format: str) -> None:
    codec = "libx264" if pixel_format == "yuv420p" else "ffv1"
    source = make_video(tmp_path / "a.mkv", audio=True, codec=codec, pixel_format=pixel_format)
    data, said, code = run(source, "-")
    assert code == 0, said
    assert data.startswith(b"YUV4MPEG2 W64 H48 F25:1 ")
    with av.open(io.BytesIO(data)) as container, VideoReader(source) as reader:
        assert container.streams.video[0].codec_context.pix_fmt == pixel_format
        found = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        before = [frame.pixels for frame in reader]
    shift = 8 if before[0].dtype == np.uint16 else 0
    for left, right in zip(found, before, strict=True):
        # yuv4mpeg states no matrix: a player may take another.
        assert np.abs(left.astype(int) - (255 - (right >> shift).astype(int))).mean() < 12
    assert "sound and other streams are left out" in said
    # And the way back: what was written is read from a pipe.
    image, said, code = run("-", tmp_path / "b.mp4", data=data)
    assert (image, code) == (b"", 0), said
    with VideoReader(tmp_path / "b.mp4") as reader:
        assert [round((frame.timestamp_s or 0) * 25) for frame in reader] == list(range(12))


def test_uneven_times_and_encoders_are_named(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", frames=6, pts=[0, 40, 80, 200, 240, 500])
    data, said, code = run(source, "-")
    assert code == 0, said
    assert data.count(b"FRAME") == 6
    assert "times are left out" in said
    data, said, code = run(source, "-", "h264")
    assert (data, code) == (b"", 1)
    assert "raw frames (yuv4mpeg)" in said


def test_an_image_comes_as_png(tmp_path: Path) -> None:
    pixels = picture()
    PIL.Image.fromarray(pixels).save(tmp_path / "a.png", dpi=(300, 300))
    for source, data in ((tmp_path / "a.png", b""), ("-", (tmp_path / "a.png").read_bytes())):
        out, said, code = run(source, "-", data=data)
        assert code == 0, said
        with PIL.Image.open(io.BytesIO(out)) as image:
            np.testing.assert_array_equal(np.asarray(image), 255 - pixels)
            assert round(image.info["dpi"][0]) == 300
    out, said, code = run("-", tmp_path / "b.jpg", data=(tmp_path / "a.png").read_bytes())
    assert (out, code) == (b"", 0), said
    assert cv2.imread(str(tmp_path / "b.jpg")).shape == pixels.shape


def test_what_is_no_image_or_video_is_one_line(tmp_path: Path) -> None:
    for data, message in (
        (b"", "there is no video in it"),
        (b"nothing that is known here", "there is no video in it"),
        (b"\x89PNG\r\n\x1a\n and then nothing", "standard input: this image is damaged"),
    ):
        out, said, code = run(
            "-", tmp_path / "b.png" if data[:1] == b"\x89" else tmp_path / "b.mp4", data=data
        )
        assert (out, code) == (b"", 1)
        assert message in said
    with pytest.raises(MediaError, match="folder"):
        restore_path(FakeRestorer(), tmp_path, "-")


def test_a_reader_that_has_gone_is_an_error(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", frames=200, size=(240, 320))
    script = textwrap.dedent(SCRIPT.format(folder=str(Path(__file__).parent)))
    process = subprocess.Popen(
        [sys.executable, "-c", script, source, "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/"
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(100)
    process.stdout.close()
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(60) == 1
    assert "standard output: cannot be written: Broken pipe" in said


def test_a_named_pipe(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", audio=True)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    feeder = threading.Thread(target=lambda: pipe.write_bytes(source.read_bytes()))
    feeder.start()
    report = restore_path(FakeRestorer(), pipe, tmp_path / "b.mkv")
    feeder.join()
    assert report.frames == 12
    with av.open(str(tmp_path / "b.mkv")) as container:
        assert len(container.streams.audio) == 1
