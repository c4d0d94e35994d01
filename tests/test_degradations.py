"""Degradations: statistics of the noise, mosaics, real encoders, shares, determinism."""

from __future__ import annotations

from typing import get_args

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from elir_trt.degradations import (
    CAMERA_LEVELS,
    TASKS,
    Sensor,
    camera_level,
    degradation,
    gaussian_noise,
    jpeg,
    photograph,
    sensor_noise,
    video,
)
from elir_trt.degradations.compression import Codec
from elir_trt.degradations.sensor import BAYER, Demosaicing, Pattern, colours, demosaic
from elir_trt.errors import RecipeError
from elir_trt.metrics import psnr

Image = npt.NDArray[np.uint8]


def picture(size: int = 96) -> Image:
    """Smooth colours with shapes of sharp edges."""
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size
    image = np.stack([255 * rows, 255 * columns, 255 * (1 - rows)], axis=2).astype(np.uint8)
    cv2.circle(image, (size // 3, size // 2), size // 5, (220, 40, 30), -1)
    cv2.rectangle(image, (size // 2, size // 4), (size - 8, size // 2), (30, 60, 200), -1)
    return image


def correlation(noise: npt.NDArray[np.float64]) -> float:
    """Of horizontal neighbours."""
    noise = noise - noise.mean()
    return float((noise[:, 1:] * noise[:, :-1]).mean() / (noise * noise).mean())


@pytest.mark.parametrize("task", sorted(TASKS))
def test_degradations_keep_shape_and_depend_on_the_generator_alone(task: str) -> None:
    image, changed = picture(64), 0
    for seed in range(8):
        results = [degradation(task)(image, np.random.default_rng(seed)) for _ in range(2)]
        assert results[0].shape == image.shape and results[0].dtype == np.uint8
        assert np.array_equal(*results)
        changed += not np.array_equal(results[0], image)
    assert changed >= 4


def test_unknown_task_is_refused() -> None:
    with pytest.raises(RecipeError, match="denoising"):
        degradation("nothing")


@pytest.mark.parametrize("light", [0.02, 0.2, 0.8])
def test_a_sensors_noise_has_the_variance_of_its_light(light: float) -> None:
    linear = np.full((200, 200), light, np.float32)
    noisy = sensor_noise(linear, 0.01, 0.02, np.random.default_rng(0))
    assert noisy.mean() == pytest.approx(light, abs=2e-3)
    assert noisy.var() == pytest.approx(0.01 * light + 0.02**2, rel=0.05)


def test_patterns_see_each_colour_as_often_as_they_should() -> None:
    for pattern in get_args(Pattern):
        seen = colours(pattern, 12, 12)
        green = 80 / 144 if pattern == "xtrans" else 0.5
        assert float((seen == 1).mean()) == pytest.approx(green)
        assert (seen == 0).sum() == (seen == 2).sum()
    assert [[colours(p, 2, 2)[y, x] for y in (0, 1) for x in (0, 1)] for p in BAYER] == [
        [["RGB".index(c) for c in p][i] for i in range(4)] for p in BAYER
    ]


CAMERAS = [(p, m) for p in get_args(Pattern) for m in get_args(Demosaicing) if m == "average" or p in BAYER]


@pytest.mark.parametrize(("pattern", "method"), CAMERAS)
def test_without_noise_a_camera_shows_the_scene(pattern: Pattern, method: Demosaicing) -> None:
    sensor = Sensor(1e-9, 0.0, pattern, method, gains=(2.0, 1.0, 1.5), gamma=2.3, contrast=0.4)
    flat = np.empty((32, 32, 3), np.uint8)
    flat[:] = (200, 100, 50)
    taken = photograph(flat, sensor, np.random.default_rng(0))
    assert int(np.abs(taken.astype(int) - flat).max()) <= 2
    # A wrong phase would swap colours.
    assert psnr(picture(), photograph(picture(), sensor, np.random.default_rng(0))) > 22


def test_a_method_of_two_by_two_does_not_take_other_mosaics() -> None:
    with pytest.raises(ValueError, match="average"):
        demosaic(np.zeros((12, 12), np.float32), "xtrans", "malvar")


@pytest.mark.parametrize("method", get_args(Demosaicing))
def test_demosaicing_spreads_noise_over_neighbours_and_colours(method: Demosaicing) -> None:
    flat = np.full((128, 128, 3), 128, np.uint8)
    white = gaussian_noise(flat.astype(np.float32), 10.0, np.random.default_rng(0)).astype(np.float64)
    noise = (
        photograph(flat, Sensor(0.005, 0.002, "RGGB", method), np.random.default_rng(0)).astype(float) - 128
    )
    assert abs(correlation(white[..., 0])) < 0.03
    assert correlation(noise[..., 0]) > 0.2
    between = np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]
    assert abs(np.corrcoef(white[..., 0].ravel(), white[..., 1].ravel())[0, 1]) < 0.03
    # OpenCV interpolates each colour by itself in these two.
    assert method in ("bilinear", "edge-aware") or between > 0.1


def test_sharpening_strengthens_the_noise_and_keeps_the_scene() -> None:
    flat = np.full((64, 64, 3), 128, np.uint8)
    soft, sharp = (
        photograph(flat, Sensor(0.01, 0.002, sharpening=strength), np.random.default_rng(0)).astype(float)
        for strength in (0.0, 1.0)
    )
    assert sharp.std() > 1.2 * soft.std()
    assert sharp.mean() == pytest.approx(soft.mean(), abs=1.0)


def test_levels_to_measure_with_grow() -> None:
    found = [
        psnr(picture(), camera_level(picture(), level, np.random.default_rng(0)))
        for level in CAMERA_LEVELS.values()
    ]
    assert 28 > found[0] > found[1] > 17


def test_jpeg_keeps_colours_apart_where_the_chroma_is_whole() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2], stripes[:, 1::2] = (255, 0, 0), (0, 0, 255)
    assert psnr(stripes, jpeg(stripes, 95, "4:4:4")) > 25 > 20 > psnr(stripes, jpeg(stripes, 95))
    red = np.full((32, 32, 3), (250, 10, 20), np.uint8)
    assert int(np.abs(jpeg(red, 95).astype(int) - red).max()) <= 4


@pytest.mark.parametrize("codec", get_args(Codec))
def test_real_encoders_return_the_frame_in_its_place(codec: Codec) -> None:
    image = picture()
    rates = [psnr(image, video(image, crf, np.random.default_rng(0), codec=codec)) for crf in (12, 28, 44)]
    assert rates[0] > 28 and rates[0] > rates[1] > rates[2] > 18
    fast = video(image, 12, np.random.default_rng(0), codec=codec, speed=3.5, frames=3)
    assert psnr(image, fast) > 27  # moved by a pixel it would be far less
    assert psnr(image, np.roll(fast, 1, axis=1)) < 26
    noisy = [video(image, 20, np.random.default_rng(1), codec=codec, sigma=20.0) for _ in range(2)]
    assert np.array_equal(*noisy) and psnr(image, noisy[0]) < rates[1]


def test_more_than_a_quarter_of_camera_crops_is_nearly_clean() -> None:
    image = picture(64)[..., :1].repeat(3, axis=2)  # grey: halved chroma costs it nothing
    found = [psnr(image, degradation("camera")(image, np.random.default_rng(seed))) for seed in range(400)]
    assert 0.25 < float(np.mean(np.array(found) > 28)) < 0.65
    assert 0.02 < float(np.mean(np.isinf(found))) < 0.08
    assert float(np.mean(np.array(found) < 20)) > 0.2
