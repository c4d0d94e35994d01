"""The newest frame of a source that comes and goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_parts import Clip

from elir_trt.errors import ElirError, MediaError
from elir_trt.io import Frame, Source, VideoWriter
from elir_trt.live import LiveFrame, LiveSource, Reconnecting, SourceOptions, open_source
from elir_trt.live.frame import SourceClock
from elir_trt.live.sources import TestPattern, parse_source

QUICK = Reconnecting(first_s=0.05, longest_s=0.1, stall_s=0.4)


def live(*clips: Any, **options: Any) -> tuple[LiveSource, list[str]]:
    """A live source that opens one clip after the other."""
    left = iter(clips)
    said: list[str] = []

    def connect() -> Source:
        found = next(left)
        if isinstance(found, Exception):
            raise found
        return found

    options.setdefault("reconnecting", QUICK)
    return LiveSource(connect, say=said.append, **options), said


def test_who_is_slow_gets_the_newest_frame_and_the_others_are_counted() -> None:
    source, _ = live(Clip(100, rate=400.0), finite=True)
    numbers = []
    with source:
        for frame in source:
            assert isinstance(frame, LiveFrame)
            numbers.append(int(frame.pixels[0, 0, 0]))
            assert frame.age_s() < 0.2
            time.sleep(0.03)
    assert numbers == sorted(set(numbers)) and len(numbers) < 30
    counts = source.monitor.snapshot()
    assert counts["captured"] == 100
    assert counts["dropped"]["overtaken"] == 100 - len(numbers)
    assert source.ended and counts["state"] == "ended"


def test_a_frame_that_is_too_old_is_given_up() -> None:
    source, _ = live(Clip(5, late_s=2.0), finite=True, max_age_ms=1000)
    with source:
        assert list(source) == []
    counts = source.monitor.snapshot()
    assert counts["dropped"]["too-old"] + counts["dropped"]["overtaken"] == 5 == counts["captured"]


@pytest.mark.parametrize(
    ("then", "word"), [("end", "it ended"), ("fail", "plug was pulled"), ("hang", "stalled")]
)
def test_a_source_that_is_lost_is_opened_again(then: str, word: str) -> None:
    clips = [Clip(3, then=then), OSError("not there yet"), Clip(3, then=then), Clip()]
    source, said = live(*clips)
    frames = []
    with source:
        for frame in source:
            frames.append(frame)
            if source.monitor.snapshot()["reconnects"] >= 3 and len(frames) > 10:
                break
    assert word in said[0] and "not there yet" in said[1]
    assert [line for line in said if "is back" in line] == ["camera: it is back"] * 2
    if then != "hang":
        assert clips[0].closed
    assert source.monitor.snapshot()["reconnects"] == 3


def test_a_source_that_is_silent_from_the_start_is_opened_again() -> None:
    source, said = live(Clip(0, then="hang"), Clip())
    with source:
        assert next(iter(source)).pixels[0, 0, 0] == 0
    assert "silent: no first frame for" in said[0]


def test_waits_grow_up_to_a_bound_and_differ() -> None:
    policy = Reconnecting(first_s=0.5, longest_s=8.0, jitter=0.5)
    waits = [[policy.wait_s(n) for n in range(40)] for _ in range(20)]
    for n in range(40):
        whole = min(8.0, 0.5 * 2**n)
        column = [wait[n] for wait in waits]
        assert all(0.5 * whole <= wait <= whole for wait in column)
        assert len(set(column)) > 1


def test_tries_end_in_one_error() -> None:
    source, _ = live(
        Clip(2, then="fail"), OSError("gone"), OSError("gone"), reconnecting=Reconnecting(0.01, 0.02, tries=2)
    )
    with source, pytest.raises(MediaError, match=r"camera: lost .*gone.*also after 2 tries"):
        list(source)


def test_a_mistake_in_a_program_is_not_a_loss() -> None:
    class Wrong(Source):
        def __iter__(self) -> Iterator[Frame]:
            raise ZeroDivisionError
            yield

    source, said = live(Wrong())
    with source, pytest.raises(ZeroDivisionError):
        list(source)
    assert said == []


def test_the_first_opening_fails_at_once() -> None:
    with pytest.raises(MediaError, match="no such camera"):
        live(MediaError("no such camera"))


def test_it_can_be_iterated_over_again_and_ends_when_the_format_changes() -> None:
    source, _ = live(Clip(20, then="fail"), Clip(pixel_format="bgr24"))
    with source:
        for _ in source:
            source.stop()
        source.again()
        assert source.pixel_format == "rgb24"
        frames = list(source)  # up to where it comes back in another format
        assert frames and source.pixel_format == "bgr24" and not source.ended
        assert isinstance(next(iter(source)), LiveFrame)


def test_closing_does_not_wait_for_a_driver_that_hangs() -> None:
    source, _ = live(Clip(1, then="hang"))
    next(iter(source))
    begun = time.monotonic()
    source.close()
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    "options",
    [{"first_s": 0.0}, {"first_s": 9.0, "longest_s": 1.0}, {"jitter": 1.0}, {"tries": -1}, {"stall_s": 0.0}],
)
def test_numbers_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} is|first_s is"):
        Reconnecting(**options)


def test_a_clock_of_the_camera_is_reckoned_from_the_fastest_frames() -> None:
    clock = SourceClock()
    # The camera's clock is 1000 s behind, frames take 20 to 70 ms.
    delays = [0.05, 0.02, 0.07, 0.03, 0.02]
    ages = []
    for n, delay in enumerate(delays):
        arrived = 1000.0 + n / 30 + delay
        ages.append(arrived - clock.captured_s(n / 30, arrived))
    np.testing.assert_allclose(ages, [0.0, 0.0, 0.05, 0.01, 0.0], atol=1e-9)
    # Set anew: it begins again.
    assert clock.captured_s(0.0, 2000.0) == 2000.0
    assert clock.captured_s(None, 2001.0) == 2001.0


def test_a_clock_that_runs_slowly_is_followed() -> None:
    clock = SourceClock()
    for n in range(6000):
        arrived = n / 30 * 1.0001 + 0.01
        age = arrived - clock.captured_s(n / 30, arrived)
    assert age < 0.004  # 0.1 ms a second, over 20 s; and not over all 200


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("test", ("test", "test")),
        ("test:320x240@15", ("test", "test:320x240@15")),
        ("0", ("camera", "/dev/video0")),
        ("/dev/video3", ("camera", "/dev/video3")),
        ("v4l2:/dev/video3", ("camera", "/dev/video3")),
        ("rtsp://host/a", ("network", "rtsp://host/a")),
        ("UDP://@:5000", ("network", "UDP://@:5000")),
        ("gst: videotestsrc", ("pipeline", "videotestsrc")),
        ("videotestsrc ! queue", ("pipeline", "videotestsrc ! queue")),
    ],
)
def test_a_text_says_what_it_is(text: str, found: tuple[str, str]) -> None:
    assert parse_source(text) == found


def test_what_is_no_source_says_so(tmp_path: Path) -> None:
    film = tmp_path / "a.mp4"
    with VideoWriter(film, size=(32, 48), rate=25) as writer:
        for n in range(5):
            writer.write(np.full((32, 48, 3), 20 * n, np.uint8))
    for text, words in (
        ("nothing", "expected test or"),
        (str(film), "--realtime"),
        ("test:8x8", "16x16"),
        ("rtsp://127.0.0.1:9/none", "cannot be opened: Connection refused"),
        ("/dev/video99", "does not open"),
    ):
        with pytest.raises(ElirError, match=words):
            open_source(text)
    with open_source(str(film), SourceOptions(realtime=True)) as source:
        frames = list(source)
    assert source.ended and source.monitor.snapshot()["captured"] == 5
    assert [frame.timestamp_s for frame in frames][-1] == pytest.approx(4 / 25)


def test_a_film_is_played_at_its_times_and_again(tmp_path: Path) -> None:
    film = tmp_path / "a.mp4"
    with VideoWriter(film, size=(32, 48), rate=25) as writer:
        for n in range(5):
            writer.write(np.full((32, 48, 3), 20 * n, np.uint8))
    begun = time.monotonic()
    with open_source(str(film), SourceOptions(realtime=True, loop=True)) as source:
        times = [frame.captured_s for frame, _ in zip(source, range(12), strict=False)]
    assert 0.35 < times[-1] - begun < 3
    assert min(np.diff(times)) > 0.005


def test_the_pattern_keeps_its_rate_and_its_noise() -> None:
    with TestPattern((48, 64), 100.0, sigma=12.0, frames=40) as pattern:
        begun = time.monotonic()
        frames = list(pattern)
        took = time.monotonic() - begun
    assert 0.3 < took < 1.5
    assert all(frame.pixels.shape == (48, 64, 3) for frame in frames)
    # The second row: bars, where nothing moves and nothing is clipped.
    first, second = frames[0].pixels[1:9].astype(float), frames[1].pixels[1:9].astype(float)
    assert 8 < (first - second).std() / 2**0.5 < 14
    with pytest.raises(ValueError, match="sigma"):
        TestPattern(sigma=-1.0)


def test_a_camera_keeps_the_drivers_time(monkeypatch: pytest.MonkeyPatch) -> None:
    cv2 = pytest.importorskip("cv2")
    from elir_trt.live.sources import Camera

    class Capture:
        """What OpenCV gives for a device."""

        def __init__(self, device: str, api: int) -> None:
            assert (device, api) == ("/dev/video7", cv2.CAP_V4L2)
            self.values: dict[int, float] = {cv2.CAP_PROP_FRAME_HEIGHT: 480, cv2.CAP_PROP_FRAME_WIDTH: 640}
            self.left = 3

        def isOpened(self) -> bool:
            return True

        def set(self, name: int, value: float) -> None:
            self.values[name] = value

        def get(self, name: int) -> float:
            if name == cv2.CAP_PROP_POS_MSEC:
                return (time.monotonic() - 0.04) * 1e3 if self.left else 1.0
            return self.values[name]

        def read(self) -> tuple[bool, Any]:
            self.left -= 1
            return self.left >= 0, np.zeros((480, 640, 3), np.uint8)

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    with Camera("/dev/video7", size=(480, 640), rate=30, fourcc="MJPG") as camera:
        frames = list(camera)
        assert camera._capture.values[cv2.CAP_PROP_FOURCC] == cv2.VideoWriter.fourcc(*"MJPG")
    assert len(frames) == 3
    assert frames[0].age_s() > 0.04
    assert frames[2].timestamp_s == 0.001 and frames[2].age_s() < 0.04 + frames[0].age_s()
    monkeypatch.setattr(Capture, "set", lambda *_: None)
    with pytest.raises(MediaError, match="gives 640x480, not 1280x720"):
        Camera("/dev/video7", size=(720, 1280))
