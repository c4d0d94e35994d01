"""A frame on the CPU: the stream beside eager float32 PyTorch of the same model, in one run.

    python benchmarks/cpu.py [--task bfr] [--rounds 5] [--tensorrt] [--json FILE]

The weights are random, made by torch from a fixed seed: times carry over to trained ones, errors do not. Rounds
alternate between the two; the ratio is that of the medians, its spread that of the rounds. "Core" is the time
of a frame outside of the four engines. ``--tensorrt`` also builds the four parts with TensorRT-RTX in FP16.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import elir_trt
from elir_trt import _core
from elir_trt.backends.openvino import cpu_name
from elir_trt.building import build
from elir_trt.model import Elir
from elir_trt.recipe import load_recipe

ENGINES = ("encoder", "coarse", "velocity", "decoder", "direct")


def peak_mib() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR of two uint8 images, in dB."""
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(float) - b.astype(float)) ** 2), 1e-9)))


def measure(task: str, rounds: int, tensorrt: bool) -> dict[str, Any]:
    """Build the task's model with random weights, and time it both ways."""
    recipe = load_recipe(task)
    torch.manual_seed(0)
    model = Elir(recipe.architecture).eval().requires_grad_(False)
    frame = np.random.default_rng(0).integers(0, 256, (*recipe.size, 3), dtype=np.uint8)
    x = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
    latent = tuple(side // recipe.architecture.downscale for side in recipe.size)
    noise = torch.from_numpy(_core.noise_field(0, recipe.architecture.latent_channels, *latent))[None]
    report: dict[str, Any] = {
        "task": task,
        "size": recipe.size,
        "steps": recipe.steps,
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    with tempfile.TemporaryDirectory() as folder:
        torch.save(model.state_dict(), f"{folder}/weights.pth")
        if tensorrt:
            began = time.perf_counter()
            built = build(recipe, f"{folder}/weights.pth", output=f"{folder}/rtx", backends=["tensorrt-rtx"])
            report["tensorrt_rtx"] = {
                "seconds_with_export": time.perf_counter() - began,
                "seconds": sum(part.seconds for part in built.manifest.parts["tensorrt-rtx"].values()),
                "peak_mib": peak_mib(),
            }
        for precision in ("fp32", "bf16"):
            path = Path(folder) / precision
            build(recipe, f"{folder}/weights.pth", output=path, backends=["openvino"], precision=precision)
            eager, ours, core = [], [], []
            with (
                elir_trt.open(path) as restorer,
                restorer.stream(depth=1, steps=recipe.steps) as stream,
                torch.no_grad(),
            ):
                for index in range(rounds + 1):
                    began = time.perf_counter()
                    y = model.restore(x, steps=recipe.steps, sigma=recipe.sigma, noise=noise)
                    seconds = time.perf_counter() - began
                    stream.submit(frame)
                    result = stream.result()
                    if index == 0:
                        continue  # warm-up
                    eager.append(1e3 * seconds)
                    ours.append(result.stages["total"])
                    core.append(result.stages["total"] - sum(result.stages[name] for name in ENGINES))
            reference = np.rint(255 * y[0].permute(1, 2, 0).numpy()).astype(np.uint8)
            ratios = [a / b for a, b in zip(eager, ours, strict=True)]
            report[precision] = {
                "ran_in": restorer.engines.precision,
                "eager_ms": statistics.median(eager),
                "stream_ms": statistics.median(ours),
                "ratio": statistics.median(eager) / statistics.median(ours),
                "ratio_min": min(ratios),
                "ratio_max": max(ratios),
                "core_percent": 100 * statistics.median(core) / statistics.median(ours),
                "psnr_against_torch": psnr(result.frame, reference),
                "stages_ms": dict(result.stages),
            }
    return report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", default="bfr")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tensorrt", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    report = measure(arguments.task, arguments.rounds, arguments.tensorrt)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    print(f"{report['task']} {report['size']}, {report['steps']} steps, {report['cpu']}")
    for precision in ("fp32", "bf16"):
        row = report[precision]
        print(
            f"{precision}: eager {row['eager_ms']:.0f} ms, stream {row['stream_ms']:.0f} ms, "
            f"ratio {row['ratio']:.2f} ({row['ratio_min']:.2f} to {row['ratio_max']:.2f}), "
            f"core {row['core_percent']:.2f} %, PSNR against torch {row['psnr_against_torch']:.1f} dB"
        )
    if "tensorrt_rtx" in report:
        print(report["tensorrt_rtx"])


if __name__ == "__main__":
    main()
