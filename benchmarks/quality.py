"""PSNR, SSIM and perceptual measures of the built-in restorer beside the degraded image, OpenCV and BM3D.

    python benchmarks/quality.py [--photos DIR] [--pristine DIR] [--count N] [--bundle DIR ...] [--json FILE]

Photos come from DIR, else from $ELIR_TRT_DATA/clean_photos, else from ../shared/data/clean_photos. Noise has fixed
seeds and is clipped to 8 bits. All rows are means over the same photos. OpenCV's and BM3D's images are kept in a
cache, since BM3D takes half a minute for some of them; BM3D is left out where the package bm3d is missing. Several
bundles are compared in one run, each with all its steps. Perceptual measures, which take long, are of --perceptual N
photos: NIQE, which needs undamaged photos for its model (--pristine, by default ../shared/train_photos), and those of
perceptual.py whose packages are there.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from niqe import Niqe
from perceptual import Measure, measures

import elir_trt
from elir_trt import Restorer
from elir_trt.backends.openvino import cpu_name
from elir_trt.degradations import CAMERA_LEVELS, camera_level, gaussian_noise, jpeg, to_uint8, video
from elir_trt.files import write_whole
from elir_trt.metrics import psnr, ssim

Image = npt.NDArray[np.uint8]
ROOT = Path(__file__).resolve().parents[1]
SIGMAS = (15.0, 25.0, 50.0, 75.0, 89.6)
#: Of these OpenCV and BM3D are given images.
PEER_SIGMAS = (25.0, 50.0, 89.6)
QUALITIES = (10, 20, 30, 50)
#: Rate factors of H.264.
RATES = (23, 30, 37)
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
    name = zlib.crc32(path.name.encode())
    columns: dict[str, tuple[Image, float | None]] = {"clean": (clean, None)}
    for sigma in SIGMAS:
        rng = np.random.default_rng([name, int(10 * sigma)])
        columns[f"sigma {sigma:g}"] = (to_uint8(gaussian_noise(clean.astype(np.float32), sigma, rng)), sigma)
    for quality in QUALITIES:
        columns[f"JPEG {quality}"] = (jpeg(clean, quality), None)
    for title, level in CAMERA_LEVELS.items():
        columns[title] = (camera_level(clean, level, np.random.default_rng([name, 5])), None)
    for rate in RATES:
        columns[f"H.264 {rate}"] = (_encoded(clean, rate, np.random.default_rng([name, 6])), None)
    return columns


def _encoded(clean: Image, rate: int, rng: np.random.Generator) -> Image:
    """A frame of H.264, which has even sides: an odd last row or column is encoded twice and cut off again."""
    height, width = clean.shape[:2]
    even = np.pad(clean, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(video(even, rate, rng)[:height, :width])


@dataclass
class Scores:
    """What was measured: values by measure, row and column, one for each photo.

    Attributes:
        perceptual: measures that some of the photos alone have.
    """

    perceptual: Mapping[str, Measure]
    values: dict[str, dict[str, dict[str, list[float]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    )

    def add(self, row: str, column: str, clean: Image, image: Image, *, perceptual: bool) -> None:
        """Measure an image against its photo."""
        found: dict[str, Measure] = {"PSNR": psnr, "SSIM": ssim}
        if perceptual:
            found.update(self.perceptual)
        for name, measure in found.items():
            self.values[name][row][column].append(measure(clean, image))

    def means(self) -> dict[str, dict[str, dict[str, float]]]:
        """Means over the photos."""
        return {
            name: {row: {c: float(np.mean(v)) for c, v in cells.items()} for row, cells in rows.items()}
            for name, rows in self.values.items()
        }


def peers(image: Image, sigma: float, cache: Path) -> Iterator[tuple[str, Image]]:
    """What OpenCV, with several strengths, and BM3D make of an image whose noise they are told."""
    for share in STRENGTHS:
        name = f"nlm{share}_{sigma}"
        yield f"OpenCV h={share} sigma", cached(cache, name, image, lambda s=share: opencv(image, sigma, s))  # type: ignore[misc]
    if importlib.util.find_spec("bm3d") is not None:
        yield "BM3D", cached(cache, f"bm3d_{sigma}", image, lambda: bm3d(image, sigma))


def restored(
    restorer: Restorer, columns: Mapping[str, tuple[Image, float | None]], seed: int
) -> Iterator[tuple[int, str, Image, float]]:
    """Every column with every number of steps: steps, column, image, milliseconds per megapixel."""
    for steps in range(restorer.recipe.steps + 1):
        with restorer.stream(steps=steps, seed=seed) as stream:
            for column, (image, _) in columns.items():
                began = time.perf_counter()
                stream.submit(image)
                frame = stream.result().frame
                yield steps, column, frame, (time.perf_counter() - began) * 1e3 / (image.size / 3e6)


def print_tables(tables: Mapping[str, Mapping[str, Mapping[str, float]]], columns: Sequence[str]) -> None:
    """In Markdown."""
    for title, rows in tables.items():
        print(f"\n| {title} | " + " | ".join(columns) + " |")
        print("|---" * (len(columns) + 1) + "|")
        digits = 3 if title == "SSIM" else 2
        for row, means in rows.items():
            cells = (f"{means[c]:.{digits}f}" if c in means else "" for c in columns)
            print(f"| {row} | " + " | ".join(cells) + " |")


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--photos", type=Path, default=shared() / "clean_photos")
    parser.add_argument("--pristine", type=Path, default=ROOT.parent / "shared" / "train_photos")
    parser.add_argument("--count", type=int, default=None, help="photos, evenly picked; all by default")
    parser.add_argument(
        "--perceptual", type=int, default=0, help="photos with perceptual measures; none by default"
    )
    parser.add_argument(
        "--bundle", nargs="+", default=["camera"], help="names or folders; the built-in restorer"
    )
    parser.add_argument("--peers", choices=("all", "none", "only"), default="all", help="OpenCV and BM3D")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "elir_trt" / "benchmarks")
    parser.add_argument("--json", type=Path, default=None)
    return parser.parse_args()


def picked(paths: Sequence[Path], count: int) -> list[Path]:
    """So many, evenly."""
    return [paths[i] for i in np.linspace(0, len(paths) - 1, count).astype(int)] if count else []


def main() -> None:
    """Print the tables."""
    arguments = parsed()
    paths = images(arguments.photos)
    if arguments.count:
        paths = picked(paths, arguments.count)
    closer = set(picked(paths, min(arguments.perceptual, len(paths))))
    perceptual = dict(measures())
    if closer and arguments.pristine.is_dir():
        niqe = Niqe(map(read, images(arguments.pristine)))
        perceptual["NIQE"] = lambda clean, image: niqe(image)
    scores = Scores(perceptual)
    spent: dict[str, list[float]] = defaultdict(list)
    restorers = {bundle: elir_trt.open(bundle) for bundle in arguments.bundle}
    columns: dict[str, tuple[Image, float | None]] = {}
    for index, path in enumerate(paths):
        clean = read(path)
        columns = degraded(path, clean)
        is_closer = path in closer
        for column, (image, sigma) in columns.items():
            if column != "clean":
                scores.add("input", column, clean, image, perceptual=is_closer)
            if sigma not in PEER_SIGMAS or arguments.peers == "none":
                continue
            for row, made in peers(image, sigma, arguments.cache):
                scores.add(row, column, clean, made, perceptual=is_closer)
        for bundle, restorer in restorers.items() if arguments.peers != "only" else ():
            for steps, column, frame, ms in restored(restorer, columns, index):
                row = f"{bundle} K={steps}"
                scores.add(row, column, clean, frame, perceptual=is_closer)
                spent[row].append(ms)
        print(f"\r{index + 1}/{len(paths)}", end="", flush=True)
    print()
    tables = scores.means()
    print_tables(tables, list(columns))
    ladder = {row: float(np.median(values)) for row, values in spent.items()}
    print("\nms per megapixel, one frame at a time: " + ", ".join(f"{k}: {v:.0f}" for k, v in ladder.items()))
    if arguments.json:
        report = {
            "cpu": cpu_name(),
            "photos": [path.name for path in paths],
            "perceptual_photos": sorted(path.name for path in closer),
            "tables": tables,
            "ms_per_megapixel": ladder,
        }
        write_whole(arguments.json, (json.dumps(report, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
