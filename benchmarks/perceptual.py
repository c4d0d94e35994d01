"""How images look beside the photo that they were made of, by measures that follow the eye more than PSNR does.

SSIMULACRA2 (Sneyers, Cloudinary; the package ssimulacra2): 100 is the photo itself, 70 high quality, 30 low. VMAF
(Netflix; libvmaf in the FFmpeg of the package imageio-ffmpeg): 100 is the best. NIQE: see niqe.py. Each is left out
where its package is missing.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from elir_trt.metrics import ssimulacra2

Image = npt.NDArray[np.uint8]
#: Of the photo and an image ``[H, W, 3]`` RGB.
Measure = Callable[[Image, Image], float]


def vmaf(clean: Image, image: Image) -> float:
    """VMAF of a single picture, 0 to 100, by the model that FFmpeg takes by itself."""
    import imageio_ffmpeg

    with tempfile.TemporaryDirectory() as folder:
        first, second = _written(Path(folder), clean, image)
        log = Path(folder) / "vmaf.json"
        graph = (
            "[0:v]format=yuv444p[distorted];[1:v]format=yuv444p[reference];"
            f"[distorted][reference]libvmaf=log_fmt=json:log_path={log}"
        )
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", second, "-i", first]
        subprocess.run([*command, "-lavfi", graph, "-f", "null", "-"], check=True, capture_output=True)
        return float(json.loads(log.read_text())["pooled_metrics"]["vmaf"]["mean"])


def measures() -> Mapping[str, Measure]:
    """What can be measured here, by its name."""
    packages = {"SSIMULACRA2": ("ssimulacra2", ssimulacra2), "VMAF": ("imageio_ffmpeg", vmaf)}
    return {
        name: measure for name, (package, measure) in packages.items() if importlib.util.find_spec(package)
    }


def _written(folder: Path, *images: Image) -> list[str]:
    paths = []
    for index, image in enumerate(images):
        path = str(folder / f"{index}.png")
        cv2.imwrite(path, image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 0])
        paths.append(path)
    return paths
