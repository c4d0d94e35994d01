"""The ladder over simulated frames: parts that take so long, a machine that others load, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from elir_trt import _core

#: Milliseconds of a frame's parts on the idle machine.
ENCODER, COARSE, STEP, DECODER, OTHER = 4.0, 3.0, 4.0, 5.0, 1.0


def idle(steps: int) -> float:
    return ENCODER + COARSE + steps * STEP + DECODER + OTHER


@dataclass
class Machine:
    """Runs frames one after the other, as a stream on the CPU does.

    Attributes:
        slower: how many times slower than idle the machine is at a moment, in ms.
        now: the moment.
        given: of each frame, its steps, or -1; ``took``: its latency.
    """

    slower: Callable[[float], float]
    ladder: _core.Ladder = field(default_factory=_core.Ladder)
    now: float = 0.0
    given: list[int] = field(default_factory=list)
    took: list[float] = field(default_factory=list)

    def spend(self, idle_ms: float) -> float:
        """What takes so long on the idle machine; it may get slower meanwhile."""
        began, left = self.now, idle_ms
        while left > 1e-9:
            done = min(0.25, left)
            self.now += done * self.slower(self.now)
            left -= done
        return self.now - began

    def frame(self, wanted: int, deadline: float) -> int:
        began = self.now
        steps = self.ladder.choose(wanted, deadline, guarded=True)
        if steps >= 0:
            steps = self.restored(steps, began + deadline)
        if steps < 0:
            self.spend(OTHER)
        self.given.append(steps)
        self.took.append(self.now - began)
        self.ladder.ended(self.took[-1] > deadline)
        self.now = max(self.now, began + deadline)
        return steps

    def restored(self, steps: int, due: float) -> int:
        allowed = self.ladder.allowed
        other = self.spend(OTHER / 2)
        encoder = self.spend(ENCODER)
        steps = allowed(steps, 0, due - self.now, encoder)
        if steps < 0:
            return steps
        coarse = self.spend(COARSE)
        steps = allowed(steps, 0, due - self.now, encoder, coarse)
        in_steps = 0.0
        for taken in range(max(steps, 0)):
            in_steps += self.spend(STEP)
            found = allowed(steps, taken + 1, due - self.now, encoder, coarse, in_steps)
            if found < steps:
                steps, in_steps = found, 0.0
                break
        if steps < 0:
            return steps
        decoder = self.spend(DECODER)
        other += self.spend(OTHER / 2)
        self.ladder.note_parts(steps, encoder, coarse, in_steps, decoder, other)
        return steps


def on_and_off(slow: float) -> Callable[[float], float]:
    """A second of load, a second without."""
    return lambda now: slow if int(now // 1000.0) % 2 == 1 else 1.0


@pytest.mark.parametrize("slow", [1.8, 2.0, 3.0])
@pytest.mark.parametrize("wanted", [1, 3])
def test_most_frames_are_restored_and_nearly_all_in_time(slow: float, wanted: int) -> None:
    machine = Machine(on_and_off(slow))
    deadline = 1.4 * idle(wanted)
    for _ in range(1000):
        machine.frame(wanted, deadline)
    inside = sum(took <= deadline for took in machine.took)
    assert inside >= 990
    # Without load, half of the time, frames are given all of their steps but for the first ones of it, which are
    # more where the rungs are many: a step more after eight frames.
    assert sum(steps == wanted for steps in machine.given) >= (400 if wanted == 1 else 300)
    if 1.4 * idle(wanted) > slow * idle(0) * 1.1:
        assert sum(steps >= 0 for steps in machine.given) >= 900


def test_the_load_is_noticed_while_a_frame_runs() -> None:
    """Load that begins within a frame costs that frame its steps or its restoration, and not its deadline."""
    deadline = 1.4 * idle(1)
    for moment in range(17):
        machine = Machine(lambda now: 1.0)
        for _ in range(20):
            machine.frame(1, deadline)
        begins = machine.now + moment
        machine.slower = lambda now, begins=begins: 2.0 if now >= begins else 1.0
        machine.frame(1, deadline)
        assert machine.took[-1] <= deadline, moment


def test_steps_that_are_late_leave_the_coarse_estimate() -> None:
    ladder = _core.Ladder()
    for _ in range(8):
        ladder.note_parts(3, 4.0, 3.0, 12.0, 5.0)
    assert ladder.choose(3, 25.0, guarded=True) == 3
    assert ladder.allowed(3, 0, 21.0, 4.0) == 3
    assert ladder.allowed(3, 0, 16.5, 4.0) == 2  # fewer, as long as none is taken
    assert ladder.allowed(3, 1, 14.0, 4.0, 3.0, 4.0) == 3
    assert ladder.allowed(3, 1, 12.0, 4.0, 3.0, 4.0) == 0  # 8 and 5 are needed; the decoder alone is not
    assert ladder.allowed(3, 2, 4.0, 4.0, 3.0, 8.0) == -1
    assert ladder.allowed(3, 0, 21.0, 8.0) == 0  # twice as slow: 6 and 10


def test_a_frame_of_the_warm_up_is_no_measure() -> None:
    ladder = _core.Ladder()
    for times in (30.0, 20.0, 1.0, 1.0, 1.0):  # the first one compiles
        ladder.note_parts(1, 4.0 * times, 3.0 * times, 4.0 * times, 5.0 * times)
    assert ladder.choose(1, 20.0, guarded=True) == 1


def test_a_step_of_the_warm_up_is_tried_again() -> None:
    """Else its first, slow time would be all that is ever known of it."""
    ladder = _core.Ladder()
    ladder.note_parts(1, 400.0, 300.0, 400.0, 500.0)
    for _ in range(10):
        ladder.note_parts(0, 4.0, 3.0, 0.0, 5.0)
    assert [ladder.choose(1, 30.0, guarded=True) for _ in range(10)][-1] == 1
    assert ladder.allowed(1, 0, 24.0, 4.0) == 1


def tries(machine: Machine, frames: int, deadline: float) -> Iterator[int]:
    for index in range(frames):
        if machine.frame(1, deadline) >= 0:
            yield index


def test_the_better_rung_is_tried_soon_after_the_load_is_gone() -> None:
    machine = Machine(lambda now: 2.5 if now > 1000.0 else 1.0)
    deadline = 1.4 * idle(1)
    while machine.now < 3000.0:
        machine.frame(1, deadline)
    assert machine.given[-40:] == [-1] * 40
    assert max(machine.took[-40:]) <= deadline
    machine.slower = lambda now: 1.0
    assert next(tries(machine, 100, deadline)) < 9


def test_a_frame_that_is_restored_again_stays_restored() -> None:
    """No flicker: after a try that was in time all frames are restored, with all steps soon after."""
    machine = Machine(lambda now: 2.5 if 500.0 < now < 2000.0 else 1.0)
    deadline = 1.4 * idle(1)
    while machine.now < 4000.0:
        machine.frame(1, deadline)
    last = max(index for index, steps in enumerate(machine.given) if steps < 0)
    assert set(machine.given[last + 1 :]) <= {0, 1}
    assert machine.given[last + 12 :] == [1] * len(machine.given[last + 12 :])
    changes = sum(one != other for one, other in zip(machine.given, machine.given[1:], strict=False))
    assert changes <= 6


def test_a_machine_that_is_slower_from_one_moment_to_the_next() -> None:
    """What no part can tell of the next one costs restorations, and in the long run hardly any deadline."""
    rng = np.random.default_rng(1)
    slots = rng.choice([1.0, 1.0, 1.0, 4.0], 200_000)
    machine = Machine(lambda now: float(slots[int(now / 5.0)]))
    deadline = 2.5 * idle(1)
    for _ in range(3000):
        machine.frame(1, deadline)
    late = [took > deadline for took in machine.took]
    assert sum(late[500:]) <= 0.01 * len(late[500:])
    assert sum(steps >= 0 for steps in machine.given) > 500


def test_a_machine_that_stays_slower_is_learnt() -> None:
    machine = Machine(lambda now: 1.0)
    for _ in range(50):
        machine.frame(1, 60.0)
    machine.slower = lambda now: 3.0
    for _ in range(200):
        machine.frame(1, 60.0)
    assert machine.given[-100:] == [1] * 100  # 51 of 60 ms
