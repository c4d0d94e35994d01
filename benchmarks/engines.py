"""Engines of a portable bundle on this CPU: each precision and what was chosen, in turns, and how near they are.

    python benchmarks/engines.py [--bundle camera] [--task bfr [--eager]] [--photos DIR] [--rounds N] [--json FILE]

Photos are cut to the engines' size and get noise of sigma 25, and go through engines of every precision and those
that the machine chose, one frame of each in turn; times are medians. PSNR is against float32 and against the clean
photos.
``--task`` builds a bundle of that task with random weights, made by torch from a fixed seed: times carry over to
trained ones, errors do not. ``--eager`` takes turns with PyTorch's float32 and, in its faster type, torch.compile.
The choice is made by ``tune="full"`` in a cache of its own, so that nothing that was measured before decides.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from quality import images, read, shared

from elir_trt import _core, backends
from elir_trt.backends import TunableBackend
from elir_trt.backends.openvino import cpu_name
from elir_trt.bundle import Bundle, find_bundle
from elir_trt.degradations import gaussian_noise, to_uint8
from elir_trt.metrics import psnr
from elir_trt.tuning.candidates import Candidate, describe, uniform
from elir_trt.tuning.choice import open_engines
from elir_trt.tuning.timing import Bench

Image = npt.NDArray[np.uint8]
SIGMA = 25.0


def pairs_of(photos: Path, size: tuple[int, int], count: int) -> list[tuple[Image, Image]]:
    """Noisy and clean crops of photos, mirrored where these are smaller."""
    found = []
    rng = np.random.default_rng(0)
    for path in images(photos)[:count]:
        photo = read(path)
        missing = [max(0, want - have) for want, have in zip(size, photo.shape[:2], strict=True)]
        photo = np.pad(photo, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="reflect")
        clean = np.ascontiguousarray(photo[: size[0], : size[1]])
        found.append((to_uint8(gaussian_noise(clean.astype(np.float32), SIGMA, rng)), clean))
    return found


def built(task: str, folder: Path, photos: Path) -> Path:
    """A portable bundle of a task with random weights."""
    import torch

    from elir_trt.building import build
    from elir_trt.model import Elir
    from elir_trt.recipe import load_recipe

    recipe = load_recipe(task)
    torch.manual_seed(0)
    torch.save(Elir(recipe.architecture).state_dict(), folder / "weights.pth")
    path = folder / "bundle"
    return build(recipe, folder / "weights.pth", output=path, calibrate=photos, progress=print).path


def eager(folder: Path, bundle: Bundle) -> dict[str, Callable[[Image, int], None]]:
    """The same model in PyTorch, by name: float32, and compiled in BF16 and float32."""
    import torch

    from elir_trt.model import load_model

    recipe = bundle.recipe
    model = load_model(folder / "weights.pth", recipe.architecture).eval().requires_grad_(False)
    latent = [side // recipe.architecture.downscale for side in bundle.manifest.specification.size]
    noise = torch.from_numpy(_core.noise_field(0, recipe.architecture.latent_channels, *latent))[None]

    def runs(restore: Any, half: bool) -> Callable[[Image, int], None]:
        def run(frame: Image, steps: int) -> None:
            x = torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float() / 255
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
                restore(x, steps=steps, sigma=recipe.sigma, noise=noise)

        return run

    compiled = torch.compile(model.restore)
    return {
        "PyTorch fp32": runs(model.restore, False),
        "torch.compile fp32": runs(compiled, False),
        "torch.compile bf16": runs(compiled, True),
    }


@contextmanager
def own_cache(folder: Path) -> Iterator[None]:
    """Let nothing that was measured before decide."""
    before = os.environ.get("ELIR_TRT_CACHE")
    os.environ["ELIR_TRT_CACHE"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("ELIR_TRT_CACHE")
        if before is not None:
            os.environ["ELIR_TRT_CACHE"] = before


def measure(
    path: Path, photos: Path, rounds: int, peers: dict[str, Callable[[Image, int], None]]
) -> dict[str, Any]:
    """Rows by number of steps and engines."""
    bundle = Bundle(path)
    backend = cast(TunableBackend, backends.get("openvino"))
    began = time.perf_counter()
    choice = open_engines(bundle, "openvino", tune="full", say=print).choice
    assert choice is not None
    seconds = time.perf_counter() - began
    precisions = backend.tuned_precisions()
    engines = {
        precision: backend.load_tuned(
            Candidate(bundle, backend, uniform(bundle, backend, precision), None), "cpu"
        )
        for precision in precisions
    }
    size = bundle.manifest.specification.size
    apart = Bench(bundle, engines, size)
    rows = {precision: (apart, uniform(bundle, backend, precision)) for precision in precisions}
    rows["chosen"] = (apart, dict(choice.precisions))
    if choice.direct:
        # Beside the chosen engines with one of their own for each part, and BF16 in one engine.
        rows["chosen, apart"] = rows["chosen"]
        for name in ("bf16", "chosen"):
            if name in rows:
                source = Candidate(bundle, backend, rows[name][1], None, direct=True)
                joined = Bench(bundle, engines, size, direct=backend.load_tuned(source, "cpu"))
                rows["bf16, one engine" if name == "bf16" else name] = (joined, rows[name][1])
    pairs = pairs_of(photos, size, rounds)
    report: dict[str, Any] = {
        "task": bundle.recipe.task,
        "cpu": cpu_name(),
        "threads": len(os.sched_getaffinity(0)),
        "chosen": describe(choice.precisions),
        "one_engine_without_steps": choice.direct,
        "seconds_of_the_choice": seconds,
        "steps": {},
    }
    for steps in sorted({0, 1, bundle.recipe.steps}):
        times: dict[str, list[float]] = {name: [] for name in (*rows, *peers)}
        near: dict[str, list[float]] = {name: [] for name in rows}
        good: dict[str, list[float]] = {name: [] for name in rows}
        for turn, (frame, clean) in enumerate([pairs[0], *pairs]):
            exact, _ = apart.run(rows[precisions[0]][1], frame, steps)
            for name, (bench, assignment) in rows.items():
                restored, stages = bench.run(assignment, frame, steps)
                if turn:
                    times[name].append(stages["total"])
                    near[name].append(min(psnr(exact, restored), 120.0))
                    good[name].append(psnr(clean, restored))
            for name, run in peers.items():
                if steps == bundle.recipe.steps:
                    began = time.perf_counter()
                    run(frame, steps)
                    if turn:
                        times[name].append(1e3 * (time.perf_counter() - began))
        table = {}
        for name, values in times.items():
            if values:
                table[name] = {"ms": statistics.median(values)}
            if name in near:
                table[name].update(
                    db_to_float32=statistics.mean(near[name]), db_to_photos=statistics.mean(good[name])
                )
        report["steps"][steps] = table
        for name, row in table.items():
            rest = "".join(f"  {key} {value:.2f}" for key, value in row.items() if key != "ms")
            print(f"K = {steps}  {name:18} {row['ms']:8.1f} ms{rest}", flush=True)
    return report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bundle", default="camera")
    parser.add_argument("--task")
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--photos", type=Path, default=shared() / "clean_photos")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    path = None if arguments.task else find_bundle(arguments.bundle)
    with tempfile.TemporaryDirectory() as name, own_cache(Path(name) / "cache"):
        folder = Path(name)
        if path is None:
            path = built(arguments.task, folder, arguments.photos)
        peers = eager(folder, Bundle(path)) if arguments.task and arguments.eager else {}
        report = measure(path, arguments.photos, arguments.rounds, peers)
    print(f"{report['cpu']}, {report['threads']} threads: {report['chosen']}")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
