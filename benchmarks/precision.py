"""What precisions cost and give: the built-in restorer on the CPU, in one run.

    python benchmarks/precision.py [--photos DIR] [--calibrate DIR] [--count N] [--rounds 15] [--json FILE]

Every row is a bundle built here. Times are of a 512x512 frame, medians over rounds in which all bundles take turns,
and in parentheses how many times as fast as bf16; times of parts are with the default steps. PSNR, with these too,
is of photos with noise of sigma 50 (fixed seeds, clipped to 8 bits), against the float32 bundle's results and against
the photos. Photos are found as in benchmarks/quality.py; calibration uses others, by default the pristine ones.
``--tensorrt`` builds TensorRT-RTX engines of the four full-size parts of "bfr" instead, in INT8 and FP8, with random
weights, and shows how many of their convolutions run in 8 bits.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from quality import ROOT, degraded, images, read, shared

import elir_trt
from elir_trt.backends.narrow import narrow
from elir_trt.backends.tensorrt_api import load
from elir_trt.backends.tensorrt_builder import build_engine
from elir_trt.backends.tensorrt_prepare import prepare_part
from elir_trt.building import build
from elir_trt.building.calibration import part_inputs
from elir_trt.building.export import export_part
from elir_trt.building.quantize import quantize
from elir_trt.metrics import psnr
from elir_trt.model import Elir
from elir_trt.parts import PARTS
from elir_trt.recipe import load_recipe
from elir_trt.samples import load_samples

#: Name of the row; what is asked for, and what "auto" has to keep.
ROWS: dict[str, dict[str, Any]] = {
    "float32": {"precision": "fp32"},
    "bf16": {"precision": "bf16"},
    "int8": {"precision": "int8"},
    "int8-full": {"precision": "int8-full"},
    "auto, 40 dB": {"precision": "auto", "min_psnr": 40.0},
    "auto, 45 dB": {"precision": "auto", "min_psnr": 45.0},
}


def engines() -> None:
    """Build the four full-size parts with TensorRT-RTX, whatever their error: the weights are random."""
    recipe = load_recipe("bfr")
    torch.manual_seed(0)
    model = Elir(recipe.architecture).eval().requires_grad_(False)
    fed = part_inputs(model, recipe, load_samples(recipe, recipe.size, count=4).frames)
    print("| part | convolutions | INT8: in 8 bits, MB, s | FP8: in 8 bits, MB, s |")
    print("|---|---|---|---|")
    for part in PARTS:
        data = export_part(model, part, size=recipe.size).data
        graph = onnx.load_model_from_string(data).graph
        cells = [f"{sum(node.op_type in ('Conv', 'ConvTranspose') for node in graph.node)}"]
        for scheme in ("int8", "fp8"):
            onnx_file = narrow(quantize(data, fed[part], scheme), "fp16")
            prepared = prepare_part(onnx_file, part, "tensorrt-rtx", load("tensorrt-rtx").version)
            built = build_engine(prepared.data, flavour="tensorrt-rtx", part=part)
            if built.quantized_layers == 0:
                raise SystemExit(f"{part}: the engine has no convolution in {scheme}")
            cells.append(f"{built.quantized_layers}, {len(built.data) / 1e6:.1f}, {built.seconds:.1f}")
        print(f"| {part} | {' | '.join(cells)} |", flush=True)


def table(rows: dict[str, dict[str, Any]], default: int) -> str:
    """The rows as Markdown; the velocity is left out where no step is taken."""
    parts = [part for part in PARTS if default > 0 or part != "velocity"]
    totals = {"coarse_total": 0, **({"total": default} if default > 0 else {})}
    heads = ["asked for", *parts, *(f"frame, K={steps}" for steps in totals.values())]
    heads += ["PSNR to float32", "to the photo", "bundle"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, row in rows.items():
        cells = [name, *(f"{row['precisions'][p]}, {row[f'{p}_ms']:.1f} ms" for p in parts)]
        for key in totals:
            row[f"{key}_speed_of_bf16"] = rows["bf16"][f"{key}_ms"] / row[f"{key}_ms"]
            cells.append(f"{row[f'{key}_ms']:.1f} ms ({row[f'{key}_speed_of_bf16']:.2f}x)")
        cells += [
            f"{row['psnr_float32']:.1f} dB",
            f"{row['psnr_truth']:.2f} dB",
            f"{row['megabytes']:.1f} MB",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--photos", type=Path, default=shared() / "clean_photos")
    parser.add_argument("--calibrate", type=Path, default=ROOT.parent / "shared" / "train_photos")
    parser.add_argument("--count", type=int, default=8, help="photos, evenly picked")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--weights", type=Path, default=ROOT / "elir_trt" / "weights" / "camera.npz")
    parser.add_argument("--tensorrt", action="store_true")
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    if arguments.tensorrt:
        engines()
        return
    paths = images(arguments.photos)
    paths = [paths[i] for i in np.linspace(0, len(paths) - 1, arguments.count).astype(int)]
    recipe = load_recipe("camera")
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        opened = {}
        for index, (name, asked) in enumerate(ROWS.items()):
            report = build(
                recipe,
                arguments.weights,
                output=Path(folder) / str(index),
                backends=["openvino"],
                **asked,
                calibrate=arguments.calibrate,
                half_weights=True,
            )
            files = [p for p in report.path.rglob("*") if p.is_file() and "reference" not in p.parts]
            rows[name] = {
                "precisions": {
                    part: r.precision or asked["precision"]
                    for part, r in report.manifest.parts["openvino"].items()
                },
                "notes": {part: r.note for part, r in report.manifest.parts["openvino"].items() if r.note},
                "megabytes": sum(p.stat().st_size for p in files) / 1e6,
                "build_s": report.seconds,
            }
            if "openvino" in report.manifest.pipelines:
                search = report.manifest.pipelines["openvino"].search
                rows[name]["search"] = [row.to_data() for row in search]
            opened[name] = elir_trt.open(report.path)
        times: dict[tuple[str, int], list[dict[str, float]]] = {}
        frame = np.ascontiguousarray(np.resize(read(paths[0]), (512, 512, 3)))
        default = recipe.default_steps
        for steps in sorted({0, default}):
            streams = {n: r.stream(depth=1, size=(512, 512), steps=steps) for n, r in opened.items()}
            for turn in range(arguments.rounds + 2):
                for name, stream in streams.items():
                    stream.submit(frame)
                    stages = stream.result().stages
                    if turn >= 2:
                        times.setdefault((name, steps), []).append(dict(stages))
            for stream in streams.values():
                stream.close()
        clean = [read(path) for path in paths]
        noisy = [degraded(path, image)["sigma 50"][0] for path, image in zip(paths, clean, strict=True)]
        restored: dict[str, list[np.ndarray]] = {}
        for name, restorer in opened.items():
            restored[name] = [restorer(image) for image in noisy]
            row = rows[name]
            for stage in (*PARTS, "total"):
                row[f"{stage}_ms"] = statistics.median(t[stage] for t in times[name, default])
            row["coarse_total_ms"] = statistics.median(t["total"] for t in times[name, 0])
            exact = restored["float32"]
            pairs = zip(exact, restored[name], strict=True)
            row["psnr_float32"] = float(np.mean([min(psnr(a, b), 99.0) for a, b in pairs]))
            truth = zip(clean, restored[name], strict=True)
            row["psnr_truth"] = float(np.mean([psnr(a, b) for a, b in truth]))
    print(table(rows, default))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
