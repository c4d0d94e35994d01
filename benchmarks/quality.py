"""PSNR, SSIM and NIQE of the built-in restorer beside the degraded image, OpenCV and BM3D.

    python benchmarks/quality.py [--photos DIR] [--pristine DIR] [--count N] [--bundle DIR] [--json FILE]

Photos come from DIR, else from $ELIR_TRT_DATA/clean_photos, else from ../shared/data/clean_photos. Noise has fixed
seeds and is clipped to 8 bits. All rows are means over the same photos. OpenCV's and BM3D's images are kept in a
cache, since BM3D takes half a minute for some of them. NIQE needs undamaged photos for its model (--pristine, by
default ../shared/train_photos); without them it is left out. BM3D is left out where the package bm3d is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import time
import zlib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from niqe import Niqe

import elir_trt
from elir_trt.degradations import gaussian_noise, jpeg, to_uint8
from elir_trt.metrics import psnr, ssim

Image = npt.NDArray[np.uint8]
ROOT = Path(__file__).resolve().parents[1]
SIGMAS = (25.0, 50.0, 89.6)
QUALITIES = (10, 30)
STRENGTHS = (0.6, 0.8, 1.0)
SUFFIXES = (".png", ".jpg", ".webp")


def shared() -> Path:
    """The folder with clean_photos by default."""
    root = os.environ.get("ELIR_TRT_DATA")
    return Path(root) if root else ROOT.parent / "shared" / "data"


def read(path: Path) -> Image:
    """RGB ``[H, W, 3]``."""
    return np.asarray(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), dtype=np.uint8)


def images(folder: Path) -> list[Path]:
    """The images of a folder, by name."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)


def opencv(image: Image, sigma: float, share: float) -> Image:
    """Non-local means with h = ``share`` * sigma."""
    h = share * sigma
    bgr = cv2.fastNlMeansDenoisingColored(np.ascontiguousarray(image[..., ::-1]), None, h, h, 7, 21)
    return np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)


def bm3d(image: Image, sigma: float) -> Image:
    """BM3D for RGB, told the sigma."""
    from bm3d import bm3d_rgb

    return to_uint8(255.0 * np.asarray(bm3d_rgb(image / 255.0, sigma / 255.0), dtype=np.float32))


def cached(cache: Path, name: str, image: Image, make: Callable[[], Image]) -> Image:
    """What ``make`` returns, kept in ``cache`` under the image's digest."""
    path = cache / f"{hashlib.sha256(image.tobytes()).hexdigest()[:24]}_{name}.png"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.png")
        cv2.imwrite(str(temporary), make()[..., ::-1])
        os.replace(temporary, path)
    return read(path)


def degraded(path: Path, clean: Image) -> dict[str, tuple[Image, float | None]]:
    """Columns of the table: the image that is restored and, where it is known, its noise's sigma."""
    columns: dict[str, tuple[Image, float | None]] = {"clean": (clean, None)}
    for sigma in SIGMAS:
        rng = np.random.default_rng([zlib.crc32(path.name.encode()), int(10 * sigma)])
        columns[f"sigma {sigma:g}"] = (
            to_uint8(gaussian_noise(clean.astype(np.float32), sigma, rng)),
            sigma,
        )
    for quality in QUALITIES:
        columns[f"JPEG {quality}"] = (jpeg(clean, quality), None)
    return columns


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--photos", type=Path, default=shared() / "clean_photos")
    parser.add_argument("--pristine", type=Path, default=ROOT.parent / "shared" / "train_photos")
    parser.add_argument("--count", type=int, default=None, help="photos, evenly picked; all by default")
    parser.add_argument("--bundle", default="camera", help="name or folder; the built-in restorer by default")
    parser.add_argument("--peers", choices=("all", "none", "only"), default="all", help="OpenCV and BM3D")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "elir_trt" / "benchmarks")
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()

    paths = images(arguments.photos)
    if arguments.count:
        paths = [paths[i] for i in np.linspace(0, len(paths) - 1, arguments.count).astype(int)]
    niqe = (
        Niqe(map(read, images(arguments.pristine)))
        if arguments.pristine.is_dir() and arguments.peers != "only"
        else None
    )
    has_bm3d = importlib.util.find_spec("bm3d") is not None
    scores: dict[str, dict[str, list[tuple[float, float, float]]]] = defaultdict(lambda: defaultdict(list))
    spent: dict[str, list[float]] = defaultdict(list)
    restorer = elir_trt.open(arguments.bundle)

    for index, path in enumerate(paths):
        clean = read(path)
        columns = degraded(path, clean)

        def add(row: str, column: str, result: Image, clean: Image = clean) -> None:
            if arguments.peers != "only":
                natural = niqe(result) if niqe is not None else float("nan")
                scores[row][column].append((psnr(clean, result), ssim(clean, result), natural))

        if niqe is not None:
            scores["the photo itself"]["clean"].append((float("inf"), 1.0, niqe(clean)))
        for column, (image, sigma) in columns.items():
            if column != "clean":
                add("input", column, image)
            if sigma is None or arguments.peers == "none":
                continue
            for share in STRENGTHS:
                made = cached(
                    arguments.cache,
                    f"nlm{share}_{sigma}",
                    image,
                    lambda image=image, sigma=sigma, share=share: opencv(image, sigma, share),  # type: ignore[misc]
                )
                add(f"OpenCV h={share} sigma", column, made)
            if has_bm3d:
                made = cached(
                    arguments.cache,
                    f"bm3d_{sigma}",
                    image,
                    lambda image=image, sigma=sigma: bm3d(image, sigma),  # type: ignore[misc]
                )
                add("BM3D", column, made)
        if arguments.peers != "only":
            for steps in range(restorer.recipe.steps + 1):
                with restorer.stream(steps=steps, seed=index) as stream:
                    for column, (image, _) in columns.items():
                        began = time.perf_counter()
                        stream.submit(image)
                        add(f"elir_trt K={steps}", column, stream.result().frame)
                        spent[f"K={steps}"].append((time.perf_counter() - began) / (image.size / 3e6))
        print(f"\r{index + 1}/{len(paths)}", end="", flush=True)
    if arguments.peers == "only":
        return

    names = list(degraded(paths[0], read(paths[0])))
    tables: dict[str, dict[str, dict[str, float]]] = {}
    for measure, title in enumerate(("PSNR", "SSIM", "NIQE")):
        if title == "NIQE" and niqe is None:
            continue
        print(f"\n\n| {title}, mean of {len(paths)} photos | " + " | ".join(names) + " |")
        print("|---" * (len(names) + 1) + "|")
        tables[title] = {}
        for row, cells in scores.items():
            means = {name: float(np.mean([s[measure] for s in cells[name]])) for name in names if cells[name]}
            tables[title][row] = means
            print(
                f"| {row} | "
                + " | ".join(f"{means[n]:.{3 if measure else 2}f}" if n in means else "" for n in names)
                + " |"
            )
    ladder = {steps: 1e3 * float(np.median(seconds)) for steps, seconds in spent.items()}
    print(
        "\nms per megapixel, one frame at a time: "
        + ", ".join(f"{steps}: {ms:.0f}" for steps, ms in ladder.items())
    )
    if arguments.json:
        report = {"photos": [path.name for path in paths], "tables": tables, "ms_per_megapixel": ladder}
        temporary = arguments.json.with_name(arguments.json.name + ".tmp")
        temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, arguments.json)


if __name__ == "__main__":
    main()
