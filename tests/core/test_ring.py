"""The core's ring of slots: order, drops, failures, threads, memory, and how streams end."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_streams import frame_of, make, wire

from elir_trt import _core

#: Where the helpers are; not the checkout's own folder, which has the sources without the core.
TESTS = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("part", ["encoder", "coarse", "velocity", "decoder"])
def test_a_failing_part_fails_its_frame_alone(part: str) -> None:
    calls = iter(range(9))

    def sometimes(handle: int) -> None:
        if next(calls) == 1:
            raise RuntimeError("out of order")

    stream = wire(make((8, 8), (8, 8), steps=1, table=np.zeros((1, 3), np.float32)), **{part: sometimes})
    for _ in range(3):
        stream.submit(frame_of(8, 8))
    results = [stream.result() for _ in range(3)]
    assert [result.error for result in results] == [None, (part, "out of order"), None]
    assert results[1].frame is None
    stats = stream.stats()
    assert (stats["completed"], stats["failed"], stats["pending"]) == (2, 1, 0)


def test_output_that_is_not_finite_fails_the_frame() -> None:
    stream = make((8, 8), (8, 8))
    decoded = stream.buffer("decoded")
    values = iter([np.nan, np.inf, 0.5])
    wire(stream, decoder=lambda handle: decoded.fill(next(values)))
    for _ in range(3):
        stream.submit(frame_of(8, 8))
    errors = [stream.result().error for _ in range(3)]
    assert errors[0] is not None and errors[0][0] == "decoder" and "NaN" in errors[0][1]
    assert errors[1] is not None and errors[2] is None


def held(**changes: Any) -> tuple[_core.Stream, threading.Event, threading.Event]:
    """A stream whose encoder waits for leave; tells when it was entered."""
    entered, leave = threading.Event(), threading.Event()

    def encoder(handle: int) -> None:
        entered.set()
        assert leave.wait(20)

    return wire(make((8, 8), (8, 8), **changes), encoder=encoder), entered, leave


def test_newest_gives_up_the_frame_at_hand() -> None:
    stream, entered, leave = held(depth=2, drop="newest")
    assert stream.submit(frame_of(8, 8)) == 0
    assert entered.wait(10)
    assert stream.submit(frame_of(8, 8)) == 1
    assert stream.submit(frame_of(8, 8)) is None
    leave.set()
    assert [stream.result().index for _ in range(2)] == [0, 1]
    assert stream.stats()["dropped"] == 1


def test_oldest_gives_up_the_oldest_waiting_frame() -> None:
    stream, entered, leave = held(depth=3, drop="oldest")
    assert stream.submit(frame_of(8, 8)) == 0
    assert entered.wait(10)
    for index in range(1, 6):
        assert stream.submit(frame_of(8, 8), timestamp=float(index)) == index
    leave.set()
    results = [stream.result() for _ in range(3)]
    assert [result.index for result in results] == [0, 4, 5]
    assert [result.timestamp for result in results] == [None, 4.0, 5.0]
    assert stream.stats()["dropped"] == 3


def test_oldest_gives_up_an_uncollected_result_when_nothing_waits() -> None:
    stream = wire(make((8, 8), (8, 8), depth=1, drop="oldest"))
    for index in range(50):
        assert stream.submit(frame_of(8, 8)) == index
    assert stream.result(10).index == 49
    stats = stream.stats()
    assert (stats["submitted"], stats["completed"], stats["dropped"], stats["failed"]) == (50, 1, 49, 0)


def test_block_waits_and_times_out() -> None:
    stream, entered, leave = held(depth=1)
    stream.submit(frame_of(8, 8))
    assert entered.wait(10)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        stream.submit(frame_of(8, 8), timeout=0.1)
    with pytest.raises(TimeoutError):
        stream.result(0.1)
    assert time.monotonic() - began >= 0.2
    leave.set()
    assert stream.result().index == 0


def test_submit_and_result_from_two_threads() -> None:
    stream = wire(make((8, 8), (8, 8), depth=2))
    frames = [frame_of(8, 8) for _ in range(300)]

    def submit_all() -> None:
        for frame in frames:
            stream.submit(frame)
        stream.close()

    thread = threading.Thread(target=submit_all)
    thread.start()
    for index, frame in enumerate(frames):
        result = stream.result(20)
        assert result.index == index and np.array_equal(result.frame, frame)
    with pytest.raises(_core.Closed):
        stream.result(20)
    thread.join()


def test_closed_takes_no_more_and_finishes_what_it_has() -> None:
    stream = wire(make((8, 8), (8, 8), depth=3))
    stream.submit(frame_of(8, 8))
    stream.close()
    with pytest.raises(_core.Closed):
        stream.submit(frame_of(8, 8))
    assert stream.result().index == 0
    with pytest.raises(_core.Closed):
        stream.result()


def test_buffers_outlive_the_stream_and_nothing_leaks() -> None:
    stream = wire(make((8, 8), (8, 8)))
    buffer = stream.buffer("image")
    stream.submit(np.full((8, 8, 3), 255, np.uint8))
    stream.result()
    del stream
    gc.collect()
    assert buffer.min() == 1.0


def test_memory_is_flat_over_frames() -> None:
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1])

    stream = wire(make((64, 64), (64, 64)))
    frame, out = frame_of(64, 64), np.empty((64, 64, 3), np.uint8)
    before = 0
    for index in range(3000):
        stream.submit(frame)
        stream.result(out=out)
        if index == 500:
            before = resident()
    assert resident() - before < 128  # pages


def test_depth_is_checked_before_memory_is_taken() -> None:
    with pytest.raises(ValueError, match="depth is 1000000000; expected 1 to 4096"):
        make((8, 8), (16, 16), depth=10**9)
    with pytest.raises(ValueError, match="depth is 4096, of 96 MiB a frame; this machine has"):
        make((4096, 4096), (4096, 4096), depth=4096)


def test_a_stream_collected_on_its_own_worker_ends() -> None:
    """A part drops the last reference: the worker must not join itself, and the process must go on."""
    code = """
import gc, sys, time, weakref
sys.path.insert(0, ".")
from core_streams import make, nothing, wire, frame_of

class Holder: pass
holder = Holder()
holder.stream = make((16, 16), (16, 16))
ended = weakref.ref(holder)
def encoder(handle):
    holder_of.clear()
    gc.collect()
holder_of = [holder]
wire(holder.stream, encoder=encoder)
holder.stream.submit(frame_of(16, 16))
del holder
deadline = time.monotonic() + 20
while ended() is not None and time.monotonic() < deadline:
    time.sleep(0.01)
assert ended() is None
again = wire(make((16, 16), (16, 16)))
frame = frame_of(16, 16)
again.submit(frame)
assert (again.result().frame == frame).all()
print("went on")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, cwd=TESTS
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "went on"


def test_a_forked_process_is_told_and_ends() -> None:
    code = """
import os, sys
sys.path.insert(0, ".")
from core_streams import make, wire, frame_of
stream = wire(make((16, 16), (16, 16)))
stream.submit(frame_of(16, 16))
stream.result()
child = os.fork()
if child == 0:
    for call in (lambda: stream.submit(frame_of(16, 16)), stream.result, stream.close, stream.stats):
        try:
            call()
        except RuntimeError as error:
            assert "forked from it" in str(error), error
        else:
            os._exit(3)
    del stream, call
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stream.submit(frame_of(16, 16))
stream.result()
print("parent goes on")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=TESTS,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "parent goes on"
