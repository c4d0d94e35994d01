"""A live run: bounded age, sinks that do not wait for each other, settings that change."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_parts import Clip, Kept, SlowRestorer, until

from elir_trt.errors import ElirError, MediaError
from elir_trt.io import VideoReader
from elir_trt.live import Fanout, LiveFrame, LiveSource, Monitor, Session, Settings, open_sink
from elir_trt.live.monitor import Latencies, as_line
from elir_trt.stream import Result


class Run:
    """A session in a thread of its own."""

    def __init__(
        self,
        clip: Any,
        restorer: SlowRestorer,
        *,
        max_age_ms: float | None = None,
        finite: bool = True,
        others: dict[str, SlowRestorer] | None = None,
        **sinks: Any,
    ) -> None:
        self.said: list[str] = []
        self.monitor = Monitor()
        self.source = LiveSource(
            lambda: clip, max_age_ms=max_age_ms, finite=finite, monitor=self.monitor, say=self.said.append
        )
        self.fanout = Fanout(sinks, max_age_ms=max_age_ms, monitor=self.monitor, say=self.said.append)
        found = {"slow": restorer, **(others or {})}
        self.session = Session(
            self.source,
            self.fanout,
            found.__getitem__,
            Settings("slow"),
            offered=tuple(others or ()),
            say=self.said.append,
        )
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.session.run()
        except BaseException as error:
            self.error = error

    def end(self, stop: bool = False) -> dict[str, Any]:
        if stop:
            self.session.stop()
        self.thread.join(30)
        assert not self.thread.is_alive()
        self.session.close()
        self.source.close()
        return self.monitor.snapshot()


def accounted(counts: dict[str, Any]) -> int:
    return int(counts["restored"] + counts["failed"] + sum(counts["dropped"].values()))


def test_a_source_at_five_times_the_rate_is_never_late() -> None:
    """A frame is taken each 4 ms and restored in 20: none that is shown is older than allowed; all are counted."""
    sink = Kept()
    counts = Run(Clip(500, rate=250.0), SlowRestorer(0.02), max_age_ms=150, sink=sink).end()
    assert counts["latency_ms"]["p99"] <= 150.0
    assert max(sink.ages) < 0.3  # the sink's own thread may have to wait for a processor
    assert np.median(sink.ages) < 0.1
    assert counts["captured"] == 500 == accounted(counts)
    assert counts["dropped"]["overtaken"] > 250
    assert 20 < counts["restored"] < 200
    numbers = [int(frame.pixels[0, 0, 0]) for _, frame in sink.results]
    assert len(set(np.diff(numbers) % 256) - {0}) >= 1
    for result, frame in sink.results:
        np.testing.assert_array_equal(result.frame, 255 - frame.pixels)
    assert sink.end == "closed"


def test_results_that_came_too_late_are_not_shown_and_somebody_is_told() -> None:
    sink = Kept()
    run = Run(Clip(2000, rate=1000.0), SlowRestorer(0.03), max_age_ms=10, sink=sink)
    counts = run.end()
    assert sink.results == [] and counts["restored"] == 0
    assert counts["dropped"]["late"] >= 50
    assert [line for line in run.said if "50 frames in a row were older than 0.010 s" in line]
    assert counts["captured"] == accounted(counts)


def test_a_slow_sink_alone_loses_frames() -> None:
    slow, quick, stuck = Kept(0.1), Kept(), Kept()
    stuck.go_on.clear()
    run = Run(Clip(300, rate=300.0), SlowRestorer(0.001), slow=slow, quick=quick, stuck=stuck)
    until(lambda: len(quick.results) > 100)
    assert len(stuck.results) == 0
    assert len(slow.results) < 30
    stuck.go_on.set()
    counts = run.end()
    sinks = counts["sinks"]
    assert sinks["quick"]["dropped"] < 30 and sinks["quick"]["written"] > 200
    assert sinks["slow"]["dropped"] > 150
    assert sinks["slow"]["written"] + sinks["slow"]["dropped"] == counts["restored"]
    assert max(quick.ages) < 0.5


def test_a_full_disk_ends_one_sink_and_the_others_go_on() -> None:
    full, other = Kept(fail_at=3), Kept()
    run = Run(Clip(100, rate=200.0), SlowRestorer(0.001), disk=full, other=other)
    counts = run.end()
    assert run.error is None or "disk: " in str(run.error)
    assert full.end == "aborted" and other.end == "closed"
    assert len(other.results) > 50
    assert counts["sinks"]["disk"]["error"] == "[Errno 28] No space left on device"
    assert [line for line in run.said if line.startswith("disk: this output is given up:")]
    assert "disk failed" in as_line(counts)


def test_when_every_sink_has_failed_it_ends_with_one_error() -> None:
    run = Run(Clip(), SlowRestorer(0.001), finite=False, one=Kept(fail_at=1), two=Kept(fail_at=2))
    run.end()
    assert isinstance(run.error, MediaError)
    assert "no output is left: one: [Errno 28]" in str(run.error) and "two:" in str(run.error)


def test_a_sink_that_is_done_ends_the_run() -> None:
    class Closed(Kept):
        def write(self, result: Any, frame: Any) -> None:
            super().write(result, frame)
            self.done = len(self.results) >= 5

    window, other = Closed(), Kept()
    Run(Clip(), SlowRestorer(), finite=False, window=window, other=other).end()
    assert (window.end, other.end) == ("closed", "closed")


def test_settings_change_while_it_runs() -> None:
    sink = Kept()
    slow, other = SlowRestorer(), SlowRestorer(name="other", steps=2)
    run = Run(Clip(), slow, finite=False, others={"other": other}, sink=sink)
    until(lambda: len(sink.results) > 5)
    assert slow.streams[0].options["steps"] is None
    run.session.change({"steps": 3, "noise": "off", "temporal": "auto", "deadline_ms": 40.0})
    until(lambda: sink.results[-1][0].steps == 3)
    options = slow.streams[-1].options
    assert (options["noise"], options["temporal"], options["deadline_ms"]) == ("off", "auto", 40.0)
    run.session.change({"bundle": "other"})
    until(lambda: len(other.streams) == 1 and sink.results[-1][0].steps == 0)
    assert run.session.describe()["title"] == "Restorer other"
    assert run.session.describe()["allowed"]["steps"] == [0, 2]
    for wrong, words in (
        ({"steps": 3}, "steps is 3; bundle other allows 0 to 2"),
        ({"steps": True}, "steps is True"),
        ({"noise": "loud"}, "noise is 'loud'; allowed: fixed, per-frame, off"),
        ({"bundle": "/etc"}, "offered here: slow, other"),
        ({"colour": 1}, "there is no setting 'colour'"),
        ({"deadline_ms": -1}, "deadline_ms is -1"),
    ):
        with pytest.raises(ElirError, match=words):
            run.session.change(wrong)
    assert run.session.settings.bundle == "other"
    counts = run.end(stop=True)
    assert run.error is None and sink.end == "closed"
    assert slow.closed and other.closed and all(stream.closed for stream in slow.streams)
    # Each change costs the frames that were in the ring, and no more.
    assert counts["captured"] - accounted(counts) <= 3 * 4


def test_frames_that_fail_are_counted_and_too_many_end_it() -> None:
    sink, restorer = Kept(), SlowRestorer()
    run = Run(Clip(rate=500.0), restorer, finite=False, sink=sink)
    until(lambda: len(sink.results) > 5)
    restorer.broken = True
    until(lambda: run.error is not None)
    counts = run.end()
    assert "100 frames in a row failed, the last one with: broken" in str(run.error)
    assert counts["failed"] == 100
    assert len([line for line in run.said if "a frame failed" in line]) == 1
    assert sink.end == "finished early"


def test_a_sink_gets_the_channel_order_that_it_wants() -> None:
    rgb, bgr = Kept(), Kept()
    bgr.pixel_format = "bgr24"
    run = Run(Clip(20), SlowRestorer(), rgb=rgb, bgr=bgr)
    run.end()
    assert run.fanout.pixel_format == "bgr24"
    assert run.session.restorer.streams[0].options["output_format"] == "bgr24"
    np.testing.assert_array_equal(rgb.results[0][0].frame[..., ::-1], bgr.results[0][0].frame)
    gray = Kept()
    gray.pixel_format = "gray"
    with pytest.raises(ValueError, match="expected one format for all"):
        Fanout({"a": gray, "b": bgr})
    with pytest.raises(ValueError, match="empty"):
        Fanout({})


def test_percentiles_are_values_that_were_seen() -> None:
    latencies = Latencies(100)
    assert latencies.percentiles() == {}
    latencies.add(7.0)
    assert latencies.percentiles() == {"p50": 7.0, "p95": 7.0, "p99": 7.0}
    for n in range(1, 201):
        latencies.add(float(n))
    assert latencies.percentiles() == {"p50": 150.0, "p95": 195.0, "p99": 199.0}


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "elir_trt", "live", *(str(word) for word in words)]


def test_the_command_records_a_test_pattern(tmp_path: Path) -> None:
    film = tmp_path / "a.mp4"
    done = subprocess.run(
        command("test:96x64@20", "-o", film, "--duration", 3, "--json"),
        capture_output=True,
        text=True,
        cwd="/",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    with VideoReader(film) as reader:
        frames = list(reader)
    assert len(frames) > 2 and frames[0].pixels.shape == (64, 96, 3)
    assert frames[-1].timestamp_s is not None and 0.5 < frames[-1].timestamp_s < 10.0
    import json

    last = json.loads(done.stdout.splitlines()[-1])
    assert last["sinks"][str(film)]["written"] == len(frames)
    assert last["latency_ms"]["p50"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_the_file_whole(tmp_path: Path, number: int) -> None:
    film = tmp_path / "a.mkv"
    process = subprocess.Popen(
        command("test:96x64@20", "-o", film, "--json"), stdout=subprocess.PIPE, text=True, cwd="/"
    )
    assert process.stdout is not None
    for line in process.stdout:
        if '"written": 0' not in line and f'"{film}"' in line:
            process.send_signal(number)
            break
    process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else 143)
    with VideoReader(film) as reader:
        assert len(list(reader)) > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("test",), "nobody would see it"),
        (("nothing", "--serve", "127.0.0.1:0"), "no source of that name"),
        (("test", "--serve", "0.0.0.0:0"), "needs --token"),
        (("test", "--serve", "8080"), "expected HOST:PORT"),
        (("test", "--serve", "127.0.0.1:0", "--token", "short"), "expected 12 or more"),
        (("test", "--serve", "127.0.0.1:0", "--max-age-ms", "0"), "--max-age-ms is 0"),
        (("test", "-o", "a.avi"), "no output of that name"),
        (("test", "-o", "/nowhere/a.mp4"), "there is no folder"),
        (("test", "-o", "/dev/video77"), "v4l2loopback"),
        (("test", "-o", "window"), "--serve 127.0.0.1:8080"),
        (("test", "-o", "srt://127.0.0.1:1"), "no SRT"),
        (("test", "--serve", "127.0.0.1:0", "--steps", "99"), "allows 0 to"),
        (("test", "--serve", "127.0.0.1:0", "--bundle", "/nowhere"), "/nowhere"),
    ],
)
def test_what_cannot_be_is_one_error(words: tuple[str, ...], message: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ELIR_TRT_TOKEN"}
    done = subprocess.run(
        command(*words), capture_output=True, text=True, cwd="/", timeout=60, env=environment
    )
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and message in line


def test_sinks_are_told_by_how_they_are_written(tmp_path: Path) -> None:
    from elir_trt.live.sinks import Broadcast, Recording

    assert isinstance(open_sink("rtsp://127.0.0.1:1/a"), Broadcast)
    recording = open_sink(str(tmp_path / "a.mp4"))
    assert isinstance(recording, Recording)
    recording.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_no_loopback_says_how_to_make_one(tmp_path: Path) -> None:
    from elir_trt.live.sinks import Loopback

    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match="this is no device: sudo modprobe v4l2loopback"):
        Loopback(str(tmp_path / "file"))
    sink = Loopback("/dev/null")
    pixels = np.zeros((33, 48, 3), np.uint8)
    with pytest.raises(MediaError, match=r"/dev/null: takes no frames: .*modprobe v4l2loopback"):
        sink.write(Result(pixels, 0, None, 0, {}, 1.0), LiveFrame(pixels, captured_s=0.0))
    sink.close()
