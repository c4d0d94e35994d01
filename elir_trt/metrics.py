"""PSNR, SSIM and SSIMULACRA2 of 8-bit RGB images."""

from __future__ import annotations

import importlib.util
import io

import numpy as np
import numpy.typing as npt

from elir_trt.extras import needs

Image = npt.NDArray[np.uint8]


def psnr(clean: Image, image: Image) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels; infinite for equal images."""
    error = float(np.mean((clean.astype(np.float64) - image.astype(np.float64)) ** 2))
    return float("inf") if error == 0.0 else float(10.0 * np.log10(255.0**2 / error))


def ssim(clean: Image, image: Image) -> float:
    """Structural similarity (Wang et al., IEEE TIP 2004): Gaussian window of sigma 1.5, mean over channels.

    Raises:
        MissingPackageError: OpenCV is not installed.
    """
    with needs("cv2", extra="image", what="measuring SSIM"):
        import cv2

    def blur(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.asarray(cv2.GaussianBlur(x, (11, 11), 1.5), dtype=np.float32)[5:-5, 5:-5]

    a, b = clean.astype(np.float32), image.astype(np.float32)
    mean_a, mean_b = blur(a), blur(b)
    variance_a, variance_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    score = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float(np.mean(score / ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2))))


def has_ssimulacra2() -> bool:
    """Whether the package ssimulacra2 is installed."""
    return importlib.util.find_spec("ssimulacra2") is not None


def ssimulacra2(clean: Image, image: Image) -> float:
    """SSIMULACRA2 (Sneyers, Cloudinary), which follows the eye: 100 is the clean image, 70 high quality, 30 low.

    Raises:
        MissingPackageError: the package ssimulacra2 is not installed.
    """
    with needs("ssimulacra2", extra="quantize", what="measuring SSIMULACRA2"):
        from ssimulacra2 import compute_ssimulacra2
    from PIL import Image as Pillow

    files = []
    for pixels in (clean, image):
        files.append(io.BytesIO())
        Pillow.fromarray(pixels).save(files[-1], "bmp")
    return float(compute_ssimulacra2(*files))
