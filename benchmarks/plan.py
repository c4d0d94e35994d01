"""Kernels and bytes of a frame, counted in TensorRT-RTX's engines before and after each rewrite of the ONNX files.

    python benchmarks/plan.py [--task bfr] [--size 512x512] [--precision fp16] [--steps K] [--eight-bits] [--json F]

Needs TensorRT-RTX and no GPU: its engines list their kernels as text. Weights are random, made by torch from a fixed
seed; kernels do not depend on them. A frame runs the encoder, the coarse part and the decoder once and the velocity
K times, by default the recipe's steps. Bytes are what kernels read and write, each tensor once a kernel, weights
included; what stays in a GPU's cache between two kernels is counted too. ``--eight-bits`` adds the parts quantized to
INT8 and FP8, with procedural pictures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from elir_trt.backends.narrow import Half, narrow
from elir_trt.backends.tensorrt_builder import build_engine
from elir_trt.backends.tensorrt_plan import Plan, reason_against_quantized
from elir_trt.backends.tensorrt_rewrite import for_tensorrt, for_tensorrt_rtx
from elir_trt.backends.widen import widen_transposed
from elir_trt.building.calibration import part_inputs
from elir_trt.building.export import export_part
from elir_trt.building.quantize import quantize
from elir_trt.building.typed import count_multiplications
from elir_trt.model import Elir
from elir_trt.parts import PARTS
from elir_trt.recipe import Recipe, load_recipe
from elir_trt.samples import load_samples

#: What each row does to the exported files.
REWRITES: Mapping[str, Callable[[bytes], bytes]] = {
    "as exported": lambda data: data,
    "for every TensorRT": for_tensorrt,
    "for TensorRT-RTX": lambda data: for_tensorrt_rtx(for_tensorrt(data)),
}


def plan_of(data: bytes, part: str) -> Plan:
    """The kernels that TensorRT-RTX makes of a part."""
    widened = widen_transposed(data)
    plan = build_engine(data if widened is None else widened[0], flavour="tensorrt-rtx", part=part).plan()
    if plan is None:
        raise SystemExit(f"{part}: the engine's kernels cannot be read; this needs TensorRT-RTX 1.7")
    return plan


def counts(plan: Plan) -> dict[str, Any]:
    """What is shown of a plan."""
    return {
        "launches": plan.launches,
        "bytes": plan.bytes,
        "casts": len(plan.casts()),
        "convolutions_in_8_bits": plan.quantized_convolutions,
        "of_these_write_float32": len(plan.float32_outputs()),
    }


def frame(parts: Mapping[str, Mapping[str, Any]], steps: int) -> dict[str, int]:
    """Launches and bytes of a frame."""
    calls = {part: steps if part == "velocity" else 1 for part in PARTS}
    return {key: sum(calls[p] * parts[p][key] for p in PARTS) for key in ("launches", "bytes")}


def table(rows: Mapping[str, Mapping[str, Any]], steps: int) -> str:
    """The rows as Markdown."""
    lines = [f"| files | {' | '.join(PARTS)} | frame, K={steps} |", "|---" * (len(PARTS) + 2) + "|"]
    for name, row in rows.items():
        cells = [f"{row['parts'][p]['launches']}, {row['parts'][p]['bytes'] / 1e6:.0f} MB" for p in PARTS]
        cells.append(f"{row['frame']['launches']}, {row['frame']['bytes'] / 1e6:,.0f} MB")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def quantized_files(
    model: Elir, recipe: Recipe, size: tuple[int, int], files: Mapping[str, bytes], half: Half
) -> dict[str, dict[str, bytes]]:
    """The parts in INT8 and in FP8."""
    fed = part_inputs(model, recipe, load_samples(recipe, size, count=4).frames)
    return {
        scheme: {part: narrow(quantize(files[part], fed[part], scheme), half) for part in PARTS}
        for scheme in ("int8", "fp8")
    }


def main() -> None:
    """Print the table, and why 8 bits are not taken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--task", default="bfr")
    parser.add_argument("--size", default="512x512", help="HEIGHTxWIDTH")
    parser.add_argument("--precision", choices=("fp16", "bf16"), default="fp16")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--eight-bits", action="store_true")
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.task)
    height, width = map(int, arguments.size.split("x"))
    steps = recipe.steps if arguments.steps is None else arguments.steps
    torch.manual_seed(0)
    model = Elir(recipe.architecture).eval().requires_grad_(False)
    files = {part: export_part(model, part, size=(height, width)).data for part in PARTS}
    typed = {part: narrow(data, arguments.precision) for part, data in files.items()}
    plans = {
        name: {part: plan_of(rewrite(typed[part]), part) for part in PARTS}
        for name, rewrite in REWRITES.items()
    }
    if arguments.eight_bits:
        quantized = quantized_files(model, recipe, (height, width), files, arguments.precision)
        for scheme, eight in quantized.items():
            last = list(REWRITES.values())[-1]
            plans[scheme] = {part: plan_of(last(eight[part]), part) for part in PARTS}
    rows: dict[str, dict[str, Any]] = {}
    for name, found in plans.items():
        parts = {part: counts(plan) for part, plan in found.items()}
        rows[name] = {"parts": parts, "frame": frame(parts, steps)}
    print(table(rows, steps))
    work = {part: 2 * count_multiplications(files[part]) for part in PARTS}
    total = sum(work.values()) + (steps - 1) * work["velocity"]
    print(f"\n{total / 1e9:.0f} GFLOP of convolutions a frame")
    for scheme in plans.keys() - REWRITES.keys():
        for part in PARTS:
            reason = reason_against_quantized(plans[scheme][part], plans["for TensorRT-RTX"][part], scheme)
            print(f"{part}: {reason or f'{scheme} is taken'}")
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"task": recipe.task, "steps": steps, "flop": total, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
