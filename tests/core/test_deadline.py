"""Deadlines: which rung a frame is given, and what comes back."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from core_streams import frame_of, make, wire

from elir_trt import _core

SIZE = (16, 24)


def taught(rest: float, step: float, frames: int = 20) -> _core.Ladder:
    ladder = _core.Ladder()
    for index in range(frames):
        steps = index % 3
        ladder.note(steps, rest + steps * step, steps * step)
    return ladder


def settled(ladder: _core.Ladder, wanted: int, left: float, frames: int = 40) -> list[int]:
    return [ladder.choose(wanted, left) for _ in range(frames)]


def test_all_steps_are_tried_where_nothing_is_known() -> None:
    assert _core.Ladder().choose(5, 1.0) == 5
    assert _core.Ladder().needed(5) == 0.0


@pytest.mark.parametrize(
    ("left", "steps"),
    [(100.0, 4), (51.0, 4), (49.0, 3), (31.0, 2), (21.0, 1), (19.0, 0), (9.9, -1), (-5.0, -1)],
)
def test_the_highest_rung_that_fits(left: float, steps: int) -> None:
    ladder = taught(10.0, 10.0)
    assert ladder.needed(4) == pytest.approx(50.0)
    assert ladder.choose(4, left) == steps


def test_a_slow_frame_in_a_hundred_counts_and_the_mean_does_not() -> None:
    ladder = _core.Ladder()
    for index in range(256):
        ladder.note(0, 30.0 if index % 50 == 0 else 10.0, 0.0)
    assert ladder.needed(0) == 30.0
    for _ in range(256):
        ladder.note(0, 10.0, 0.0)
    assert ladder.needed(0) == 10.0  # forgotten


def test_down_at_once_and_up_after_a_while() -> None:
    ladder = taught(10.0, 10.0)
    assert ladder.choose(2, 100.0) == 2
    assert ladder.choose(2, 15.0) == 0
    rungs = settled(ladder, 2, 100.0, 12)
    assert rungs[0] == 0 and rungs[-1] == 2 and rungs == sorted(rungs)
    assert sum(rung == 0 for rung in rungs) == 7


def test_a_rung_without_time_to_spare_is_not_climbed_to() -> None:
    ladder = taught(10.0, 10.0)
    assert ladder.choose(2, 15.0) == 0
    assert settled(ladder, 2, 31.0)[-1] == 1  # 30 are needed for two steps, and 33 to climb
    assert settled(ladder, 2, 34.0)[-1] == 2


def test_a_frame_is_tried_now_and_then_where_there_seems_to_be_no_time() -> None:
    ladder = taught(50.0, 10.0)
    tried = [index for index, rung in enumerate(settled(ladder, 1, 20.0, 400)) if rung == 0]
    assert tried == [31, 95, 223, 351]  # never more than one in a hundred for long
    for _ in range(256):  # the machine is its own again
        ladder.note(0, 10.0, 0.0)
    assert settled(ladder, 0, 20.0, 3)[-1] == 0


def test_frames_that_are_timed_as_a_whole() -> None:
    ladder = _core.Ladder()
    for _ in range(10):
        ladder.note(4, 60.0)
    assert ladder.needed(4) == 60.0
    assert ladder.needed(1) == pytest.approx(30.0)  # guessed
    ladder.note(1, 20.0)
    assert ladder.needed(1) == 20.0


def slow(parts: dict[str, float], **options: Any) -> _core.Stream:
    """A stream whose parts take so many milliseconds."""
    table = np.zeros((6, 3), np.float32)
    stream = make(SIZE, SIZE, **{"steps": 3, "table": table, **options})
    image, decoded = stream.buffer("image"), stream.buffer("decoded")

    def part(name: str) -> Any:
        def run(_: int) -> None:
            time.sleep(parts.get(name, 0.0) / 1e3)
            if name == "decoder":
                np.copyto(decoded, 1.0 - image)

        return run

    return wire(stream, **{name: part(name) for name in ("encoder", "velocity", "decoder")})


def test_late_frames_get_fewer_steps_and_say_why() -> None:
    stream = slow({"velocity": 100.0}, deadline_ms=190.0, depth=1)
    found = []
    for _ in range(6):
        stream.submit(frame_of(*SIZE))
        found.append(stream.result())
    assert found[0].steps == 3 and found[0].latency_ms > 190.0  # nothing was known
    for result in found[1:]:
        assert result.wanted_steps == 3 and result.restored
        assert result.steps <= 1
        assert result.needed_ms >= 300.0 and result.left_ms <= 190.0


def test_frames_that_cannot_be_restored_in_time_are_handed_on() -> None:
    stream = slow({"encoder": 200.0}, deadline_ms=100.0, depth=1)
    frames = [frame_of(*SIZE) for _ in range(4)]
    found = []
    for frame in frames:
        stream.submit(frame)
        found.append(stream.result())
    np.testing.assert_array_equal(found[0].frame, 255 - frames[0])
    assert found[0].restored
    for frame, result in zip(frames[1:], found[1:], strict=True):
        assert not result.restored and result.steps == 0
        assert result.stages["encoder"] == 0.0
        np.testing.assert_array_equal(result.frame, frame)


def test_late_frames_are_dropped_on_request() -> None:
    stream = slow({"encoder": 200.0}, deadline_ms=100.0, on_late="drop", depth=4)
    for _ in range(4):
        stream.submit(frame_of(*SIZE))
    assert stream.result().index == 0
    stream.close()
    with pytest.raises(_core.Closed):
        stream.result()
    stats = stream.stats()
    assert (stats["submitted"], stats["completed"], stats["dropped"], stats["pending"]) == (4, 1, 3, 0)


def test_waiting_in_the_ring_counts() -> None:
    """A burst: those that waited too long are handed on, and the last one is in time again."""
    stream = slow({"encoder": 100.0}, deadline_ms=290.0, depth=8)
    stream.submit(frame_of(*SIZE))
    stream.result()
    for _ in range(8):
        stream.submit(frame_of(*SIZE))
    found = [stream.result() for _ in range(8)]
    assert [result.index for result in found] == list(range(1, 9))
    assert found[0].restored
    assert not found[-1].restored
    assert found[-1].stages["encoder"] == 0.0


def test_tiles_of_a_frame_that_was_handed_on_are_not_reused() -> None:
    stream = slow({"encoder": 200.0}, deadline_ms=100.0, depth=1, keep_tiles=True)
    for _ in range(2):
        stream.submit(frame_of(*SIZE))
        result = stream.result()
    assert not result.restored
    stream.submit(frame_of(*SIZE), reuse=[0])
    assert stream.result().error == (
        "store",
        "tile 0 is to be reused, and no frame before this one restored it",
    )


@pytest.mark.parametrize("deadline", [0.0, -1.0, float("nan"), 1e9])
def test_a_deadline_that_cannot_be(deadline: float) -> None:
    with pytest.raises(ValueError, match=r"deadline_ms is .*expected more than 0"):
        make(SIZE, SIZE, deadline_ms=deadline)
    with pytest.raises(ValueError, match="on_late is 'later'; allowed: pass, drop"):
        make(SIZE, SIZE, on_late="later")
