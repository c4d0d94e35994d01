"""Which part runs in which precision: what was asked for, a search for it, and a gate that does not trust either.

All of it is measured on held-out frames against float32, with the backend's own arithmetic. OpenVINO runs its files:
its low-precision transformations do not always compute what a file says. Files for TensorRT, which needs a GPU, are
run by ONNX Runtime as they are written.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from elir_trt.backends import get, reference
from elir_trt.backends.base import Array, Run
from elir_trt.backends.narrow import Half, narrow
from elir_trt.building.calibration import Tensors, part_inputs
from elir_trt.building.export import conditioning_table, export_part, relative_error
from elir_trt.building.quantize import Scheme, quantize, run_file
from elir_trt.building.typed import count_multiplications, overflowing
from elir_trt.errors import BuildError
from elir_trt.manifest import PartRecord, SearchRow
from elir_trt.model.elir import Elir
from elir_trt.parts import PARTS
from elir_trt.recipe import Recipe
from elir_trt.reference import restore, to_image
from elir_trt.samples import Samples
from elir_trt.tolerances import PART_BOUNDS, PartPrecision

Say = Callable[[str], None]
#: The pipeline's least PSNR against float32 where precisions were named and not searched, in dB.
LEAST_PSNR = 30.0
#: Runs of which the median time is taken, after one that is not counted.
_RUNS = 15
_EIGHT_BITS = ("int8", "int8-full", "fp8")


@dataclass
class Choice:
    """What a backend's parts came out as.

    Attributes:
        precisions, files, records: of each part; the files are ONNX.
        psnr: of restored held-out frames against float32, in dB; the worse of the default steps and all of them.
        search: the table of a search, empty without one.
    """

    precisions: dict[str, PartPrecision]
    files: dict[str, bytes]
    records: dict[str, PartRecord]
    psnr: float
    search: list[SearchRow] = field(default_factory=list)


class Chooser:
    """Exports, quantizes, runs and compares the parts of one model for one backend."""

    def __init__(
        self,
        model: Elir,
        recipe: Recipe,
        calibration: Samples,
        *,
        size: tuple[int, int],
        backend: str,
        base: PartPrecision,
    ) -> None:
        """``base``: precision of parts that nobody asked to be another; the core's element type on a GPU."""
        self.model, self.recipe, self.base = model, recipe, base
        self.backend = get(backend)
        self.size, self.calibration = size, calibration
        self._floats: dict[str, bytes] = {}
        self._made: dict[tuple[str, PartPrecision], bytes] = {}
        self._runs: dict[tuple[str, PartPrecision], Run] = {}
        self._reasons: dict[tuple[str, PartPrecision], str | None] = {}
        self.notes: dict[str, str] = {}
        self._fed = part_inputs(model, recipe, calibration.frames)
        self._held_out = part_inputs(model, recipe, calibration.held_out, seed=1)
        self._table = conditioning_table(model, recipe.steps)
        self._steps = sorted({recipe.default_steps, recipe.steps})
        self._reference = {part: self._float_run(part) for part in PARTS}
        self._expected = {steps: self._restore(self._reference, steps) for steps in self._steps}

    # Files

    def float_file(self, part: str) -> bytes:
        """The float32 ONNX model of a part."""
        if part not in self._floats:
            self._floats[part] = export_part(self.model, part, size=self.size).data
        return self._floats[part]

    def file(self, part: str, precision: PartPrecision) -> bytes:
        """The ONNX model of a part in a precision, as the backend takes it."""
        key = (part, precision)
        if key not in self._made:
            data = self.float_file(part)
            if precision in _EIGHT_BITS:
                residuals = self.backend.quantized_residuals
                data = quantize(data, self._fed[part], cast(Scheme, precision), residuals=residuals)
            self._made[key] = data if self.backend.lowers_precision else self._typed(part, precision, data)
        return self._made[key]

    def _typed(self, part: str, precision: PartPrecision, data: bytes) -> bytes:
        if self.base == "fp32":
            if precision in ("fp16", "bf16"):
                raise BuildError(
                    f"{part} is {precision}, another part fp32: on TensorRT name fp16 or bf16 for one"
                )
            return data
        if precision in ("fp16", "bf16") and precision != self.base:
            raise BuildError(
                f"{part} is {precision}, another part {self.base}: on TensorRT they share one type"
            )
        if precision == "fp32":
            import onnx

            wide = [node.name for node in onnx.load_model_from_string(data).graph.node]
        else:
            wide = self._overflowing(part, data) if self.base == "fp16" else []
        return narrow(data, cast(Half, self.base), wide)

    def _overflowing(self, part: str, data: bytes) -> list[str]:
        found = overflowing(data, self._fed[part][:4])
        worst = {name: value for name, value in found.items() if value > 0}
        if worst:
            text = ", ".join(f"{name} ({value:.3g})" for name, value in worst.items())
            self.notes[part] = f"beyond FP16's 65504 and kept in FP32, with what reads them: {text}"
        return list(found)

    # Running

    def _float_run(self, part: str) -> Run:
        run = reference().runner(self.float_file(part), part, "fp32")
        assert run is not None
        return run

    def run(self, part: str, precision: PartPrecision) -> Run:
        """A part as the backend computes it; where none can be run here, as its file is written."""
        key = (part, precision)
        if key not in self._runs:
            data = self.file(part, precision)
            self._runs[key] = self.backend.runner(data, part, precision) or (
                lambda feed: run_file(data, [feed])[0]
            )
        return self._runs[key]

    def error(self, part: str, precision: PartPrecision) -> float:
        """Mean relative error of a part's output over held-out inputs."""
        run, reference = self.run(part, precision), self._reference[part]
        return float(np.mean([relative_error(run(x), reference(x)) for x in self._held_out[part]]))

    def _restore(self, runs: Mapping[str, Run], steps: int) -> list[Array]:
        first = steps * (steps - 1) // 2
        rows = self._table[first : first + steps]
        return [
            restore(runs, to_image(frame), rows, sigma=self.recipe.sigma, seed=1, index=index)
            for index, frame in enumerate(self.calibration.held_out)
        ]

    def squared_error(self, precisions: Mapping[str, PartPrecision]) -> float:
        """Mean squared error of restored frames against float32; parts that are not named are float32."""
        runs = {part: self._reference[part] for part in PARTS}
        runs.update({part: self.run(part, precision) for part, precision in precisions.items()})
        worst = 0.0
        for steps in self._steps:
            pairs = zip(self._restore(runs, steps), self._expected[steps], strict=True)
            worst = max(worst, float(np.mean([np.mean((a - b) ** 2) for a, b in pairs])))
        return worst

    def milliseconds(self, part: str, precisions: Sequence[PartPrecision]) -> list[float] | None:
        """Times of a part on this machine's CPU; None: the backend's engines do not run there."""
        if "cpu" not in self.backend.devices:
            return None
        return _median_ms([self.run(part, precision) for precision in precisions], self._held_out[part][0])

    def reason_against(self, part: str, precision: PartPrecision) -> str | None:
        """Why a part gains nothing from 8 bits, as far as the backend knows; None: it may, or it has none."""
        if precision not in _EIGHT_BITS:
            return None
        key = (part, precision)
        if key not in self._reasons:
            files = (self.file(part, precision), self.file(part, self.base))
            self._reasons[key] = self.backend.reason_against(part, *files, precision)
        return self._reasons[key]

    # Choosing

    def named(self, asked: Mapping[str, PartPrecision], floor: float, say: Say) -> Choice:
        """The precisions that were asked for; parts beyond their bounds, and then the worst, a precision higher."""
        precisions = {part: asked.get(part, self.base) for part in PARTS}
        for part in PARTS:
            say(f"{self.backend.name}: comparing the {part}")
            precisions[part] = self._within_bounds(part, precisions[part])
        while True:
            squared = self.squared_error(precisions)
            if psnr_of(squared) >= floor or all(p == "fp32" for p in precisions.values()):
                return self._choice(precisions, squared)
            alone = {p: self.squared_error({p: precisions[p]}) for p in PARTS if precisions[p] != "fp32"}
            part = max(alone, key=alone.__getitem__)
            better = self._higher(precisions[part])
            self._note(
                part, f"{precisions[part]} left the pipeline at {psnr_of(squared):.1f} dB of {floor:.0f}"
            )
            precisions[part] = self._within_bounds(part, better)

    def search(self, floor: float, say: Say) -> Choice:
        """The fastest assignment whose restored frames keep ``floor`` dB of PSNR against float32.

        Where engines cannot be timed, the one with the least arithmetic: multiplications, by the bits that they have.
        Each part is measured alone in every precision. Squared errors of independent roundings add up, which orders
        the assignments worth running; what is taken was run as a whole.
        """
        rows: list[SearchRow] = []
        measured: dict[tuple[str, PartPrecision], tuple[float, float]] = {}
        for part in PARTS:
            say(f"{self.backend.name}: measuring the {part}")
            candidates: list[PartPrecision] = [self.base]
            for precision in ("int8", "int8-full"):
                reason = self.reason_against(part, precision)
                if reason is None:
                    candidates.append(precision)
                else:
                    self._note(part, reason)
            times = self.milliseconds(part, candidates)
            for index, precision in enumerate(candidates):
                ms = None if times is None else times[index]
                error = self.error(part, precision)
                squared = self.squared_error({part: precision})
                fits = error <= PART_BOUNDS[precision]
                if fits:
                    cost = self._arithmetic(part, precision) if ms is None else ms
                    measured[part, precision] = (cost, squared)
                rows.append(
                    SearchRow(
                        part=part,
                        precision=precision,
                        ms=ms,
                        psnr=psnr_of(squared),
                        relative_error=error,
                        within_bounds=fits,
                    )
                )
            if all((part, precision) not in measured for precision in candidates):
                times = self.milliseconds(part, ["fp32"])
                measured[part, "fp32"] = (self._arithmetic(part, "fp32") if times is None else times[0], 0.0)
        calls = {"encoder": 1, "coarse": 1, "velocity": self.recipe.default_steps, "decoder": 1}
        options = [[key for key in measured if key[0] == part] for part in PARTS]

        def cost_of(keys: Sequence[tuple[str, PartPrecision]]) -> float:
            # Steps that are not taken by default count a little: someone may ask for them.
            return sum(max(calls[key[0]], 0.01) * measured[key][0] for key in keys)

        limit = 10 ** (-floor / 10)
        for keys in sorted(itertools.product(*options), key=cost_of):
            if sum(measured[key][1] for key in keys) > 1.5 * limit:
                continue
            precisions = dict(keys)
            squared = self.squared_error(precisions)
            if squared <= limit:
                return self._choice(precisions, squared, rows)
        exact: dict[str, PartPrecision] = {part: "fp32" for part in PARTS}
        return self._choice(exact, self.squared_error(exact), rows)

    def _within_bounds(self, part: str, precision: PartPrecision) -> PartPrecision:
        while precision != "fp32":
            reason = self.reason_against(part, precision)
            if reason is None:
                error = self.error(part, precision)
                if error <= PART_BOUNDS[precision]:
                    break
                reason = f"{precision} was off by {error:.3f} of {PART_BOUNDS[precision]:.3f}"
            self._note(part, reason)
            precision = self._higher(precision)
        return precision

    def _arithmetic(self, part: str, precision: PartPrecision) -> float:
        """Multiplications of a part's convolutions, by bits."""
        bits = 8 if precision in _EIGHT_BITS else 32 if precision == "fp32" else 16
        return bits * count_multiplications(self.float_file(part))

    def _higher(self, precision: PartPrecision) -> PartPrecision:
        if precision == "int8-full":
            return "int8"
        return self.base if precision in ("int8", "fp8") else "fp32"

    def _note(self, part: str, text: str) -> None:
        self.notes[part] = f"{self.notes[part]}; {text}" if part in self.notes else text

    def _choice(
        self, precisions: dict[str, PartPrecision], squared: float, rows: Sequence[SearchRow] = ()
    ) -> Choice:
        records = {
            part: PartRecord(
                relative_error=self.error(part, precision),
                seconds=0.0,
                precision=precision,
                note=self.notes.get(part),
            )
            for part, precision in precisions.items()
        }
        files = {part: self.file(part, precision) for part, precision in precisions.items()}
        return Choice(precisions, files, records, psnr_of(squared), list(rows))


def psnr_of(squared: float) -> float:
    """PSNR in dB of a mean squared error on values in [0, 1]; at most 120."""
    return float(-10 * np.log10(max(squared, 1e-12)))


def _median_ms(runs: Sequence[Run], feed: Tensors) -> list[float]:
    """Median times of several; they take turns, so that what else the machine does is felt by all."""
    found: list[list[float]] = [[] for _ in runs]
    for turn in range(_RUNS + 1):
        for run, times in zip(runs, found, strict=True):
            began = time.perf_counter()
            run(feed)
            if turn > 0:
                times.append(1e3 * (time.perf_counter() - began))
    return [statistics.median(times) for times in found]
