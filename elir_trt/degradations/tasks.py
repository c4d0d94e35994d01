"""What each task's network is fed in training, made from clean crops."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from elir_trt.degradations.compression import Subsampling, jpeg, video
from elir_trt.degradations.noise import Image, gaussian_noise, to_uint8
from elir_trt.degradations.sensor import photograph, random_sensor
from elir_trt.errors import RecipeError

#: Parts of the crops that :func:`camera` leaves nearly clean, gives white noise, and takes with a sensor; of what is
#: left, the part that a video encoder gets; the rest is JPEG.
CLEAN, WHITE, SENSOR, VIDEO = 0.28, 0.34, 0.2, 0.35


def camera(image: Image, rng: np.random.Generator) -> Image:
    """What a camera makes of a clean crop ``[H, W, 3]`` with even sides, at unknown levels.

    More than a quarter stay as they are or nearly so, that a restorer learns to leave alone what needs nothing. A
    third get white noise up to sigma 100 of 255, a fifth are taken by a sensor with a mosaic, and the rest is
    compressed, as JPEG or by a video encoder, with and without noise; some of the noisy ones are compressed too.
    """
    kind = rng.random()
    if kind < CLEAN:
        return _nearly_clean(image, rng)
    kind -= CLEAN
    if kind < WHITE:
        noisy = to_uint8(gaussian_noise(image.astype(np.float32), rng.uniform(0.0, 100.0), rng))
        return _jpeg(noisy, 70, rng) if rng.random() < 0.06 else noisy
    kind -= WHITE
    if kind < SENSOR:
        taken = photograph(image, random_sensor(rng), rng)
        draw = rng.random()
        if draw < 0.4:
            return _jpeg(taken, 50, rng)
        return video(taken, int(rng.integers(15, 30)), rng, frames=1) if draw < 0.45 else taken
    sigma = rng.uniform(0.0, 15.0) if rng.random() < 0.3 else 0.0
    if rng.random() < VIDEO:
        hevc = rng.random() < 0.3
        return video(
            image,
            int(rng.integers(18, 42)),
            rng,
            codec="hevc" if hevc else "h264",
            frames=int(rng.integers(1, 5)),
            speed=float(rng.exponential(1.5)),
            sigma=sigma,
        )
    pixels = image.astype(np.float32)
    if rng.random() < 0.05:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.3, 0.8)), dtype=np.float32)
    if sigma:
        pixels = gaussian_noise(pixels, sigma, rng)
    return _jpeg(to_uint8(pixels), 8, rng)


def _nearly_clean(image: Image, rng: np.random.Generator) -> Image:
    draw = rng.random()
    if draw < 0.15:  # A restorer is soon sure of these, and then learns nothing from them.
        return image
    if draw < 0.7:
        return to_uint8(gaussian_noise(image.astype(np.float32), rng.uniform(0.5, 10.0), rng))
    return _jpeg(image, 80, rng)


def _jpeg(image: Image, lowest: int, rng: np.random.Generator) -> Image:
    """JPEG of a quality from ``lowest`` up, more often low; the chroma whole in a quarter."""
    quality = int(lowest + (99 - lowest) * rng.random() ** 2)
    subsampling: Subsampling = "4:2:0" if rng.random() < 0.75 else "4:4:4"
    return jpeg(image, quality, subsampling)


def bfr(image: Image, rng: np.random.Generator) -> Image:
    """Blind face restoration: blur, a random smaller size and back, noise, JPEG."""
    height, width = image.shape[:2]
    pixels = cv2.GaussianBlur(image.astype(np.float32), (41, 41), rng.uniform(0.1, 15.0))
    scale = rng.uniform(1.0, 32.0)
    small = (max(1, round(width / scale)), max(1, round(height / scale)))
    pixels = cv2.resize(pixels, small, interpolation=cv2.INTER_LINEAR)
    noisy = gaussian_noise(np.asarray(pixels, dtype=np.float32), rng.uniform(0.0, 20.0), rng)
    result = jpeg(to_uint8(noisy), int(rng.integers(30, 101)))
    return to_uint8(
        np.asarray(cv2.resize(result, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    )


def bsr(image: Image, rng: np.random.Generator) -> Image:
    """Blind super-resolution x4: blur, a quarter of the size, noise, JPEG, and bicubic back."""
    height, width = image.shape[:2]
    pixels = cv2.GaussianBlur(image.astype(np.float32), (21, 21), rng.uniform(0.1, 3.0))
    pixels = cv2.resize(pixels, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    noisy = gaussian_noise(np.asarray(pixels, dtype=np.float32), rng.uniform(0.0, 25.0), rng)
    result = jpeg(to_uint8(noisy), int(rng.integers(30, 96)))
    return to_uint8(
        np.asarray(cv2.resize(result, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
    )


def sr(image: Image, rng: np.random.Generator) -> Image:
    """Face super-resolution x8: an eighth of the size, noise of 12.8 of 255, nearest back."""
    height, width = image.shape[:2]
    small = cv2.resize(image.astype(np.float32), (width // 8, height // 8), interpolation=cv2.INTER_AREA)
    result = to_uint8(gaussian_noise(np.asarray(small, dtype=np.float32), 12.8, rng))
    return np.asarray(
        cv2.resize(result, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8
    )


def denoising(image: Image, rng: np.random.Generator) -> Image:
    """Gaussian noise of 89.6 of 255."""
    return to_uint8(gaussian_noise(image.astype(np.float32), 89.6, rng))


def inpainting(image: Image, rng: np.random.Generator) -> Image:
    """Each pixel kept with probability 0.1, then noise of 25.6 of 255."""
    kept = (rng.random(image.shape[:2]) < 0.1)[:, :, None]
    return to_uint8(gaussian_noise(image.astype(np.float32) * kept, 25.6, rng))


Degradation = Callable[[Image, np.random.Generator], Image]
TASKS: dict[str, Degradation] = {
    "bfr": bfr,
    "bsr": bsr,
    "sr": sr,
    "denoising": denoising,
    "inpainting": inpainting,
    "camera": camera,
}


def degradation(task: str) -> Degradation:
    """What a task's network is fed in training.

    Raises:
        RecipeError: the task is unknown.
    """
    if task not in TASKS:
        raise RecipeError(f"no degradation is known for task {task!r}; known are {', '.join(sorted(TASKS))}")
    return TASKS[task]
