"""Videos that are killed, interrupted or run out of disk, and go on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media_files import FakeRestorer, make_video

import elir_trt
from elir_trt.errors import MediaError, StateError
from elir_trt.io import resuming, segments
from elir_trt.io.restore import restore_path
from elir_trt.io.selection import Selection
from elir_trt.io.video import VideoReader
from elir_trt.io.video_job import VideoOptions

LATE_AND_UNEVEN = [48 + 33 * n + 7 * (n % 3) + (400 if n > 20 else 0) for n in range(60)]


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "_LONGEST", 13)


def content(path: Path) -> dict[str, Any]:
    """What a film shows and plays: frames, their times, and the packets of sound."""
    with VideoReader(path) as reader:
        frames = [(float(frame.timestamp_s or 0), frame.pixels) for frame in reader]
    with av.open(str(path)) as container:
        sound = [
            (packet.pts, packet.duration, bytes(packet))
            for packet in container.demux(container.streams.audio)
            if packet.size
        ]
    return {"times": [t for t, _ in frames], "pixels": [p for _, p in frames], "sound": sound}


def assert_same(found: Path, expected: Path) -> None:
    a, b = content(found), content(expected)
    assert a["times"] == b["times"]
    assert a["sound"] == b["sound"] != []
    for left, right in zip(a["pixels"], b["pixels"], strict=True):
        np.testing.assert_array_equal(left, right)


def work(path: Path) -> Path:
    return path.parent / f".{path.name}.elir"


def film(folder: Path, suffix: str) -> Path:
    """B-frames and sound; in .mkv uneven times and a first frame that comes late."""
    pts = LATE_AND_UNEVEN if suffix == ".mkv" else None
    return make_video(folder / f"a{suffix}", frames=60, pts=pts, audio=True)


def test_segments_join_as_if_encoded_in_one(tmp_path: Path, restorer: FakeRestorer) -> None:
    for suffix in (".mp4", ".mkv"):
        source = film(tmp_path, suffix)
        target = tmp_path / f"b{suffix}"
        assert restore_path(restorer, source, target).frames == 60
        before, after = content(source), content(target)
        assert after["times"] == before["times"]
        # Matroska has no place for the run-in of AAC, which players discard.
        kept = before["sound"] if suffix == ".mp4" else [p for p in before["sound"] if p[0] >= 0]
        assert [data for *_, data in after["sound"]] == [data for *_, data in kept] != []
        for left, right in zip(after["pixels"], before["pixels"], strict=True):
            assert np.abs(left.astype(int) - (255 - right)).mean() < 4
        assert not work(target).exists()


KILLER = """
    import os, random, signal, sys, time
    sys.path.insert(0, {folder!r})
    import av
    from media_files import FakeRestorer, FakeStream
    from elir_trt.io import resuming
    from elir_trt.io.restore import restore_path
    import elir_trt.io.video_job
    resuming._LONGEST = 13
    put = FakeStream.submit
    def slow(self, *arguments, **options):
        time.sleep(0.004)
        return put(self, *arguments, **options)
    FakeStream.submit = slow
    def start(source, target, temporal):
        child = os.fork()
        if child:
            return child
        status = 1
        try:
            restore_path(FakeRestorer(), source, target, temporal=temporal)
            status = 0
        finally:
            os._exit(status)
    source, target, temporal, seed, kills = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])
    began = time.monotonic()
    assert os.waitpid(start(source, target.replace("b.", "whole."), temporal), 0)[1] == 0
    length = time.monotonic() - began
    choose = random.Random(seed)
    for n in range(kills):
        name = target.replace("b.", f"b{{n}}.")
        child = start(source, name, temporal)
        time.sleep(choose.uniform(0.1, 1.0) * length)
        os.kill(child, signal.SIGKILL)
        killed = os.waitpid(child, 0)[1] == signal.SIGKILL
        finished = os.path.exists(name)
        folder = os.path.join(os.path.dirname(name), "." + os.path.basename(name) + ".elir")
        done = len([p for p in os.listdir(folder) if p.endswith(".seg")]) if os.path.isdir(folder) else 0
        print(killed, done, flush=True)
        if killed:
            # A film that has its name is whole, and not made again.
            assert (os.waitpid(start(source, name, temporal), 0)[1] == 0) != finished
"""


@pytest.mark.parametrize(("suffix", "temporal"), [(".mp4", "off"), (".mkv", "off"), (".mp4", "auto")])
def test_killed_at_random_moments(tmp_path: Path, suffix: str, temporal: str) -> None:
    """With sound, B-frames, uneven times and a first frame that comes late."""
    kills = 20
    source = make_video(tmp_path / f"a{suffix}", frames=60, pts=LATE_AND_UNEVEN, audio=True)
    script = textwrap.dedent(KILLER.format(folder=str(Path(__file__).parent)))
    done = subprocess.run(
        [sys.executable, "-c", script, source, tmp_path / f"b{suffix}", temporal, "7", str(kills)],
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    states = [line.split() for line in done.stdout.splitlines()]
    assert len(states) == kills
    assert sum(killed == "True" for killed, _ in states) >= kills // 2
    for n in range(kills):
        target = tmp_path / f"b{n}{suffix}"
        assert_same(target, tmp_path / f"whole{suffix}")
        assert not work(target).exists()


def stopped(restorer: FakeRestorer, source: Path, target: Path, at: int, **options: Any) -> str:
    """Restore up to a Ctrl-C, which comes with the result of that number; gives what is said of it."""
    restorer.interrupt_at = restorer.done + at
    with pytest.raises(KeyboardInterrupt) as found:
        restore_path(restorer, source, target, **options)
    restorer.interrupt_at = None
    return str(found.value)


def test_ctrl_c_finishes_the_segment_and_the_same_command_goes_on(tmp_path: Path) -> None:
    source, whole, target = film(tmp_path, ".mp4"), tmp_path / "whole.mp4", tmp_path / "b.mp4"
    restore_path(FakeRestorer(), source, whole)
    restorer, said = FakeRestorer(), []
    text = stopped(restorer, source, target, 20)
    assert text == "interrupted, 26 of 60 frames; run the same command to go on"
    assert not target.exists()
    progress: list[tuple[int, int | None]] = []
    report = restore_path(
        restorer,
        source,
        target,
        progress=lambda done, total, fps: progress.append((done, total)),
        say=said.append,
    )
    assert report.frames == 34  # in this run
    assert progress[0] == (27, 60)
    assert progress[-1] == (60, 60)
    assert said == [f"{target}: goes on behind frame 26 of 60"]
    assert_same(target, whole)


def test_a_slow_segment_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "_PATIENCE_S", 0.0)
    source, target = film(tmp_path, ".mp4"), tmp_path / "b.mp4"
    assert stopped(FakeRestorer(), source, target, 20).startswith("interrupted, 13 of 60 frames")
    assert stopped(FakeRestorer(), source, target, 3).startswith("interrupted, 13 of 60 frames")
    restore_path(FakeRestorer(), source, target)
    assert len(content(target)["times"]) == 60


def test_another_command_starts_afresh(tmp_path: Path) -> None:
    source, target = film(tmp_path, ".mp4"), tmp_path / "b.mp4"
    for options, reason in (
        ({"seed": 5}, "seed"),
        ({"video": VideoOptions(restart=True)}, None),
        ({"compare": True}, "compare"),
    ):
        stopped(FakeRestorer(), source, target, 20, overwrite=True)
        said: list[str] = []
        report = restore_path(FakeRestorer(), source, target, say=said.append, overwrite=True, **options)
        assert report.frames == 60
        assert len(said) == (reason is not None)
        assert all("starts afresh" in line and f"another {reason}" in line for line in said)
    stopped(FakeRestorer(), source, tmp_path / "c.mp4", 20)
    os.utime(source, (0, 0))
    assert restore_path(FakeRestorer(), source, tmp_path / "c.mp4").frames == 60


def test_damage_is_met_again_and_can_be_gone_over(tmp_path: Path, restorer: FakeRestorer) -> None:
    source, target = make_video(tmp_path / "a.mkv", frames=60, size=(192, 256)), tmp_path / "b.mkv"
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 8 // 10])
    with pytest.warns(UserWarning, match="damaged"):
        whole = restore_path(restorer, source, tmp_path / "whole.mkv", damaged="warn")
    with pytest.warns(UserWarning, match="damaged"):
        stopped(restorer, source, target, 20, damaged="warn")
    with pytest.warns(UserWarning, match="damaged"):
        report = restore_path(restorer, source, target, damaged="warn")
    assert report.frames == whole.frames - 26


def test_a_segment_that_is_not_whole_is_made_again(tmp_path: Path) -> None:
    source, whole, target = film(tmp_path, ".mp4"), tmp_path / "whole.mp4", tmp_path / "b.mp4"
    restore_path(FakeRestorer(), source, whole)
    for change in (lambda data: data[:-3], lambda data: data[:90] + b"?" + data[91:], lambda data: b""):
        stopped(FakeRestorer(), source, target, 20, overwrite=True)
        second = work(target) / "000001.seg"
        second.write_bytes(change(second.read_bytes()))
        assert restore_path(FakeRestorer(), source, target, overwrite=True).frames == 60 - 13
        assert_same(target, whole)
    stopped(FakeRestorer(), source, target, 20, overwrite=True)
    (work(target) / "job.json").write_text("{")
    said: list[str] = []
    restore_path(FakeRestorer(), source, target, overwrite=True, say=said.append)
    assert "record cannot be read" in said[0]
    assert_same(target, whole)


def test_two_runs_do_not_write_one_film(tmp_path: Path) -> None:
    source, target = film(tmp_path, ".mp4"), tmp_path / "b.mp4"

    def second(done: int, total: int | None, fps: float) -> None:
        if done == 5:
            with pytest.raises(MediaError, match="another process is writing it"):
                restore_path(FakeRestorer(), source, target)

    assert restore_path(FakeRestorer(), source, target, progress=second).frames == 60


def test_a_full_disk_is_one_error_and_goes_on_after_space_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, whole, target = film(tmp_path, ".mp4"), tmp_path / "whole.mp4", tmp_path / "b.mp4"
    restore_path(FakeRestorer(), source, whole)
    with monkeypatch.context() as patch:
        fsync, calls = os.fsync, []

        def full(number: int) -> None:
            calls.append(number)
            if len(calls) > 4:  # two for a segment: the file and the folder
                raise OSError(28, "No space left on device")
            fsync(number)

        patch.setattr(os, "fsync", full)
        with pytest.raises(MediaError, match=r"b\.mp4.*No space left.*26 frames are kept.*go on"):
            restore_path(FakeRestorer(), source, target)
    assert not target.exists()
    assert restore_path(FakeRestorer(), source, target).frames == 34
    assert_same(target, whole)


def test_a_disk_that_is_full_at_the_join(tmp_path: Path) -> None:
    source, target = film(tmp_path, ".mkv"), tmp_path / "b.mkv"
    restore_path(FakeRestorer(), source, tmp_path / "whole.mkv")
    script = f"""
        import resource, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from media_files import FakeRestorer
        from elir_trt.errors import MediaError
        from elir_trt.io import resuming
        from elir_trt.io.restore import restore_path
        resuming._LONGEST = 13
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
        try:
            restore_path(FakeRestorer(), {str(source)!r}, {str(target)!r})
        except MediaError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, cwd="/"
    )
    assert "60 frames are kept" in done.stdout, done
    assert not target.exists()
    assert restore_path(FakeRestorer(), source, target).frames == 0
    assert_same(target, tmp_path / "whole.mkv")


def test_a_reader_goes_to_the_frame(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", frames=200, options={"bf": "3", "g": "50"})
    with VideoReader(source) as reader:
        frames = list(reader)
    for at in (1, 49, 50, 51, 120, 199):
        last = frames[at - 1]
        position = segments.Position(at, last.pts, resuming.checksum(last.pixels))
        with VideoReader(source) as reader:
            reader.go_to(position)
            rest = list(reader)
        assert [frame.pts for frame in rest] == [frame.pts for frame in frames[at:]]
        for left, right in zip(rest, frames[at:], strict=True):
            np.testing.assert_array_equal(left.pixels, right.pixels)
    wrong = segments.Position(50, frames[49].pts, 1)
    with VideoReader(source) as reader, pytest.raises(MediaError, match="frame 50 is not the one"):
        reader.go_to(wrong)
        list(reader)


def test_what_is_kept_names_the_command(tmp_path: Path) -> None:
    source, target = film(tmp_path, ".mp4"), tmp_path / "b.mp4"
    stopped(FakeRestorer(), source, target, 20, seed=3)
    command = json.loads((work(target) / "job.json").read_text())["command"]
    assert command["seed"] == 3
    assert command["input"]["bytes"] == source.stat().st_size


class Killed(Exception):
    """Stands for a kill: nothing of the open segment is finished."""


def killed(restorer: Any, source: Path, target: Path, at: int, **options: Any) -> None:
    def end(done: int, total: int | None, fps: float) -> None:
        if done == at:
            raise Killed

    with pytest.raises(Killed):
        restore_path(restorer, source, target, progress=end, **options)


def test_what_depends_on_earlier_frames_goes_on_to_the_bit(tmp_path: Path, small_bundle: Path) -> None:
    source, whole, target = film(tmp_path, ".mp4"), tmp_path / "whole.mp4", tmp_path / "b.mp4"
    with elir_trt.open(small_bundle) as restorer:
        for options in ({"temporal": "auto"}, {"noise": "per-frame"}):
            restore_path(restorer, source, whole, overwrite=True, **options)
            killed(restorer, source, target, 31, overwrite=True, **options)
            killed(restorer, source, target, 50, overwrite=True, **options)
            report = restore_path(restorer, source, target, overwrite=True, **options)
            assert report.frames == 60 - 3 * 13
            assert_same(target, whole)


def test_state_that_is_not_whole_is_made_again(tmp_path: Path) -> None:
    source, whole, target = film(tmp_path, ".mp4"), tmp_path / "whole.mp4", tmp_path / "b.mp4"
    restore_path(FakeRestorer(), source, whole, temporal="auto")
    for damaged, frames in ((("000001",), 60 - 13), (("000000", "000001"), 60)):
        killed(FakeRestorer(), source, target, 30, overwrite=True, temporal="auto")
        for name in damaged:
            state = work(target) / f"{name}.state"
            state.write_bytes(state.read_bytes()[:-90])
        report = restore_path(FakeRestorer(), source, target, overwrite=True, temporal="auto")
        assert report.frames == frames
        assert_same(target, whole)


def test_state_of_other_tiles_is_refused(tmp_path: Path, small_bundle: Path) -> None:
    source, target = film(tmp_path, ".mp4"), tmp_path / "b.mp4"
    with elir_trt.open(small_bundle) as restorer:
        killed(restorer, source, target, 15, temporal="auto")
        state = work(target) / "000000.state"
        with np.load(state) as kept:
            frames, temporal = kept["frames"], kept["temporal"]
        with open(state, "wb") as file:
            np.savez(file, frames=frames, temporal=temporal[:, :, 1:])
        with pytest.raises(StateError, match=r"b\.mp4.*state is \[1, 4, .*--max-memory, or --restart"):
            restore_path(restorer, source, target, temporal="auto")


def test_a_folder_that_is_left_of_a_finished_film_goes(tmp_path: Path) -> None:
    source, target = film(tmp_path, ".mp4"), tmp_path / "b.mp4"
    stopped(FakeRestorer(), source, target, 20)
    shutil.copytree(work(target), tmp_path / "kept")
    restore_path(FakeRestorer(), source, target)
    shutil.copytree(tmp_path / "kept", work(target))
    with pytest.raises(MediaError, match="exists"):
        restore_path(FakeRestorer(), source, target)
    assert work(target).is_dir()  # of a film that is not this one
    job = json.loads((work(target) / "job.json").read_text())
    job["facts"]["film"] = target.stat().st_ino
    (work(target) / "job.json").write_text(json.dumps(job))
    with pytest.raises(MediaError, match="exists"):
        restore_path(FakeRestorer(), source, target)
    assert not work(target).exists()


def test_a_part_of_a_video_goes_on_too(tmp_path: Path) -> None:
    source = film(tmp_path, ".mp4")
    part = VideoOptions(selection=Selection(start_s=0.4, duration_s=1.6))
    whole, target = tmp_path / "whole.mp4", tmp_path / "b.mp4"
    assert restore_path(FakeRestorer(), source, whole, video=part).frames == 40
    assert [round(t * 25) for t in content(whole)["times"]] == list(range(40))
    stopped(FakeRestorer(), source, target, 15, video=part)
    assert restore_path(FakeRestorer(), source, target, video=part).frames == 14
    assert_same(target, whole)
