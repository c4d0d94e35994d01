"""The gate: engines are used if the frames that they restore are near enough to those of float32.

The reference frames come with the bundle, so that what is compared is what the machine computes with what the model
computes, and not one engine with another. Some runtimes do not always compute what a file in INT8 says.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from elir_trt.bundle import ReferenceFrames
from elir_trt.tolerances import PartPrecision
from elir_trt.tuning.timing import Bench, FrameBench

#: PSNR in dB of frames that are equal, of which there is no logarithm.
EQUAL_DB = 120.0


class Gate:
    """Compares engines on the reference frames of a bundle."""

    def __init__(self, reference: ReferenceFrames, min_psnr: float) -> None:
        self._reference, self.min_psnr = reference, min_psnr

    def squared_error(
        self,
        bench: Bench | FrameBench,
        assignment: Mapping[str, PartPrecision],
        frames: int | None = None,
        steps: int | None = None,
    ) -> float:
        """Mean squared error of restored frames in [0, 1]; the worst of the numbers of steps.

        Args:
            bench: runs the engines.
            assignment: of precisions to parts.
            frames: how many reference frames; None: all.
            steps: one of the numbers of steps that there are references for; None: all of them.
        """
        worst = 0.0
        pairs = list(zip(self._reference.frames, self._reference.restored, strict=True))[:frames]
        for place, count in enumerate(self._reference.steps):
            if steps not in (None, count):
                continue
            errors = []
            for frame, expected in pairs:
                restored, _ = bench.run(assignment, frame, count)
                difference = restored.astype(np.float32) - expected[place].astype(np.float32)
                errors.append(float(np.mean((difference / np.float32(255.0)) ** 2, dtype=np.float64)))
            worst = max(worst, float(np.mean(errors)))
        return worst

    @property
    def most_squared_error(self) -> float:
        """The bound, as a mean squared error."""
        return float(10 ** (-self.min_psnr / 10))


def psnr_of(squared: float) -> float:
    """PSNR in dB of a mean squared error on values in [0, 1]."""
    return float(-10 * np.log10(max(squared, 10 ** (-EQUAL_DB / 10))))
