"""Choosing the precisions of a portable bundle's parts on this machine, by measurement.

All parts take turns in every precision, so that what else the machine does is felt by all. Then assignments go
through the gate, the fastest first; the first that keeps the bundle's bound is taken, if it is faster than the safe
precisions. Where one fails, its parts are run alone, with all others in the safe precision: squared errors of
independent roundings add up, which spares the gate what cannot pass.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping

from elir_trt.backends.base import TunableBackend
from elir_trt.bundle import Bundle
from elir_trt.errors import BackendError
from elir_trt.parts import PARTS
from elir_trt.tolerances import PartPrecision
from elir_trt.tuning.candidates import Candidate, machine_key, uniform
from elir_trt.tuning.gate import Gate, psnr_of
from elir_trt.tuning.store import Choice, ChoiceRow, Store, Tune
from elir_trt.tuning.timing import Bench

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
#: Steps that are not taken by default count a little: someone may ask for them.
_UNUSED_SHARE = 0.01


def choose(
    bundle: Bundle, backend: TunableBackend, device: str, store: Store, tune: Tune, say: Say
) -> Choice:
    """The precisions in which this machine runs a bundle; measured once, and then found in the store.

    Args:
        bundle: portable, and not released.
        backend: that runs the engines.
        device: that they run on.
        store: of this machine.
        tune: "auto" takes about :data:`AUTO_SECONDS` at most, "full" the time that it takes, "off" none.
        say: is called with what is being done.

    Raises:
        BackendError: the backend cannot be imported or started, or not even its safe engines keep the bundle's bound.
    """
    specification = bundle.manifest.specification
    base = uniform(bundle, backend, backend.tuned_precisions()[0])
    key = machine_key(bundle.digest, backend, specification.size, 1)
    found = store.choice(key)
    if found is not None and (tune != "full" or found.tune == "full"):
        return found
    if tune == "off":
        return Choice(precisions=base, tune=tune)
    with store.choosing(key):
        found = store.choice(key)
        if found is not None and (tune != "full" or found.tune == "full"):
            return found  # Another process was faster.
        measurement = _Measurement(bundle, backend, device, tune, say)
        choice = measurement.choose()
        store.keep_choice(key, choice)
        for candidate in measurement.candidates:
            candidate.keep(store, choice.precisions)
    return choice


class _Measurement:
    """One choice."""

    def __init__(self, bundle: Bundle, backend: TunableBackend, device: str, tune: Tune, say: Say) -> None:
        assert bundle.manifest.gate is not None
        self._bundle, self._backend, self._tune, self._say = bundle, backend, tune, say
        self._began = time.perf_counter()
        self._gate = Gate(bundle.reference_frames(), bundle.manifest.gate.min_psnr)
        self._precisions = backend.tuned_precisions()
        self._base = uniform(bundle, backend, self._precisions[0])
        self._engines = {}
        #: One for each precision; they hold the engines that were made.
        self.candidates: list[Candidate] = []
        for precision in self._precisions:
            say(f"making engines in {precision}")
            candidate = Candidate(bundle, backend, uniform(bundle, backend, precision), None)
            self.candidates.append(candidate)
            self._engines[precision] = backend.load_tuned(candidate, device)
        self._bench = Bench(bundle, self._engines)
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
            return self._fastest()
        finally:
            self._bench.close()

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
        frame = self._bundle.reference_frames().frames[0]
        found: dict[Key, list[float]] = {}
        for turn in range(_ROUNDS[self._tune] + 1):
            if turn > _LEAST_ROUNDS and self._late(0.5):
                break
            for precision in self._precisions:
                assignment = uniform(self._bundle, self._backend, precision)
                _, stages = self._bench.run(assignment, frame, steps)
                if turn == 0:
                    continue  # What is done once, such as touching memory for the first time.
                for part in PARTS:
                    if assignment[part] == precision:
                        calls = steps if part == "velocity" else 1
                        found.setdefault((part, precision), []).append(stages[part] / calls)
        self._times = {key: statistics.median(times) for key, times in found.items()}

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

        for keys in sorted(itertools.product(*options), key=milliseconds):
            assignment = dict(keys)
            if assignment == self._base:
                break
            known = sum(max(0.0, self._errors[key] - self._safe) for key in keys if key in self._errors)
            if self._safe + known > 1.5 * limit:
                continue
            if self._late(0.8):
                self._complete = False
                break
            self._say(f"comparing {describe(assignment)} with float32")
            squared = self._gate.squared_error(self._bench, assignment)
            if squared <= limit:
                base_ms, ms = self._in_turns(assignment)
                if ms > (1.0 - _LEAST_GAIN) * base_ms:
                    break
                return self._choice(assignment, squared, base_ms, ms)
            for key in keys:
                if not self._late(0.8):
                    self._error(*key)
        return self._choice(self._base, self._safe, None, None)

    def _in_turns(self, assignment: Mapping[str, PartPrecision]) -> tuple[float, float]:
        """Median milliseconds of a frame in the safe precisions, and in these."""
        self._say(f"timing {describe(assignment)} against {self._precisions[0]}")
        steps = self._bundle.recipe.default_steps
        frame = self._bundle.reference_frames().frames[0]
        found: tuple[list[float], list[float]] = ([], [])
        for turn in range(_ROUNDS[self._tune]):
            if turn >= _LEAST_ROUNDS and self._late(1.0):
                break
            for times, which in zip(found, (self._base, assignment), strict=True):
                times.append(self._bench.run(which, frame, steps)[1]["total"])
        return statistics.median(found[0]), statistics.median(found[1])

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


def describe(precisions: Mapping[str, PartPrecision]) -> str:
    """An assignment for people: "int8, coarse bf16"."""
    values = list(precisions.values())
    most = max(dict.fromkeys(values), key=values.count)
    others = [f"{part} {precision}" for part, precision in precisions.items() if precision != most]
    return ", ".join([most, *others])
