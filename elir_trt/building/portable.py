"""What a portable bundle holds: the parts as ONNX in each form that some backend takes, and reference frames.

Which of the forms runs is not decided here: each machine measures (:mod:`elir_trt.tuning`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from elir_trt.backends import Run, form_for_all, reference
from elir_trt.backends.base import Array
from elir_trt.building.calibration import Tensors, part_inputs
from elir_trt.building.export import (
    ExportedPart,
    conditioning_table,
    export_part,
    relative_error,
    with_batch,
)
from elir_trt.bundle import REFERENCE_FRAMES, variant_file
from elir_trt.errors import ExportError
from elir_trt.manifest import BuildSpecification, GateRecord, VariantRecord
from elir_trt.model.elir import Elir
from elir_trt.parts import PARTS
from elir_trt.recipe import Precision
from elir_trt.reference import restore, to_image
from elir_trt.samples import Samples
from elir_trt.tolerances import PART_BOUNDS, PartPrecision


class Progress(Protocol):
    """Is called with what is being done, and how many parts are done."""

    def __call__(self, what: str, done: int) -> None: ...


#: Frames that engines are compared on; they are most of what a reference adds to a bundle's size.
GATE_FRAMES = 2
#: Forms of a part in INT8 of which the nearest to float32 is kept: whether channels are equalized, and whether the
#: ranges of tensors are means of the frames' ranges.
_FORMS = ((False, True), (False, False), (True, True), (True, False))
#: Parts that add what they compute to a latent, so that their own ends may be in 8 bits too.
_CORRECTIONS = ("coarse",)


@dataclass
class PortableParts:
    """Writes the parts of a model into the folder of a bundle.

    Attributes:
        folder: of the bundle.
        specification: of it. With ``half_weights`` the FP16 file alone is kept, which the CPU runs in float32 too.
        model: the restorer in float32.
        samples: frames, degraded as the task's are.
        progress: is called with what is being done.
        records: of what was written, by part and precision.
    """

    folder: Path
    specification: BuildSpecification
    model: Elir
    samples: Samples
    progress: Progress
    records: dict[str, dict[PartPrecision, VariantRecord]] = field(default_factory=dict)

    def write_part(self, part: str) -> Run:
        """Write every form of a part; a velocity field that is not used by default has none in INT8.

        Returns:
            the part in float32, to run.

        Raises:
            ExportError: the part cannot be exported.
            BuildError: it cannot be quantized.
        """
        size = self.specification.size
        self.say(f"{part}: exporting")
        exported = export_part(self.model, part, size=size)
        run = reference().runner(exported.data, part, "fp32")
        assert run is not None
        half = self._halves.get(part)
        if half is None or not self.specification.half_weights:
            self._write(part, "fp32", exported.data, exported.relative_error)
        if half is not None:
            self._write(part, half.precision, half.data, half.relative_error)
        # Steps that are not taken unless someone asks are not worth the bytes.
        if self.specification.quantized and (part != "velocity" or self.specification.recipe.default_steps):
            self.say(f"{part}: quantizing")
            self._write_quantized(part, exported.data, run)
        return run

    def say(self, text: str) -> None:
        """Tell what is being done."""
        self.progress(text, 1 + len(self.records))

    def write_reference_frames(self, parts: Mapping[str, Run]) -> GateRecord:
        """Write what float32 makes of held-out frames; ``parts`` in float32."""
        recipe = self.specification.recipe
        table = conditioning_table(self.model, recipe.steps)
        steps = sorted({recipe.default_steps, recipe.steps})
        frames = np.stack(self.samples.held_out[:GATE_FRAMES])
        restored = np.empty((len(frames), len(steps), *frames.shape[1:]), np.uint8)
        for place, count in enumerate(steps):
            self.say(f"reference frames of {count} steps")
            rows = table[count * (count - 1) // 2 :][:count]
            for index, frame in enumerate(frames):
                image = restore(parts, to_image(frame), rows, sigma=recipe.sigma, seed=0)
                restored[index, place] = np.rint(255 * image[0].transpose(1, 2, 0)).astype(np.uint8)
        np.savez_compressed(
            self.folder / REFERENCE_FRAMES, frames=frames, steps=np.array(steps), restored=restored
        )
        assert self.specification.search_floor is not None
        return GateRecord(min_psnr=self.specification.search_floor)

    @functools.cached_property
    def _fed(self) -> dict[str, list[Tensors]]:
        return part_inputs(self.model, self.specification.recipe, self.samples.frames)

    @functools.cached_property
    def _held_out(self) -> dict[str, list[Tensors]]:
        return part_inputs(self.model, self.specification.recipe, self.samples.held_out, seed=1)

    @functools.cached_property
    def _halves(self) -> dict[str, ExportedPart]:
        """The parts in FP16, or where one of them overflows all in BF16; empty: that is not near enough either."""
        halves: tuple[Precision, ...] = ("fp16", "bf16")
        size = self.specification.size
        for precision in halves:
            self.say(f"exporting in {precision}")
            try:
                return {part: export_part(self.model, part, size=size, precision=precision) for part in PARTS}
            except ExportError as error:
                self.say(f"no {precision}: {error}")
        return {}

    def _write_quantized(self, part: str, data: bytes, run: Run) -> None:
        """Write the nearest of a part's forms in INT8, where it is near enough."""
        expected = [run(feed) for feed in self._held_out[part]]
        for ends in (False, True) if part in _CORRECTIONS else (True,):
            nearest, quantized = self._nearest(part, data, expected, ends)
            if nearest <= PART_BOUNDS["int8"]:
                self._write(part, "int8", quantized, nearest)
                return
        self.say(f"{part}: no INT8: it is off by {nearest:.3f} of {PART_BOUNDS['int8']:.3f}")

    def _nearest(self, part: str, data: bytes, expected: Sequence[Array], ends: bool) -> tuple[float, bytes]:
        """The error and the file of the form of a part that is nearest to float32, run as the CPU runs it."""
        from elir_trt.building.quantize import quantize

        found = []
        for equalized, clipped in _FORMS:
            quantized = quantize(
                data, self._fed[part], "int8", ends=ends, equalized=equalized, clipped=clipped
            )
            run = reference().runner(quantized, part, "fp32")
            assert run is not None
            outputs = [run(feed) for feed in self._held_out[part]]
            error = relative_error(np.stack(outputs), np.stack(expected))
            found.append((error if np.isfinite(error) else np.inf, quantized))
        return min(found)

    def _write(self, part: str, precision: PartPrecision, data: bytes, error: float) -> None:
        file = self.folder / variant_file(part, precision)
        file.parent.mkdir(exist_ok=True)
        data = with_batch(data, self.specification.batch)
        # Floats are for every backend, on machines that cannot rewrite them; INT8 is the CPU's alone.
        file.write_bytes(data if precision == "int8" else form_for_all(data))
        self.records.setdefault(part, {})[precision] = VariantRecord(relative_error=error)


def write_portable(
    folder: Path, specification: BuildSpecification, model: Elir, samples: Samples, progress: Progress
) -> tuple[dict[str, dict[PartPrecision, VariantRecord]], GateRecord]:
    """Write the parts and the reference frames of a portable bundle into ``folder``.

    Raises:
        BuildError, ExportError: with the reason.
    """
    parts = PortableParts(folder, specification, model, samples, progress)
    runs = {part: parts.write_part(part) for part in PARTS}
    return parts.records, parts.write_reference_frames(runs)
