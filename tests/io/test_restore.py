from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from media_files import FakeRestorer, make_video, picture, real
from rich.console import Console

import elir_trt
from elir_trt.errors import ElirError, FrameError, MediaError
from elir_trt.io.images import read_image, write_image
from elir_trt.io.progress import RichProgress
from elir_trt.io.restore import restore_path
from elir_trt.io.video import VideoReader


def frames_of(path: Path) -> list[np.ndarray]:
    with VideoReader(path) as reader:
        return [frame.pixels for frame in reader]


def test_an_image_with_alpha(tmp_path: Path, restorer: FakeRestorer) -> None:
    rgb = picture()
    write_image(tmp_path / "a.png", rgb, rgb[:, :, 0])
    report = restore_path(restorer, tmp_path / "a.png", tmp_path / "b.png", steps=2, seed=5, noise="off")
    found = read_image(tmp_path / "b.png")
    np.testing.assert_array_equal(found.rgb, 255 - rgb)
    assert found.alpha is not None
    np.testing.assert_array_equal(found.alpha, rgb[:, :, 0])
    assert (report.frames, report.failed, report.outputs) == (1, 0, [tmp_path / "b.png"])
    assert restorer.options == {"steps": 2, "seed": 5, "noise": "off", "temporal": "off"}
    assert all(stream.closed.is_set() for stream in restorer.streams)


def test_a_restorer_of_bgr_frames_gives_the_same_file(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", picture())
    for order in ("rgb", "bgr"):
        with elir_trt.open("camera", order=order) as restorer:
            restore_path(restorer, tmp_path / "a.png", tmp_path / f"{order}.png")
    rgb, bgr = (read_image(tmp_path / f"{order}.png").rgb for order in ("rgb", "bgr"))
    np.testing.assert_array_equal(rgb, bgr)
    assert np.abs(rgb.astype(int) - picture()).mean() < 10  # and red is not blue


def test_upscaling_and_comparing(tmp_path: Path) -> None:
    rgb = picture(20, 30)
    write_image(tmp_path / "a.png", rgb, rgb[:, :, 0])
    restore_path(FakeRestorer(scale=2), tmp_path / "a.png", tmp_path / "b.png", compare=True)
    found = read_image(tmp_path / "b.png")
    assert found.rgb.shape == (40, 120, 3)
    assert found.alpha is not None
    np.testing.assert_array_equal(found.rgb[:, 60:], (255 - rgb).repeat(2, 0).repeat(2, 1))

    make_video(tmp_path / "a.mp4", frames=8)
    restore_path(FakeRestorer(scale=2), tmp_path / "a.mp4", tmp_path / "b.mp4", compare=True)
    after = frames_of(tmp_path / "b.mp4")
    assert [frame.shape for frame in after] == [(96, 256, 3)] * 8


def test_a_folder_goes_on_after_a_broken_file(tmp_path: Path, restorer: FakeRestorer) -> None:
    source = tmp_path / "in"
    (source / "deeper").mkdir(parents=True)
    for n in range(5):
        write_image(source / f"{n}.png", picture(seed=n))
    write_image(source / "deeper" / "other size.jpg", picture(30, 20))
    cv2.imwrite(str(source / "film.gif"), picture())
    (source / "broken.png").write_bytes(b"<html>")
    (source / "notes.txt").write_text("no image")
    told, progress = [], []
    report = restore_path(
        restorer,
        source,
        source / "out",
        progress=lambda done, total, fps: progress.append((done, total, fps > 0)),
        on_error=lambda path, error: told.append((path.name, type(error))),
    )
    written = sorted(str(p.relative_to(source / "out")) for p in (source / "out").rglob("*") if p.is_file())
    assert written == [f"{n}.png" for n in range(5)] + ["deeper/other size.jpg", "film.png"]
    for n in range(5):
        np.testing.assert_array_equal(read_image(source / "out" / f"{n}.png").rgb, 255 - picture(seed=n))
    assert report.failed == 1
    assert told == [("broken.png", MediaError)]
    assert [done for done, _, _ in progress] == list(range(1, 9))
    assert {total for _, total, _ in progress} == {8}
    # Again: the outputs inside the input are no inputs; without overwrite what is done is skipped.
    again = restore_path(restorer, source, source / "out")
    assert (again.failed, again.frames, len(again.skipped)) == (1, 0, 7)
    assert restore_path(restorer, source, source / "out", overwrite=True).failed == 1


def test_a_failed_frame_fails_its_image_only(tmp_path: Path, restorer: FakeRestorer) -> None:
    (tmp_path / "in").mkdir()
    for n in range(6):
        write_image(tmp_path / "in" / f"{n}.png", picture(seed=n))
    restorer.fail_at = 2
    report = restore_path(restorer, tmp_path / "in", tmp_path / "out")
    assert [path.name for path, _ in report.failures] == ["2.png"]
    assert isinstance(report.failures[0][1], FrameError)
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "3.png").rgb, 255 - picture(seed=3))


def test_two_inputs_never_share_an_output(tmp_path: Path, restorer: FakeRestorer) -> None:
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "a.png", picture())
    cv2.imwrite(str(tmp_path / "in" / "a.gif"), picture())
    report = restore_path(restorer, tmp_path / "in", tmp_path / "out")
    assert (report.frames, report.failed) == (2, 0)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.gif.png", "a.png"]
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "a.png").rgb, 255 - picture())


def test_a_full_disk_stops_a_folder(
    tmp_path: Path, restorer: FakeRestorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    for n in range(3):
        write_image(tmp_path / "in" / f"{n}.png", picture(seed=n))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(MediaError, match="No space left"):
        restore_path(restorer, tmp_path / "in", tmp_path / "out")


def test_what_cannot_be_restored(tmp_path: Path, restorer: FakeRestorer) -> None:
    write_image(tmp_path / "a.png", picture())
    write_image(tmp_path / "other.png", picture())
    (tmp_path / "empty").mkdir()
    for source, target, words in (
        ("none", "b.png", "no such file or folder"),
        ("a.png", "other.png", "exists already"),
        ("a.png", "a.png", "same file"),
        ("a.png", "b.xyz", "allowed"),
        ("empty", "out", "holds no images"),
        ("empty", "a.png", "this is a file"),
        ("empty", "empty", "same folder"),
    ):
        with pytest.raises(MediaError, match=words):
            restore_path(restorer, tmp_path / source, tmp_path / target)
    with pytest.raises(MediaError, match="same file"):
        restore_path(restorer, tmp_path / "a.png", tmp_path / "a.png", overwrite=True)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").rgb, picture())


def test_a_video_keeps_times_and_sound(tmp_path: Path, restorer: FakeRestorer) -> None:
    pts = [48, 81, 115, 215, 222, 250, 400, 650, 651, 700, 733, 760]
    source = make_video(tmp_path / "a.mkv", pts=pts, audio=True)
    progress: list[tuple[int, int | None]] = []
    report = restore_path(
        restorer,
        source,
        tmp_path / "b.mp4",
        progress=lambda done, total, fps: progress.append((done, total)),
    )
    assert report.frames == 12
    assert [done for done, _ in progress] == list(range(1, 13))
    with VideoReader(tmp_path / "b.mp4") as reader:
        after = list(reader)
        assert [s.type for s in reader.container.streams] == ["video", "audio"]
    assert [round(frame.timestamp_s * 1000, 6) for frame in after] == pts
    assert np.abs(after[4].pixels.astype(int) - (255 - frames_of(source)[4])).mean() < 4


def test_a_damaged_video_leaves_no_output_unless_asked(tmp_path: Path, restorer: FakeRestorer) -> None:
    source = make_video(tmp_path / "a.mkv", frames=60, size=(192, 256))
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 7 // 10])
    with pytest.raises(MediaError, match="cut off"):
        restore_path(restorer, source, tmp_path / "b.mp4")
    assert [p.name for p in tmp_path.iterdir()] == ["a.mkv"]
    with pytest.warns(UserWarning, match="damaged"):
        report = restore_path(restorer, source, tmp_path / "b.mp4", damaged="warn")
    assert 5 < report.frames == len(frames_of(tmp_path / "b.mp4"))


def test_a_failed_frame_ends_a_video(tmp_path: Path, restorer: FakeRestorer) -> None:
    source = make_video(tmp_path / "a.mp4", frames=30)
    restorer.fail_at = 7
    with pytest.raises(FrameError):
        restore_path(restorer, source, tmp_path / "b.mp4")
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_an_interrupted_video_from_a_pipe_is_playable(tmp_path: Path, restorer: FakeRestorer) -> None:
    """What comes once cannot be gone on with; see test_resume.py for files."""
    source = make_video(tmp_path / "a.mkv", frames=60, audio=True)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=_write_pipe, args=(pipe, source.read_bytes()))
    writer.start()
    restorer.interrupt_at = 20
    with pytest.raises(KeyboardInterrupt):
        restore_path(restorer, pipe, tmp_path / "b.mp4")
    writer.join()
    # What was in the ring is written too.
    assert 20 <= len(frames_of(tmp_path / "b.mp4")) <= 25
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mkv", "b.mp4", "pipe"]
    with av.open(str(tmp_path / "b.mp4")) as container:
        sound = container.streams.audio[0]
        assert sound.duration is not None
        assert 0.5 < sound.duration * sound.time_base < 1.1


def _write_pipe(pipe: Path, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), open(pipe, "wb") as file:
        file.write(data)


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_while_waiting_for_a_slow_restorer(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", frames=60)
    script = f"""
        import sys, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from media_files import FakeRestorer, FakeStream
        from elir_trt.io.restore import restore_path
        put = FakeStream.submit
        def slow(self, frame, *arguments, **options):
            time.sleep(0.05)
            return put(self, frame, *arguments, **options)
        FakeStream.submit = slow
        def tell(done, total, fps):
            print(done, flush=True)
        restore_path(FakeRestorer(), {str(source)!r}, {str(tmp_path / "b.mp4")!r}, progress=tell)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 10:
            process.send_signal(signal.SIGINT)
            break
    started = time.monotonic()
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - started < 10
    assert "KeyboardInterrupt: interrupted, 60 of 60 frames; the film is finished" in errors
    assert len(frames_of(tmp_path / "b.mp4")) == 60


def test_a_bar_shows_frames_per_second() -> None:
    console = Console(record=True, force_terminal=True, width=120)
    with RichProgress(console=console) as progress:
        progress(3, None, 12.5)
        progress(5, 4, 12.5)
    assert "12.5 fps" in console.export_text()


@pytest.mark.filterwarnings("ignore::elir_trt.errors.ElirWarning")
@pytest.mark.parametrize("path", real("bad_inputs"))
def test_real_bad_inputs_give_one_error_or_a_file(path: Path, tmp_path: Path, restorer: FakeRestorer) -> None:
    target = tmp_path / ("b.mp4" if path.suffix in {".mp4", ".mkv", ".ts", ".mov"} else "b.png")
    try:
        report = restore_path(restorer, path, target)
    except ElirError as error:
        assert path.name in str(error)
        assert list(tmp_path.iterdir()) == []
    else:
        assert report.outputs == [target]
        assert [p.name for p in tmp_path.iterdir()] == [target.name]
