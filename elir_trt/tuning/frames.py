"""Choosing by whole frames, on a device that runs a frame as one recorded graph.

Nothing can be exchanged in a recording, and making an engine takes long there. So the safe engines come first, and
are kept at once. Then each part in 8 bits, with the others in the safe precision, and all parts in another float, are
made one after the other: a frame of each takes turns with a frame of the safe engines, in a stream of its own, so
that what else the machine does is felt by both, and a GPU holds two assignments at a time. Parts that gain alone are
put together; the one that costs most accuracy is left out as long as the gate refuses them. What passes the gate on
all reference frames, and saves most of a frame's time, is taken.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from elir_trt.backends.base import TunableBackend
from elir_trt.bundle import Bundle
from elir_trt.errors import BackendError, ElirError
from elir_trt.parts import PARTS
from elir_trt.tolerances import PartPrecision
from elir_trt.tuning.candidates import Candidate, Made, describe, precisions_of, safe_precision, uniform
from elir_trt.tuning.gate import Gate, psnr_of
from elir_trt.tuning.store import WHOLE, Choice, ChoiceRow, Store, Tune
from elir_trt.tuning.timing import FrameBench

Assignment = Mapping[str, PartPrecision]
#: Seconds that a choice may take with ``tune="auto"`` once there are the safe engines; with "full" there is no limit.
AUTO_SECONDS = 120.0
#: Rounds of frames that times are medians of, after those that are not recorded yet.
_ROUNDS: Mapping[Tune, int] = {"auto": 15, "full": 51}
_WARM_UP = 4
#: What an assignment has to gain over the safe one: less is noise.
_LEAST_GAIN = 0.03
#: Parts in the order in which they are made in 8 bits: where time ends, those with the most work were tried.
_BY_WORK = ("encoder", "decoder", "velocity", "coarse")
_FLOATS = ("fp16", "bf16", "fp32")
#: What keeps an assignment from being taken, and nothing else; the core's own are no children of ElirError.
_REFUSALS = (ElirError, RuntimeError, MemoryError)


class _OutOfTime(Exception):
    """Ends the making of an engine."""


@dataclass(frozen=True)
class _Tried:
    """An assignment that was run.

    Attributes:
        assignment: of precisions to parts.
        squared: mean squared error of a restored reference frame against float32.
        base_ms, ms: of a frame with the safe engines and with these, in turns.
    """

    assignment: Assignment
    squared: float
    base_ms: float
    ms: float

    @property
    def ratio(self) -> float:
        """Its time in times of the safe engines."""
        return self.ms / self.base_ms


class FrameMeasurement:
    """One choice.

    Attributes:
        made: all engines that were made or found.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: TunableBackend,
        device: str,
        store: Store,
        tune: Tune,
        say: Callable[[str], None],
    ) -> None:
        """Make or find the safe engines.

        Args:
            bundle: portable, and not released.
            backend: that runs the engines, which are of the bundle's size.
            device: that they run on.
            store: of the safe engines.
            tune: "auto" or "full".
            say: is called with what is being done.

        Raises:
            BackendError, BuildError: the backend refuses a part.
        """
        assert bundle.manifest.gate is not None
        self._bundle, self._backend, self._device = bundle, backend, device
        self._store, self._tune, self._say = store, tune, say
        self._size = bundle.manifest.specification.size
        self._steps = bundle.recipe.default_steps
        self._safe_precision = safe_precision(bundle, backend)
        self._base = uniform(bundle, backend, self._safe_precision)
        self.made: Made = {}
        reference = bundle.reference_frames()
        self._frame = reference.frames[0]
        self._gate = Gate(reference, bundle.manifest.gate.min_psnr)
        self._safe_squared = 0.0
        self._base_times: list[float] = []
        self._rows: list[ChoiceRow] = []
        self._complete = True
        source = Candidate(bundle, backend, self._base, store, made=self.made, say=say)
        self._safe = FrameBench(bundle, backend.load_tuned(source, device), self._size)
        self._began = time.perf_counter()

    def choose(self) -> Choice:
        """Try what there is, and take the best.

        Raises:
            BackendError: not even the safe engines keep the bundle's bound.
        """
        try:
            self._check_safe()
            tried = [found for found in self._each() if found is not None]
            tried += self._together(tried)
            best = self._best(tried)
        finally:
            self._safe.close()
        base = ChoiceRow(
            part=WHOLE,
            precision=self._safe_precision,
            ms=statistics.median(self._base_times),
            psnr=psnr_of(self._safe_squared),
            fits=True,
        )
        choice = Choice(
            precisions=dict(self._base),
            tune=self._tune,
            psnr=base.psnr,
            rows=(base, *self._rows),
            by_frame=True,
            complete=self._complete,
        )
        if best is None:
            return choice
        found = replace(choice, precisions=dict(best.assignment), psnr=psnr_of(best.squared))
        return replace(found, base_ms=best.base_ms, ms=best.ms)

    def _check_safe(self) -> None:
        self._say(f"comparing {self._safe_precision} with float32")
        self._safe_squared = self._gate.squared_error(self._safe, self._base)
        if not self._safe_squared <= self._gate.most_squared_error:
            raise BackendError(
                f"{self._bundle.path}: {self._backend.title}'s engines in {self._safe_precision} are "
                f"{psnr_of(self._safe_squared):.1f} dB from float32 here; at least {self._gate.min_psnr:g} dB are "
                "asked for"
            )
        self._in_turns(self._safe, self._base)  # Times of its own, where nothing else is tried.

    def _each(self) -> Iterator[_Tried | None]:
        """Each part in 8 bits by itself, and all parts in each other float."""
        there = self._backend.tuned_precisions()
        here = {part: precisions_of(self._bundle, self._backend, part) for part in PARTS}
        eights = [p for p in there if p not in _FLOATS]
        singles = [(part, p) for p in eights for part in _BY_WORK if p in here[part]]
        # Float32 is for bundles that have nothing else: it moves twice the bytes.
        floats = [p for p in there if p in _FLOATS and p not in ("fp32", self._safe_precision)]
        whole = [(WHOLE, p) for p in floats if all(p in here[part] for part in PARTS)]
        for part, precision in (*singles, *whole):
            if self._is_late():
                self._complete = False
                return
            yield self._try_one(part, precision)

    def _try_one(self, part: str, precision: PartPrecision) -> _Tried | None:
        """Run a row of the table; None: it does not come into question."""
        parts = PARTS if part == WHOLE else (part,)
        try:
            found = self._try({**self._base, **dict.fromkeys(parts, precision)})
        except _OutOfTime:
            self._complete = False
            return None
        except _REFUSALS as error:
            self._rows.append(ChoiceRow(part=part, precision=precision, ms=None, reason=str(error)))
            return None
        fits = found.squared <= self._gate.most_squared_error
        psnr = psnr_of(found.squared)
        self._rows.append(ChoiceRow(part=part, precision=precision, ms=found.ms, psnr=psnr, fits=fits))
        return found if fits else None

    def _try(self, assignment: Assignment) -> _Tried:
        """Compare an assignment with float32, and time it against the safe one.

        Raises:
            BackendError, BuildError, RuntimeError, MemoryError: it cannot be made or run, or is known to be slower.
        """
        candidate = Candidate(
            self._bundle,
            self._backend,
            assignment,
            self._store,
            made=self.made,
            keeps=False,
            say=self._in_time,
        )
        engines = self._backend.load_tuned(candidate, self._device)
        for part in PARTS:
            if assignment[part] not in _FLOATS:
                self._require_gain(candidate, part)
        bench = FrameBench(self._bundle, engines, self._size)
        try:
            self._say(f"comparing {describe(assignment)} with float32")
            squared = self._gate.squared_error(bench, assignment, frames=1)
            self._say(f"timing {describe(assignment)} against {self._safe_precision}")
            return _Tried(assignment, squared, *self._in_turns(bench, assignment))
        finally:
            bench.close()

    def _require_gain(self, candidate: Candidate, part: str) -> None:
        safe = Candidate(self._bundle, self._backend, self._base, self._store, made=self.made)
        precision = candidate.precisions[part]
        engines = [source.engine(part, source.size, source.batch) for source in (candidate, safe)]
        reason = self._backend.reason_against_engine(part, engines[0], engines[1], precision)
        if reason is not None:
            raise BackendError(reason)

    def _together(self, tried: list[_Tried]) -> list[_Tried]:
        """Parts that gain alone, in one assignment: as many as the gate lets pass."""
        best: dict[str, _Tried] = {}
        for found in sorted(tried, key=lambda found: found.ratio, reverse=True):
            differing = [part for part in PARTS if found.assignment[part] != self._base[part]]
            if len(differing) == 1 and found.ratio < 1.0:
                best[differing[0]] = found
        while len(best) > 1:
            # Squared errors of independent roundings add up: what is far beyond the bound need not be run.
            lost = sum(max(0.0, found.squared - self._safe_squared) for found in best.values())
            if self._safe_squared + lost <= 1.5 * self._gate.most_squared_error:
                assignment = {**self._base, **{part: found.assignment[part] for part, found in best.items()}}
                try:
                    together = self._try(assignment)
                except _REFUSALS:
                    return []
                if together.squared <= self._gate.most_squared_error:
                    return [together]
            del best[max(best, key=lambda part: best[part].squared)]
        return []

    def _best(self, tried: list[_Tried]) -> _Tried | None:
        """The fastest that passes the gate on all reference frames; None: the safe one is."""
        for found in sorted(tried, key=lambda found: found.ratio):
            if found.ratio > 1.0 - _LEAST_GAIN:
                break
            squared = self._on_all_frames(found.assignment)
            if squared <= self._gate.most_squared_error:
                return _Tried(found.assignment, squared, found.base_ms, found.ms)
        return None

    def _on_all_frames(self, assignment: Assignment) -> float:
        candidate = Candidate(
            self._bundle, self._backend, assignment, self._store, made=self.made, keeps=False
        )
        bench = FrameBench(self._bundle, self._backend.load_tuned(candidate, self._device), self._size)
        try:
            return self._gate.squared_error(bench, assignment)
        finally:
            bench.close()

    def _in_turns(self, bench: FrameBench, assignment: Assignment) -> tuple[float, float]:
        """Median milliseconds of a frame with the default steps, with the safe engines and with others."""
        runs = ((self._safe, self._base), (bench, assignment))
        times: tuple[list[float], list[float]] = ([], [])
        for turn in range(_WARM_UP + _ROUNDS[self._tune]):
            for found, (turns, precisions) in zip(times, runs, strict=True):
                ms = turns.run(precisions, self._frame, self._steps)[1]["total"]
                if turn >= _WARM_UP:
                    found.append(ms)
        self._base_times += times[0]
        return statistics.median(times[0]), statistics.median(times[1])

    def _in_time(self, text: str) -> None:
        """Tell what is being done, unless there is no time left for it."""
        if self._is_late():
            raise _OutOfTime
        self._say(text)

    def _is_late(self) -> bool:
        return self._tune == "auto" and time.perf_counter() - self._began > AUTO_SECONDS
