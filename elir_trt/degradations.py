"""Degradations: what the network is fed in training, made from clean crops."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from elir_trt.errors import RecipeError

Image = npt.NDArray[np.uint8]
Pixels = npt.NDArray[np.float32]

#: Exponent between display values and linear light.
GAMMA = 2.2


def gaussian_noise(image: Pixels, sigma: float, rng: np.random.Generator) -> Pixels:
    """Add white Gaussian noise; ``image`` and ``sigma`` in units of 0 to 255. Not clipped."""
    return image + rng.standard_normal(image.shape, dtype=np.float32) * np.float32(sigma)


def sensor_noise(image: Pixels, shot: float, read: float, rng: np.random.Generator) -> Pixels:
    """Add a sensor's noise, of variance ``shot * signal + read ** 2`` on the linear signal in [0, 1].

    Source: Foi et al., "Practical Poissonian-Gaussian Noise Modeling and Fitting for Single-Image Raw-Data",
    IEEE TIP 2008, with the Gaussian approximation of the Poisson part.
    """
    linear = np.power(np.clip(image / 255.0, 0.0, 1.0), GAMMA)
    deviation = np.sqrt(shot * linear + read * read)
    noisy = linear + rng.standard_normal(image.shape, dtype=np.float32) * deviation
    return np.asarray(255.0 * np.power(np.clip(noisy, 0.0, 1.0), 1.0 / GAMMA), dtype=np.float32)


def jpeg(image: Image, quality: int) -> Image:
    """Encode and decode as JPEG, with the chroma subsampled as cameras do."""
    ok, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert ok
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)


def _dct(size: int) -> Pixels:
    """The orthonormal discrete cosine transform (type II) of a line of ``size`` values, as a matrix."""
    k, n = np.arange(size)[:, None], np.arange(size)[None, :]
    matrix = np.sqrt(2.0 / size) * np.cos(np.pi * (2 * n + 1) * k / (2 * size))
    matrix[0] /= np.sqrt(2.0)
    return np.asarray(matrix, dtype=np.float32)


def _quantize_blocks(plane: Pixels, size: int, step: float) -> Pixels:
    height, width = plane.shape
    dct = _dct(size)
    blocks = plane.reshape(height // size, size, width // size, size).transpose(0, 2, 1, 3)
    coefficients = dct @ blocks @ dct.T
    # A dead zone of a third of a step, as encoders have for blocks of one frame.
    levels = np.sign(coefficients) * np.floor(np.abs(coefficients) / step + 1.0 / 3.0)
    restored = dct.T @ (levels * step) @ dct
    return np.asarray(restored.transpose(0, 2, 1, 3).reshape(height, width), dtype=np.float32)


def video_blocks(image: Image, quantizer: int) -> Image:
    """What a video encoder does to a still: 4:2:0 chroma, and 4x4 blocks quantized in one step width.

    The step doubles with every 6 of ``quantizer`` as in H.264 (ITU-T H.264, 8.5.9), where 24 is a step of 10;
    neither prediction nor the deblocking filter is imitated.

    Args:
        image: ``[H, W, 3]`` uint8, sides multiples of 8.
        quantizer: 0 to 51.
    """
    step = 0.625 * 2.0 ** (quantizer / 6.0)
    ycc = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb).astype(np.float32)
    height, width = image.shape[:2]
    planes = [_quantize_blocks(ycc[:, :, 0], 4, step)]
    for index in (1, 2):
        half = cv2.resize(ycc[:, :, index], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        coded = _quantize_blocks(np.asarray(half, np.float32), 4, step)
        planes.append(
            np.asarray(cv2.resize(coded, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
        )
    return np.asarray(cv2.cvtColor(to_uint8(np.stack(planes, axis=2)), cv2.COLOR_YCrCb2RGB), dtype=np.uint8)


def to_uint8(image: Pixels) -> Image:
    """Round and clip to 8 bits."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def camera(image: Image, rng: np.random.Generator) -> Image:
    """What a camera makes of a clean crop ``[H, W, 3]``: blur, noise and compression, at unknown levels.

    Two thirds are white noise up to sigma 100 of 255, more often strong than weak, the rest signal-dependent noise
    of a sensor, or JPEG of quality 10 and up or a video encoder's blocks, with little noise; one in 25 is slightly
    blurred first.
    """
    pixels = image.astype(np.float32)
    if rng.random() < 0.04:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.3, 1.0)), dtype=np.float32)
    kind = rng.random()
    if kind < 0.65:
        return to_uint8(gaussian_noise(pixels, 100 * rng.random() ** 0.7, rng))
    if kind < 0.8:
        noisy = sensor_noise(pixels, 10 ** rng.uniform(-4, -1.2), 10 ** rng.uniform(-3.5, -1.5), rng)
        result = to_uint8(noisy)
        return jpeg(result, int(rng.integers(50, 98))) if rng.random() < 0.3 else result
    if rng.random() < 0.3:
        pixels = gaussian_noise(pixels, rng.uniform(0, 15), rng)
    if kind < 0.84:
        return video_blocks(to_uint8(pixels), int(rng.integers(20, 40)))
    return jpeg(to_uint8(pixels), int(10 + 86 * rng.random() ** 2))


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
