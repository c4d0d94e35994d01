"""PSNR and SSIM of the built-in restorer against the noisy image, OpenCV and BM3D.

    python benchmarks/quality.py [--photos DIR] [--count N] [--bm3d N] [--weights FILE] [--json FILE]

Photos come from DIR, else from $ELIR_TRT_DATA/clean_photos, else from ../shared/data/clean_photos. Noise has fixed
seeds and is clipped to 8 bits. ``--bm3d`` gives the number of photos for it, and its
row says so; its results are kept in a cache.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from elir_trt.model.checkpoint import load_model
from elir_trt.model.elir import Elir
from elir_trt.recipe import load_recipe
from elir_trt.training.degrade import gaussian_noise, jpeg, to_uint8
from elir_trt.training.metrics import psnr, ssim

Image = npt.NDArray[np.uint8]
ROOT = Path(__file__).resolve().parents[1]
SIGMAS = (25.0, 50.0, 89.6)
QUALITIES = (10, 30)


def photos_folder() -> Path:
    """Where the photos are by default."""
    root = os.environ.get("ELIR_TRT_DATA")
    return (Path(root) if root else ROOT.parent / "shared" / "data") / "clean_photos"


def read(path: Path) -> Image:
    """RGB ``[H, W, 3]``."""
    return np.asarray(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), dtype=np.uint8)


def restore(model: Elir, image: Image, steps: int, sigma: float, seed: int) -> Image:
    """Restore one image of any size, padded by reflection."""
    height, width = image.shape[:2]
    multiple = 4 * model.architecture.downscale
    padding = ((0, -height % multiple), (0, -width % multiple), (0, 0))
    x = torch.from_numpy(np.pad(image, padding, mode="reflect")).permute(2, 0, 1)[None].float() / 255.0
    with torch.inference_mode():
        scale = model.architecture.downscale
        shape = (1, model.architecture.latent_channels, x.shape[2] // scale, x.shape[3] // scale)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        y = model.restore(x, steps=steps, sigma=sigma, noise=noise)
    return to_uint8(255.0 * y[0].permute(1, 2, 0).numpy())[:height, :width]


def opencv(image: Image, sigma: float, share: float) -> Image:
    """Non-local means with h = ``share`` * sigma."""
    h = share * sigma
    bgr = cv2.fastNlMeansDenoisingColored(np.ascontiguousarray(image[..., ::-1]), None, h, h, 7, 21)
    return np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)


def bm3d_cached(image: Image, sigma: float, cache: Path) -> Image:
    """BM3D for RGB; results are kept in ``cache`` under the image's digest."""
    path = cache / f"{hashlib.sha256(image.tobytes()).hexdigest()[:24]}_{sigma}.png"
    if not path.is_file():
        from bm3d import bm3d_rgb

        cache.mkdir(parents=True, exist_ok=True)
        result = to_uint8(255.0 * np.asarray(bm3d_rgb(image / 255.0, sigma / 255.0), dtype=np.float32))
        cv2.imwrite(str(path), result[..., ::-1])
    return read(path)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--photos", type=Path, default=photos_folder())
    parser.add_argument("--count", type=int, default=None, help="photos, evenly picked; all by default")
    parser.add_argument("--bm3d", type=int, default=0, help="photos for BM3D")
    parser.add_argument("--opencv", type=int, default=None, help="photos for OpenCV; all by default")
    parser.add_argument(
        "--cache", type=Path, default=Path.home() / ".cache" / "elir_trt" / "benchmarks" / "bm3d"
    )
    parser.add_argument("--weights", type=Path, default=ROOT / "elir_trt" / "weights" / "camera.npz")
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()

    recipe = load_recipe("camera")
    model = load_model(arguments.weights, recipe.architecture)
    paths = sorted(p for p in arguments.photos.iterdir() if p.suffix.lower() in (".png", ".jpg"))
    if arguments.count:
        paths = [paths[i] for i in np.linspace(0, len(paths) - 1, arguments.count).astype(int)]
    opencv_count = len(paths) if arguments.opencv is None else arguments.opencv
    scores: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    spent: dict[str, list[float]] = defaultdict(list)

    for index, path in enumerate(paths):
        clean = read(path)
        inputs: dict[str, tuple[Image, float | None]] = {"clean": (clean, None)}
        for sigma in SIGMAS:
            rng = np.random.default_rng([index, int(10 * sigma)])
            inputs[f"sigma {sigma:g}"] = (
                to_uint8(gaussian_noise(clean.astype(np.float32), sigma, rng)),
                sigma,
            )
        for quality in QUALITIES:
            inputs[f"JPEG {quality}"] = (jpeg(clean, quality), None)
        for column, (image, sigma) in inputs.items():

            def add(row: str, result: Image, column: str = column, clean: Image = clean) -> None:
                scores[row][column].append((psnr(clean, result), ssim(clean, result)))

            if column != "clean":
                add("input", image)
            if sigma is not None and index < opencv_count:
                for share in (0.6, 0.8, 1.0):
                    add(f"OpenCV h={share}", opencv(image, sigma, share))
            if sigma is not None and index < arguments.bm3d:
                add("BM3D", bm3d_cached(image, sigma, arguments.cache))
            for steps in range(recipe.steps + 1):
                began = time.perf_counter()
                add(f"elir_trt K={steps}", restore(model, image, steps, recipe.sigma, index))
                spent[f"elir_trt K={steps}"].append(time.perf_counter() - began)
        print(f"\r{index + 1}/{len(paths)}", end="", flush=True)

    columns = ["clean", *(f"sigma {s:g}" for s in SIGMAS), *(f"JPEG {q}" for q in QUALITIES)]
    print("\n\n| PSNR / SSIM | photos | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 2) + "|")
    table: dict[str, dict[str, list[float]]] = {}
    for row, cells in scores.items():
        table[row] = {column: [float(v) for v in np.mean(values, axis=0)] for column, values in cells.items()}
        text = [
            f"{table[row][c][0]:.2f} / {table[row][c][1]:.3f}" if c in table[row] else "" for c in columns
        ]
        print(f"| {row} | {max(len(v) for v in cells.values())} | " + " | ".join(text) + " |")
    if arguments.json:
        arguments.json.write_text(json.dumps({"photos": len(paths), "table": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
