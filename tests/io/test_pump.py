"""The pump, with sources and sinks that a test makes up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media_files import FakeRestorer, make_video, picture

import elir_trt
from elir_trt.errors import ElirError, FrameError, MediaError
from elir_trt.io import Frame, Sink, Source, Unreadable, VideoReader, pump, restore_path
from elir_trt.stream import Result

Item = Frame | Unreadable


class Given(Source):
    """A source of any iterable."""

    def __init__(self, items: Any, **attributes: Any) -> None:
        self._items = items
        self.stopped = threading.Event()
        vars(self).update(attributes)

    def __iter__(self) -> Iterator[Item]:
        yield from self._items

    def stop(self) -> None:
        self.stopped.set()


class Kept(Sink):
    """A sink that keeps what it gets, and how it ended."""

    def __init__(self, **attributes: Any) -> None:
        self.pairs: list[tuple[Result, Frame]] = []
        self.end: str | None = None
        vars(self).update(attributes)

    def write(self, result: Result, frame: Frame) -> None:
        self.pairs.append((result, frame))

    def close(self, *, complete: bool = True) -> None:
        assert self.end is None
        self.end = "closed" if complete else "finished early"

    def abort(self) -> None:
        assert self.end is None
        self.end = "aborted"


def frames(count: int, height: int = 24, width: int = 32) -> list[Frame]:
    return [Frame(picture(height, width, n), 0.04 * n) for n in range(count)]


def test_a_generator_is_a_source_and_a_list_a_sink() -> None:
    """A new place for frames is one class; nothing else is touched, and the real restorer takes it."""

    class Numbers(Source):
        frames = 5

        def __iter__(self) -> Iterator[Frame]:
            yield from (Frame(np.full((32, 48, 3), 40 * n, np.uint8), n / 25) for n in range(5))

    class Collected(Sink):
        def __init__(self) -> None:
            self.levels: list[float] = []
            self.times: list[float | None] = []

        def write(self, result: Result, frame: Frame) -> None:
            self.levels.append(float(result.frame.mean()))
            self.times.append(result.timestamp)

    sink = Collected()
    with elir_trt.open("camera") as restorer, Numbers() as source:
        report = pump(source, restorer, sink)
    assert (report.frames, report.failed, report.dropped) == (5, 0, 0)
    assert sink.times == [n / 25 for n in range(5)]
    np.testing.assert_allclose(sink.levels, [0, 40, 80, 120, 160], atol=3)
    assert report.fps > 0 and report.seconds > 0


def test_formats_are_those_of_source_and_sink() -> None:
    nv12 = np.full((48, 32), 128, np.uint8)  # 32x32, grey
    sink = Kept(pixel_format="rgba")
    with elir_trt.open("camera") as restorer:
        pump(Given([Frame(nv12)], pixel_format="nv12", full_range=True), restorer, sink)
    assert sink.pairs[0][0].frame.shape == (32, 32, 4)
    assert np.abs(sink.pairs[0][0].frame[:, :, :3].astype(int) - 128).max() <= 4


def test_results_come_in_order_with_their_frames(restorer: FakeRestorer) -> None:
    sink, given = Kept(), frames(20)
    seen: list[tuple[int, int | None]] = []
    pump(
        Given(given, frames=20), restorer, sink, progress=lambda done, total, fps: seen.append((done, total))
    )
    assert [frame for _, frame in sink.pairs] == given
    for result, frame in sink.pairs:
        np.testing.assert_array_equal(result.frame, 255 - frame.pixels)
        assert result.timestamp == frame.timestamp_s
    assert seen == [(n, 20) for n in range(1, 21)]
    assert sink.end == "closed"
    assert all(stream.closed.is_set() for stream in restorer.streams)


def test_every_size_has_its_stream(restorer: FakeRestorer) -> None:
    sink = Kept()
    given = [*frames(4), *frames(4, 40, 20), *frames(4)]
    assert pump(Given(given), restorer, sink).frames == 12
    assert [frame for _, frame in sink.pairs] == given
    assert [stream.size for stream in restorer.streams] == [(24, 32), (40, 20), (24, 32)]


def test_nothing_is_no_error(restorer: FakeRestorer) -> None:
    sink = Kept()
    assert pump(Given([]), restorer, sink).frames == 0
    assert sink.end == "closed"
    assert restorer.streams == []


def test_errors_of_single_frames_are_reported_in_their_place(restorer: FakeRestorer) -> None:
    given: list[Item] = [*frames(6)]
    given[1] = Unreadable("one.png", MediaError("one.png: broken"))
    restorer.fail_at = 3  # of those that are read
    told: list[tuple[Item, str]] = []
    done: list[int] = []
    sink = Kept()
    report = pump(
        Given(given),
        restorer,
        sink,
        on_error=lambda item, error: told.append((item, str(error))),
        progress=lambda n, total, fps: done.append(n),
    )
    assert told == [(given[1], "one.png: broken"), (given[4], "frame failed")]
    assert [frame for _, frame in sink.pairs] == [given[n] for n in (0, 2, 3, 5)]
    assert (report.frames, report.failed, done) == (4, 2, list(range(1, 7)))
    assert sink.end == "closed"


@pytest.mark.parametrize("broken", [0, 5])
def test_without_a_listener_the_first_error_ends_it(restorer: FakeRestorer, broken: int) -> None:
    restorer.fail_at = broken
    sink, source = Kept(), Given(frames(50))
    with pytest.raises(FrameError):
        pump(source, restorer, sink)
    assert sink.end == "aborted"
    assert len(sink.pairs) == broken


def test_a_frame_that_no_stream_takes_fails_alone() -> None:
    sink = Kept()
    given = [*frames(1), Frame(np.zeros((8, 8), np.uint8)), *frames(1)]
    told: list[Item] = []
    with elir_trt.open("camera") as restorer:
        report = pump(Given(given), restorer, sink, on_error=lambda item, error: told.append(item))
    assert told == [given[1]]
    assert (report.frames, report.failed) == (2, 1)


def test_what_the_source_raises_ends_it(restorer: FakeRestorer) -> None:
    def broken() -> Iterator[Frame]:
        yield from frames(4)
        raise EOFError("of the source's own making")

    sink = Kept()
    with pytest.raises(EOFError, match="own making"):
        pump(Given(broken()), restorer, sink)
    assert sink.end == "aborted"
    assert len(sink.pairs) == 4


def test_what_the_sink_raises_ends_it(restorer: FakeRestorer) -> None:
    class Full(Kept):
        def write(self, result: Result, frame: Frame) -> None:
            if len(self.pairs) == 3:
                raise MediaError("no space left")
            super().write(result, frame)

    sink, source = Full(), Given(frames(1000))
    told: list[ElirError] = []
    with pytest.raises(MediaError, match="no space"):
        pump(source, restorer, sink, on_error=lambda item, error: told.append(error))
    assert (sink.end, told) == ("aborted", [])
    assert source.stopped.is_set()


def test_a_sink_that_is_done_stops_the_source(restorer: FakeRestorer) -> None:
    class Three(Kept):
        def write(self, result: Result, frame: Frame) -> None:
            super().write(result, frame)
            self.done = len(self.pairs) == 3

    def forever() -> Iterator[Frame]:
        while True:
            yield from frames(1)

    sink, source = Three(), Given(forever())
    assert pump(source, restorer, sink).frames == 3
    assert sink.end == "finished early"
    assert source.stopped.is_set()


class Slow:
    """The real restorer, whose results take their time: a stream drops as it does with a slow GPU."""

    def __init__(self, restorer: Any, drop: list[str]) -> None:
        self._restorer, self._drop = restorer, drop

    def stream(self, **options: Any) -> Any:
        self._drop.append(options["drop"])
        return self._restorer.stream(**options)


@pytest.mark.parametrize("drop", [None, "newest"])
def test_a_live_source_drops_and_keeps_frames_with_their_results(drop: Any) -> None:
    class Late(Kept):
        def write(self, result: Result, frame: Frame) -> None:
            super().write(result, frame)
            time.sleep(0.02)

    def camera() -> Iterator[Frame]:
        for n in range(150):
            time.sleep(0.001)
            yield Frame(np.full((32, 32, 3), n, np.uint8), float(n))

    sink, used = Late(), []
    with elir_trt.open("camera") as restorer:
        report = pump(Given(camera(), live=True), Slow(restorer, used), sink, depth=2, drop=drop)
    assert used == [drop or "oldest"]
    assert report.frames + report.dropped == 150
    assert report.frames == len(sink.pairs)
    assert report.dropped > 0
    for result, frame in sink.pairs:
        assert result.timestamp == frame.timestamp_s
        assert abs(float(result.frame.mean()) - float(frame.pixels.mean())) < 6
    if drop is None:
        assert sink.pairs[-1][1].timestamp_s == 149.0  # the newest is never given up


def test_frames_of_a_live_source_do_not_pile_up_behind_a_sink_that_stands_still() -> None:
    alive: list[int] = []
    stand = threading.Event()

    class Stuck(Kept):
        def write(self, result: Result, frame: Frame) -> None:
            stand.wait(20)
            super().write(result, frame)

    def camera() -> Iterator[Frame]:
        given: list[weakref.ref[Frame]] = []
        for n in range(400):
            frame = Frame(np.full((16, 16, 3), 7, np.uint8), float(n))
            given.append(weakref.ref(frame))
            yield frame
            del frame
        alive.append(sum(of() is not None for of in given))
        stand.set()

    sink = Stuck()
    with elir_trt.open("camera") as restorer:
        report = pump(Given(camera(), live=True), restorer, sink)
    assert report.frames + report.dropped == 400
    assert alive[0] < 80


@pytest.mark.parametrize("keeps", [True, False])
def test_an_interrupt_finishes_what_the_sink_wants_finished(restorer: FakeRestorer, keeps: bool) -> None:
    sink, source = Kept(finish_on_interrupt=keeps), Given(frames(50))

    def interrupt(done: int, total: int | None, fps: float) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pump(source, restorer, sink, progress=interrupt)
    assert sink.end == ("finished early" if keeps else "aborted")
    # What was in flight comes too, in order and once.
    times = [frame.timestamp_s for _, frame in sink.pairs]
    assert times == [0.04 * n for n in range(len(times))]
    assert (10 < len(times) <= 15) if keeps else len(times) == 10


def signalled(script: str, number: int, at: int, *, times: int = 1) -> tuple[int, str, float]:
    """Run a script that prints the frames that are done, and send it a signal; gives status, errors, seconds."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
    )
    assert process.stdout is not None
    started = time.monotonic()
    for line in process.stdout:
        if line.strip() == str(at):
            for n in range(times):
                time.sleep(0.5 * bool(n))
                process.send_signal(number)
            started = time.monotonic()
            break
    _, errors = process.communicate(timeout=30)
    return process.returncode, errors, time.monotonic() - started


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_video_that_goes_on(tmp_path: Path, number: int) -> None:
    source, target = make_video(tmp_path / "a.mp4", frames=400), tmp_path / "b.mp4"
    script = f"""
        import sys, time
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from media_files import FakeRestorer
        from elir_trt.io import restore_path
        def tell(done, total, fps):
            print(done, flush=True)
            time.sleep(0.02)
        restore_path(FakeRestorer(), {str(source)!r}, {str(target)!r}, progress=tell)
    """
    status, errors, seconds = signalled(script, number, at=10)
    assert seconds < 10
    assert status == (143 if number == signal.SIGTERM else -signal.SIGINT), errors
    assert ("KeyboardInterrupt" in errors) == (number == signal.SIGINT)
    assert not target.exists()
    assert restore_path(FakeRestorer(), source, target).frames == 150
    with VideoReader(target) as reader:
        assert len(list(reader)) == 400
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    script = f"""
        import sys, time
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        import numpy as np
        from media_files import FakeRestorer
        from elir_trt.io import Frame, Sink, Source, pump
        class Frames(Source):
            def __iter__(self):
                for n in range(9):
                    yield Frame(np.zeros((8, 8, 3), np.uint8))
        class Stuck(Sink):
            def write(self, result, frame):
                print(1, flush=True)
                time.sleep(60)
            def abort(self):
                print("aborted", file=sys.stderr)
        pump(Frames(), FakeRestorer(), Stuck())
    """
    status, errors, seconds = signalled(script, signal.SIGINT, at=1, times=2)
    assert seconds < 10
    assert status == -signal.SIGINT
    assert "aborted" in errors


def test_handlers_of_the_program_are_left_alone(restorer: FakeRestorer) -> None:
    def own(*_: object) -> None:
        pass

    before = signal.signal(signal.SIGTERM, own)
    try:
        seen: list[Any] = []
        pump(
            Given(frames(1)),
            restorer,
            Kept(),
            progress=lambda *_: seen.extend(map(signal.getsignal, (signal.SIGTERM, signal.SIGINT))),
        )
        assert seen[0] is own
        assert seen[1] is not signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_works_in_another_thread(restorer: FakeRestorer) -> None:
    sink = Kept()
    thread = threading.Thread(target=pump, args=(Given(frames(5)), restorer, sink))
    thread.start()
    thread.join(20)
    assert sink.end == "closed" and len(sink.pairs) == 5
