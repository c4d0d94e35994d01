"""What a latent can hold against what it costs: choosing the built-in restorer's architecture.

    python benchmarks/frontier.py [--data DIR] [--photos DIR] [--minutes M] [--size N] [--json FILE]

For each candidate: the ceiling (PSNR of encoding and decoding clean photos with the weights that training starts
from: principal components, so the best linear latent of its size), GFLOP and ms per part at NxN on this CPU, and with
--minutes the PSNR that so long a training reaches at three noise levels. The principal components and the training
use DIR (by default ../shared/train_photos), the PSNR other photos (by default ../shared/data/clean_photos).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import openvino as ov
import torch
from torch.utils.flop_counter import FlopCounterMode

from elir_trt.backends.openvino import HINTS, cpu_precisions
from elir_trt.building.export import export_part
from elir_trt.degradations import gaussian_noise, to_uint8
from elir_trt.metrics import psnr
from elir_trt.model.elir import Elir
from elir_trt.parts import PARTS, part_shapes, part_tensors
from elir_trt.recipe import Architecture, AutoencoderSpec, CoarseSpec, VelocitySpec, load_recipe
from elir_trt.training.command import PHASES
from elir_trt.training.data import Crops, load_photos
from elir_trt.training.trainer import Trainer, start_model, to_tensor

ROOT = Path(__file__).resolve().parents[1]
SIGMAS = (25.0, 50.0, 89.6)
#: Name, pixels per latent cell each way, latent channels, width, blocks, growth of the dense net.
CANDIDATES = (
    ("/8, 16 channels", 8, 16, 128, 3, 32),
    ("/8, 48 channels", 8, 48, 128, 3, 32),
    ("/8, 96 channels", 8, 96, 192, 3, 32),
    ("/4, 8 channels", 4, 8, 64, 5, 48),
    ("/4, 16 channels", 4, 16, 64, 5, 48),
    ("/4, 32 channels, narrow and deep", 4, 32, 64, 5, 48),
    ("/4, 32 channels, wide and shallow", 4, 32, 96, 3, 32),
    ("/4, 48 channels", 4, 48, 96, 3, 32),
)


def architecture(cell: int, channels: int, width: int, blocks: int, growth: int) -> Architecture:
    """A candidate's architecture."""
    return Architecture(
        latent_channels=channels,
        autoencoder=AutoencoderSpec.from_data({"unshuffle": cell, "widths": [width], "blocks": [blocks]}),
        coarse=CoarseSpec(growth=growth, blocks=1),
        velocity=VelocitySpec(hidden=32, middle=1),
    )


def times(model: Elir, size: int) -> dict[str, float]:
    """Milliseconds of each part on this CPU, medians of 9."""
    core, precision = ov.Core(), cpu_precisions()[0]
    shapes = part_shapes(model.architecture, (size, size), model.fmir.condition_width)
    result = {}
    for part in PARTS:
        inputs, _ = part_tensors(part, model.architecture)
        exported = export_part(model, part, size=(64, 64), precision="fp32")
        network = core.read_model(io.BytesIO(exported.data))
        network.reshape({name: list(shapes[name]) for name in inputs})
        hints = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": HINTS[precision],
        }
        request = core.compile_model(network, "CPU", hints).create_infer_request()
        for name in inputs:
            request.set_tensor(name, ov.Tensor(np.random.rand(*shapes[name]).astype(np.float32)))
        spent = []
        for _ in range(11):
            began = time.perf_counter()
            request.infer()
            spent.append(1e3 * (time.perf_counter() - began))
        result[part] = float(np.median(spent[2:]))
    return result


def gflop(model: Elir, size: int) -> float:
    """Arithmetic of one frame at K = 0, a multiplication and an addition counted as two."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.restore(torch.rand(1, 3, size, size), steps=0, sigma=0.0)
    return float(counter.get_total_flops()) / 1e9


def measure(model: Elir, photos: list[np.ndarray], sigma: float | None) -> float:
    """Mean PSNR of the coarse estimate over the photos; sigma None: of clean photos."""
    found = []
    for index, photo in enumerate(photos):
        rng = np.random.default_rng([index, 7])
        fed = photo if sigma is None else to_uint8(gaussian_noise(photo.astype(np.float32), sigma, rng))
        with torch.inference_mode():
            y = model.restore(to_tensor(fed[None], torch.device("cpu")), steps=0, sigma=0.0)
        found.append(
            psnr(photo, to_uint8(np.asarray(255.0 * y[0].permute(1, 2, 0).numpy(), dtype=np.float32)))
        )
    return float(np.mean(found))


def main() -> None:
    """Print the frontier."""
    shared = ROOT.parent / "shared"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=shared / "train_photos")
    parser.add_argument("--photos", type=Path, default=shared / "data" / "clean_photos")
    parser.add_argument("--minutes", type=float, default=0.0, help="training of each candidate")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()

    recipe = load_recipe("camera")
    crops = Crops(load_photos(arguments.data, PHASES[0].crop), [], 0.0, 0)
    paths = sorted(arguments.photos.iterdir())
    photos = []
    for path in paths[:: max(1, len(paths) // 8)]:
        bgr = cv2.imread(str(path))
        if bgr is not None:
            photos.append(np.ascontiguousarray(bgr[:288, :288, ::-1]))
    heads = ["candidate", "GFLOP", *PARTS, "K=0 ms", "K=1 ms", "ceiling dB"]
    if arguments.minutes:
        heads += [f"sigma {s:g} dB" for s in SIGMAS]
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    rows = []
    for name, *numbers in CANDIDATES:
        chosen = replace(recipe, architecture=architecture(*numbers))
        model = start_model(chosen, None, 0, crops).eval()
        spent = times(model, arguments.size)
        total = sum(spent.values())
        row: dict[str, float | str] = {
            "candidate": name,
            "GFLOP": gflop(model, arguments.size),
            **spent,
            "K=0 ms": total - spent["velocity"],
            "K=1 ms": total,
            "ceiling dB": measure(model, photos, None),
        }
        if arguments.minutes:
            with tempfile.TemporaryDirectory() as folder:
                trainer = Trainer(model, chosen, crops, Path(folder), PHASES[0], seed=0, device="cpu")
                trainer.run(budget_s=60.0 * arguments.minutes)
            trained = trainer.average.model.eval()
            row.update({f"sigma {s:g} dB": measure(trained, photos, s) for s in SIGMAS})
        rows.append(row)
        print(
            "| " + " | ".join(v if isinstance(v, str) else f"{v:.1f}" for v in row.values()) + " |",
            flush=True,
        )
    if arguments.json:
        temporary = arguments.json.with_name(arguments.json.name + ".tmp")
        temporary.write_text(
            json.dumps({"minutes": arguments.minutes, "size": arguments.size, "rows": rows}, indent=1) + "\n"
        )
        os.replace(temporary, arguments.json)


if __name__ == "__main__":
    main()
