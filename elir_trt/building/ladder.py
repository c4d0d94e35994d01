"""Time against quality of a bundle: what a frame gains by more steps and by other precisions, and what they cost.

Held-out frames go through every number of steps in every precision that the building machine's CPU has, one after
the other, through the real stages of one stream. What is slower than another and not better in anything is left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np

from elir_trt.backends import TunableBackend, reference
from elir_trt.bundle import Bundle
from elir_trt.cpu import available_cpus, cpu_model
from elir_trt.errors import BackendError
from elir_trt.manifest import LadderRecord, Quality, RungRecord
from elir_trt.metrics import has_ssimulacra2, psnr, ssim, ssimulacra2
from elir_trt.samples import Image, Samples
from elir_trt.tolerances import PartPrecision
from elir_trt.tuning.candidates import Candidate, uniform
from elir_trt.tuning.timing import Bench

#: Seconds after which no further frame is begun.
BUDGET_SECONDS = 40.0
#: Differences that nobody sees, and that few frames do not show for sure: dB, SSIM, SSIMULACRA2.
SAME_PSNR, SAME_SSIM, SAME_SSIMULACRA2 = 0.05, 0.001, 0.3
#: PSNR of equal images, which have none.
_EQUAL_DB = 120.0

Rung = tuple[int, PartPrecision]


def measure_ladder(bundle: Bundle, samples: Samples, say: Callable[[str], None]) -> LadderRecord | None:
    """Measure every rung of a portable bundle on this machine's CPU.

    Args:
        bundle: portable, and not released.
        samples: of the bundle's size and task.
        say: is called with what is being done.

    Returns:
        the rungs that are worth something; None: a precision's engines cannot be made here.
    """
    backend = cast(TunableBackend, reference())
    precisions = backend.tuned_precisions()
    assigned = {precision: uniform(bundle, backend, precision) for precision in precisions}
    rungs: list[Rung] = [
        (steps, precision)
        for precision in precisions
        if precision in assigned[precision].values()
        for steps in range(bundle.recipe.steps + 1)
    ]
    say("measuring the ladder")
    try:
        engines = {
            precision: backend.load_tuned(Candidate(bundle, backend, assignment, None), "cpu")
            for precision, assignment in assigned.items()
        }
        bench = Bench(bundle, engines, bundle.manifest.specification.size)
    except BackendError as error:
        say(f"no ladder: {error}")
        return None
    times: dict[Rung, list[float]] = {rung: [] for rung in rungs}
    found: dict[Rung, list[Quality]] = {rung: [] for rung in rungs}
    unrestored: list[Quality] = []
    began = time.perf_counter()
    try:
        for place, (frame, clean) in enumerate(zip(samples.held_out, samples.clean, strict=True)):
            if place and time.perf_counter() - began > BUDGET_SECONDS:
                break
            say(f"measuring the ladder: frame {place + 1} of {len(samples.held_out)}")
            unrestored.append(quality_of(clean, frame))
            for rung in rungs:
                steps, precision = rung
                if not place:
                    bench.run(assigned[precision], frame, steps)  # The first run of an engine is no measure.
                restored, stages = bench.run(assigned[precision], frame, steps)
                times[rung].append(stages["total"])
                found[rung].append(quality_of(clean, restored))
    finally:
        bench.close()
    measured = [
        RungRecord(
            steps=steps,
            precision=precision,
            ms=round(min(times[steps, precision]), 3),
            quality=_mean(found[steps, precision]),
        )
        for steps, precision in rungs
    ]
    return LadderRecord(
        machine=f"{cpu_model()}, {available_cpus()} threads",
        frames=len(unrestored),
        unrestored=_mean(unrestored),
        rungs=worthwhile(measured),
    )


def quality_of(clean: Image, image: Image) -> Quality:
    """How near an image ``[H, W, 3]`` is to the clean one."""
    return Quality(
        psnr=min(psnr(clean, image), _EQUAL_DB),
        ssim=ssim(clean, image),
        ssimulacra2=ssimulacra2(clean, image) if has_ssimulacra2() else None,
    )


def worthwhile(rungs: Sequence[RungRecord]) -> tuple[RungRecord, ...]:
    """The rungs that are better in something than all faster ones that are kept, the fastest first."""
    kept: list[RungRecord] = []
    for rung in sorted(rungs, key=lambda rung: rung.ms):
        if all(_is_better(rung.quality, faster.quality) for faster in kept):
            kept.append(rung)
    return tuple(kept)


def _is_better(one: Quality, other: Quality) -> bool:
    """Whether one is visibly better in anything."""
    if one.psnr > other.psnr + SAME_PSNR or one.ssim > other.ssim + SAME_SSIM:
        return True
    if one.ssimulacra2 is None or other.ssimulacra2 is None:
        return False
    return one.ssimulacra2 > other.ssimulacra2 + SAME_SSIMULACRA2


def _mean(qualities: Sequence[Quality]) -> Quality:
    looks = [quality.ssimulacra2 for quality in qualities if quality.ssimulacra2 is not None]
    return Quality(
        psnr=round(float(np.mean([quality.psnr for quality in qualities])), 3),
        ssim=round(float(np.mean([quality.ssim for quality in qualities])), 5),
        ssimulacra2=round(float(np.mean(looks)), 2) if looks else None,
    )
