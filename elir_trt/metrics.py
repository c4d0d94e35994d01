"""PSNR and SSIM of 8-bit RGB images."""

from __future__ import annotations

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
