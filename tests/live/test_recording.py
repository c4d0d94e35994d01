"""Recording: times as they were, whole after a kill and a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from elir_trt.errors import MediaError
from elir_trt.io import VideoReader
from elir_trt.live import LiveFrame
from elir_trt.live.sinks import Recording
from elir_trt.live.sinks import recording as module


def write(sink: Recording, number: int, taken_s: float, size: tuple[int, int] = (48, 64)) -> None:
    pixels = np.full((*size, 3), (13 * number) % 256, np.uint8)
    result: Any = SimpleNamespace(frame=pixels)
    sink.write(result, LiveFrame(pixels, None, captured_s=taken_s))


def times_of(path: Path) -> list[float]:
    with VideoReader(path) as reader:
        return [frame.timestamp_s or 0.0 for frame in reader]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frames_keep_the_times_that_they_were_taken_at(tmp_path: Path, suffix: str) -> None:
    taken = [100.0, 100.031, 100.5, 100.5, 101.9, 102.0, 104.25]
    sink = Recording(tmp_path / f"a{suffix}", segment_s=1.0)
    for n, taken_s in enumerate(taken):
        write(sink, n, taken_s)
    assert not sink.path.exists() and len(list((tmp_path / f".a{suffix}.elir").glob("*.seg"))) == 2
    sink.close()
    np.testing.assert_allclose(times_of(sink.path), [t - 100.0 for t in taken], atol=1.1e-3)
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


def test_after_a_kill_the_next_one_makes_the_file(tmp_path: Path) -> None:
    script = f"""
        import sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from test_recording import Recording, write
        sink = Recording({str(tmp_path / "a.mp4")!r}, segment_s=1.0)
        for n in range(75):
            write(sink, n, n / 25)
        print("written", flush=True)
        import time
        time.sleep(60)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True, cwd="/"
    )
    assert process.stdout is not None and process.stdout.readline() == "written\n"
    with pytest.raises(MediaError, match="another process"):
        Recording(tmp_path / "a.mp4")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    said: list[str] = []
    sink = Recording(tmp_path / "a.mp4", say=said.append)
    assert said == [f"{tmp_path / 'a.mp4'}: made of a recording that was stopped"]
    assert len(times_of(tmp_path / "a.mp4")) == 50  # two whole segments of a second
    write(sink, 0, time.monotonic())
    sink.close()
    assert sink.paths == [tmp_path / "a.mp4", tmp_path / "a-1.mp4"]
    assert len(times_of(tmp_path / "a-1.mp4")) == 1


def test_a_full_disk_keeps_what_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = Recording(tmp_path / "a.mp4", segment_s=1.0)
    real = module.write_segment
    monkeypatch.setattr(module, "write_segment", lambda *a: real(*a) if len(written) < 1 else full())
    written: list[int] = []

    def full() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(MediaError, match="No space left on device; 25 frames are kept"):
        for n in range(100):
            write(sink, n, n / 25)
            written += [n] if n == 26 else []
    sink.abort()
    monkeypatch.setattr(module, "write_segment", real)
    Recording(tmp_path / "a.mp4").abort()
    assert len(times_of(tmp_path / "a.mp4")) == 25


def test_another_size_is_another_file(tmp_path: Path) -> None:
    sink = Recording(tmp_path / "a.mp4")
    for n in range(4):
        write(sink, n, float(n))
    for n in range(4, 7):
        write(sink, n, float(n), (96, 128))
    sink.close()
    assert [len(times_of(path)) for path in sink.paths] == [4, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-1.mp4", "a.mp4"]


def test_nothing_recorded_leaves_nothing(tmp_path: Path) -> None:
    Recording(tmp_path / "a.mp4").close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(MediaError, match="codec"):
        from elir_trt.io.encoding import EncodeOptions
        from elir_trt.live.sinks.encoding import LiveEncodeOptions

        Recording(tmp_path / "a.webm", options=LiveEncodeOptions(EncodeOptions("h264")))
    assert list(tmp_path.iterdir()) == []
