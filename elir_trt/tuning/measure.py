"""Choosing the precisions of a portable bundle's parts on this machine, by measurement.

What follows is how it is done on a CPU; on a GPU see :mod:`elir_trt.tuning.frames`.

All parts take turns in every precision, so that what else the machine does is felt by all. Then assignments go
through the gate, the fastest first; the first that keeps the bundle's bound is taken, if it is faster than the safe
precisions. Where one fails, its parts are run alone, with all others in the safe precision: squared errors of
independent roundings add up, which spares the gate what cannot pass. Last, where frames take no steps by default,
encoder, coarse and decoder are made one engine, which is taken if it passes too and is not slower.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from elir_trt.backends.base import TunableBackend
from elir_trt.bundle import Bundle, ReferenceFrames
from elir_trt.errors import BackendError
from elir_trt.parts import DIRECT_PARTS, PARTS
from elir_trt.tolerances import PartPrecision
from elir_trt.tuning.candidates import Candidate, Made, describe, machine_key, safe_precision, uniform
from elir_trt.tuning.frames import FrameMeasurement
from elir_trt.tuning.gate import Gate, psnr_of
from elir_trt.tuning.store import Choice, ChoiceRow, DirectKey, Store, Tune
from elir_trt.tuning.timing import Bench, Frame

Say = Callable[[str], None]
#: A part in a precision.
Key = tuple[str, PartPrecision]
#: Seconds that a choice may take with ``tune="auto"``; with "full" there is no such limit.
AUTO_SECONDS = 12.0
#: Rounds of frames that times are medians of.
_ROUNDS: Mapping[Tune, int] = {"auto": 7, "full": 25}
_LEAST_ROUNDS = 3
#: What an assignment has to gain over the safe one: less is noise.
_LEAST_GAIN = 0.03
#: How many times slower than the fastest a precision is that is not timed any longer.
_HOPELESS = 2.0
#: Steps that are not taken by default count a little: someone may ask for them.
_UNUSED_SHARE = 0.01


def choose(
    bundle: Bundle,
    backend: TunableBackend,
    device: str,
    store: Store,
    tune: Tune,
    say: Say,
    size: tuple[int, int] | None = None,
) -> Choice:
    """The precisions in which this machine runs a bundle; measured once, and then found in the store.

    What is chosen for the bundle's own size serves all sizes that nothing was chosen for by itself.

    Args:
        bundle: portable, and not released.
        backend: that runs the engines.
        device: that they run on.
        store: of this machine.
        tune: "auto" takes about :data:`AUTO_SECONDS` at most on the CPU, on a GPU
            :data:`elir_trt.tuning.frames.AUTO_SECONDS` besides making the safe engines; "full" takes the time that it
            takes, "off" none.
        say: is called with what is being done.
        size: height and width of the engines' input; None: the bundle's.

    Raises:
        BackendError: the backend cannot be imported or started, or not even its safe engines keep the bundle's bound.
    """
    specification = bundle.manifest.specification
    base = uniform(bundle, backend, safe_precision(bundle, backend))
    size = size or specification.size
    key = machine_key(bundle.digest, backend, size, 1)
    found = store.choice(key)
    if found is not None and (tune != "full" or found.tune == "full"):
        return found
    if tune == "off":
        return Choice(precisions=base, tune=tune)
    with store.choosing(key):
        found = store.choice(key)
        if found is not None and (tune != "full" or found.tune == "full"):
            return found  # Another process was faster.
        measurement: _Measurement | FrameMeasurement
        if device == "cpu":
            measurement = _Measurement(bundle, backend, device, size, tune, say)
        else:
            measurement = FrameMeasurement(bundle, backend, device, store, tune, say)
        choice = measurement.choose()
        store.keep_choice(key, choice)
        for made, engine in measurement.made.items():
            if made.is_of(choice.precisions) and (choice.direct or not isinstance(made, DirectKey)):
                store.engine(made, partial(bytes, engine))
    return choice


class _Measurement:
    """One choice."""

    def __init__(
        self,
        bundle: Bundle,
        backend: TunableBackend,
        device: str,
        size: tuple[int, int],
        tune: Tune,
        say: Say,
    ) -> None:
        assert bundle.manifest.gate is not None
        self._bundle, self._backend, self._device = bundle, backend, device
        self._size, self._tune, self._say = size, tune, say
        self._began = time.perf_counter()
        self._precisions = backend.tuned_precisions()
        self._base = uniform(bundle, backend, safe_precision(bundle, backend))
        self._engines = {}
        #: All engines that were made.
        self.made: Made = {}
        for precision in self._precisions:
            say(f"making engines in {precision}")
            candidate = Candidate(bundle, backend, uniform(bundle, backend, precision), None, made=self.made)
            self._engines[precision] = backend.load_tuned(candidate, device)
        self._bench = Bench(bundle, self._engines, size)
        reference = bundle.reference_frames()
        if size != bundle.manifest.specification.size:
            say("restoring reference frames of this size")
            reference = self._of_this_size(reference)
        self._frame: Frame = reference.frames[0]
        self._gate = Gate(reference, bundle.manifest.gate.min_psnr)
        self._safe = 0.0
        self._errors: dict[Key, float] = {}
        self._times: dict[Key, float] = {}
        self._complete = True

    def choose(self) -> Choice:
        try:
            self._check_safe()
            self._time_parts()
            if self._tune == "full":
                for key in self._times:
                    self._error(*key)
            return self._with_direct(self._fastest())
        finally:
            self._bench.close()

    def _of_this_size(self, reference: ReferenceFrames) -> ReferenceFrames:
        """The first frame, mirrored or cut, and what the safe engines make of it.

        Those are compared with float32 at the bundle's size.
        """
        height, width = self._size
        frame = reference.frames[0]
        missing = [(0, max(0, want - have)) for want, have in zip(self._size, frame.shape[:2], strict=True)]
        frame = np.ascontiguousarray(np.pad(frame, (*missing, (0, 0)), mode="symmetric")[:height, :width])
        restored = [self._bench.run(self._base, frame, steps)[0] for steps in reference.steps]
        return ReferenceFrames(frame[None], reference.steps, np.stack(restored)[None])

    def _late(self, share: float) -> bool:
        """Whether a share of the time is over."""
        return self._tune == "auto" and time.perf_counter() - self._began > share * AUTO_SECONDS

    def _check_safe(self) -> None:
        self._say(f"comparing {self._precisions[0]} with float32")
        self._safe = self._gate.squared_error(self._bench, self._base, frames=1)
        if not self._safe <= self._gate.most_squared_error:
            raise BackendError(
                f"{self._bundle.path}: {self._backend.title}'s engines in {self._precisions[0]} are "
                f"{psnr_of(self._safe):.1f} dB from float32 here; at least {self._gate.min_psnr:g} dB are asked for"
            )

    def _time_parts(self) -> None:
        """Median milliseconds of a call of each part in each precision."""
        self._say("timing the parts in every precision")
        steps = max(1, self._bundle.recipe.default_steps)
        found: dict[Key, list[float]] = {}
        for turn in range(_ROUNDS[self._tune] + 1):
            if turn > _LEAST_ROUNDS and self._late(0.5):
                break
            for precision in self._precisions:
                if turn > 1 and self._is_hopeless(precision, found):
                    continue
                assignment = uniform(self._bundle, self._backend, precision)
                _, stages = self._bench.run(assignment, self._frame, steps)
                if turn == 0:
                    continue  # What is done once, such as touching memory for the first time.
                for part in PARTS:
                    if assignment[part] == precision:
                        calls = steps if part == "velocity" else 1
                        found.setdefault((part, precision), []).append(stages[part] / calls)
        self._times = {key: statistics.median(times) for key, times in found.items()}

    def _is_hopeless(self, precision: PartPrecision, times: Mapping[Key, Sequence[float]]) -> bool:
        """Whether a precision is much slower in every part than another: it need not be timed again.

        Some CPUs compute a type that they report many times slower than float32, which would take all the time.
        """
        return all(
            min(times[key])
            > _HOPELESS * min(min(others) for other, others in times.items() if other[0] == key[0])
            for key in times
            if key[1] == precision
        )

    def _error(self, part: str, precision: PartPrecision) -> float:
        """Mean squared error of restored frames with one part in a precision, all others in the safe one."""
        if precision == self._base[part]:
            return self._safe
        if (part, precision) not in self._errors:
            self._say(f"comparing {part} in {precision} with float32")
            steps = None if part == "velocity" else self._bundle.recipe.default_steps
            assignment = {**self._base, part: precision}
            self._errors[part, precision] = self._gate.squared_error(self._bench, assignment, 1, steps)
        return self._errors[part, precision]

    def _fastest(self) -> Choice:
        limit = self._gate.most_squared_error
        calls = dict.fromkeys(PARTS, 1.0)
        calls["velocity"] = max(float(self._bundle.recipe.default_steps), _UNUSED_SHARE)
        options = [[key for key in self._times if key[0] == part] for part in PARTS]

        def milliseconds(keys: tuple[Key, ...]) -> float:
            return sum(calls[key[0]] * self._times[key] for key in keys)

        tried = False
        for keys in sorted(itertools.product(*options), key=milliseconds):
            assignment = dict(keys)
            if assignment == self._base:
                break
            known = sum(max(0.0, self._errors[key] - self._safe) for key in keys if key in self._errors)
            if self._safe + known > 1.5 * limit:
                continue
            late = self._late(1.0)
            if late:
                self._complete = False
            if late and tried:
                break
            tried = (
                True  # The fastest is compared however late it is: it may be worth many times what it costs.
            )
            self._say(f"comparing {describe(assignment)} with float32")
            squared = self._gate.squared_error(self._bench, assignment, 1 if late else None)
            if squared <= limit:
                self._say(f"timing {describe(assignment)} against {self._precisions[0]}")
                base_ms, ms = self._in_turns((self._bench, self._base), (self._bench, assignment))
                if ms > (1.0 - _LEAST_GAIN) * base_ms:
                    break
                return self._choice(assignment, squared, base_ms, ms)
            for key in keys:
                if not self._late(1.0):
                    self._error(*key)
        return self._choice(self._base, self._safe, None, None)

    def _with_direct(self, choice: Choice) -> Choice:
        """The choice with an engine for frames without steps, if these are usual and it passes and is not slower."""
        if self._bundle.recipe.default_steps or not self._backend.joins(choice.precisions):
            return choice
        if self._late(1.1):
            return replace(choice, complete=False)
        self._say(f"making one engine of {', '.join(DIRECT_PARTS)}")
        candidate = Candidate(
            self._bundle, self._backend, choice.precisions, None, direct=True, made=self.made
        )
        engines = self._backend.load_tuned(candidate, self._device)
        bench = Bench(self._bundle, self._engines, self._size, direct=engines)
        try:
            squared = self._gate.squared_error(bench, choice.precisions, steps=0)
            if not squared <= self._gate.most_squared_error:
                return choice
            turns = (self._bench, choice.precisions), (bench, choice.precisions)
            apart_ms, direct_ms = self._in_turns(*turns)
        finally:
            bench.close()
        found = replace(choice, apart_ms=apart_ms, direct_ms=direct_ms)
        # It does less, so that noise alone does not speak against it.
        if direct_ms > (1.0 + _LEAST_GAIN) * apart_ms:
            return found
        psnr = psnr_of(squared) if choice.psnr is None else min(choice.psnr, psnr_of(squared))
        return replace(found, direct=True, psnr=psnr, ms=None if choice.ms is None else direct_ms)

    def _in_turns(self, *runs: tuple[Bench, Mapping[str, PartPrecision]]) -> Sequence[float]:
        """Median milliseconds of a frame with the default steps, in each of these."""
        steps = self._bundle.recipe.default_steps
        found: list[list[float]] = [[] for _ in runs]
        for bench, assignment in runs:
            bench.run(assignment, self._frame, steps)  # What is done once.
        for turn in range(_ROUNDS[self._tune]):
            if turn >= _LEAST_ROUNDS and self._late(1.0):
                break
            for times, (bench, assignment) in zip(found, runs, strict=True):
                times.append(bench.run(assignment, self._frame, steps)[1]["total"])
        return [statistics.median(times) for times in found]

    def _choice(
        self, precisions: Mapping[str, PartPrecision], squared: float, base_ms: float | None, ms: float | None
    ) -> Choice:
        return Choice(
            precisions=dict(precisions),
            tune=self._tune,
            psnr=psnr_of(squared),
            base_ms=base_ms,
            ms=ms,
            rows=tuple(self._row(key, ms) for key, ms in self._times.items()),
            complete=self._complete,
        )

    def _row(self, key: Key, ms: float) -> ChoiceRow:
        part, precision = key
        squared = self._safe if precision == self._base[part] else self._errors.get(key)
        if squared is None:
            return ChoiceRow(part=part, precision=precision, ms=ms)
        fits = squared <= self._gate.most_squared_error
        return ChoiceRow(part=part, precision=precision, ms=ms, psnr=psnr_of(squared), fits=fits)
