"""A camera from light to picture: mosaic, noise, demosaicing, white balance, tone curve, sharpening.

The order is that of Brooks et al., "Unprocessing Images for Learned Raw Denoising", CVPR 2019: a picture is taken
back to linear light, noise is added where the sensor has it, and the way to a picture is gone again. Noise of one
photosite is then spread over its neighbours and mixed between colours, as in real frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from elir_trt.degradations.compression import jpeg
from elir_trt.degradations.noise import Image, Pixels, sensor_noise, to_uint8

Pattern = Literal["RGGB", "GRBG", "GBRG", "BGGR", "quad", "xtrans"]
Demosaicing = Literal["bilinear", "edge-aware", "vng", "malvar", "average"]

#: Exponent between display values and linear light.
GAMMA = 2.2
#: Colour (0 red, 1 green, 2 blue) of each photosite of a mosaic's period.
_MOSAICS: dict[str, npt.NDArray[np.int64]] = {
    "RGGB": np.array([[0, 1], [1, 2]]),
    "GRBG": np.array([[1, 0], [2, 1]]),
    "GBRG": np.array([[1, 2], [0, 1]]),
    "BGGR": np.array([[2, 1], [1, 0]]),
    "quad": np.array([[0, 1], [1, 2]]).repeat(2, axis=0).repeat(2, axis=1),
    "xtrans": np.array(
        [
            [1, 2, 1, 1, 0, 1],
            [0, 1, 0, 2, 1, 2],
            [1, 2, 1, 1, 0, 1],
            [1, 0, 1, 1, 2, 1],
            [2, 1, 2, 0, 1, 0],
            [1, 0, 1, 1, 2, 1],
        ]
    ),
}
BAYER: tuple[Pattern, ...] = ("RGGB", "GRBG", "GBRG", "BGGR")
#: OpenCV names a pattern by its second row's second and third photosites.
_OPENCV = {"RGGB": "BayerBG", "GRBG": "BayerGB", "GBRG": "BayerGR", "BGGR": "BayerRG"}
#: Taps of Malvar, He, Cutler, "High-Quality Linear Interpolation for Demosaicing of Bayer-Patterned Color Images",
#: ICASSP 2004, in eighths: green at red or blue; red at green in its own row; red at blue.
_GREEN = (
    np.array([[0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]]) / 8
)
_IN_ROW = (
    np.array([[0, 0, 0.5, 0, 0], [0, -1, 0, -1, 0], [-1, 4, 5, 4, -1], [0, -1, 0, -1, 0], [0, 0, 0.5, 0, 0]])
    / 8
)
_ACROSS = (
    np.array(
        [[0, 0, -1.5, 0, 0], [0, 2, 0, 2, 0], [-1.5, 0, 6, 0, -1.5], [0, 2, 0, 2, 0], [0, 0, -1.5, 0, 0]]
    )
    / 8
)


@dataclass(frozen=True)
class Sensor:
    """What a camera is and does.

    Attributes:
        shot, read: noise in linear light, see :func:`~elir_trt.degradations.noise.sensor_noise`.
        pattern: the mosaic, by its first row and second row, "quad" (each colour 2x2 times) or "xtrans" (6x6).
        demosaicing: OpenCV's "bilinear", "edge-aware" and "vng", and "malvar", for the patterns of 2x2; "average",
            the weighted mean of the neighbours of each colour and then of the differences to green, for all.
        gains: white balance, what red, green and blue are multiplied with after the sensor.
        gamma: exponent of the tone curve.
        contrast: share of a smooth S in the tone curve, 0 to 1.
        sharpening: of the noise, as of all that is fine, by an unsharp mask of this strength.
    """

    shot: float
    read: float
    pattern: Pattern = "RGGB"
    demosaicing: Demosaicing = "malvar"
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = GAMMA
    contrast: float = 0.0
    sharpening: float = 0.0


@dataclass(frozen=True)
class CameraLevel:
    """A camera to measure with: shot noise on an RGGB mosaic and, perhaps, JPEG."""

    shot: float
    quality: int | None = None


#: What figures are given for, by the name that tables have.
CAMERA_LEVELS = {"camera a=.01": CameraLevel(0.01), "camera a=.03 q90": CameraLevel(0.03, 90)}
#: Read noise of the levels.
LEVEL_READ = 0.002


def colours(pattern: Pattern, height: int, width: int) -> npt.NDArray[np.int64]:
    """Which colour each photosite sees: ``[height, width]``, 0 red, 1 green, 2 blue."""
    tile = _MOSAICS[pattern]
    rows, columns = -(-height // tile.shape[0]), -(-width // tile.shape[1])
    return np.tile(tile, (rows, columns))[:height, :width]


def demosaic(mosaic: Pixels, pattern: Pattern, method: Demosaicing) -> Pixels:
    """Linear light ``[H, W]`` in [0, 1] behind a mosaic to ``[H, W, 3]``.

    Raises:
        ValueError: the method is for patterns of 2x2 and the pattern is none.
    """
    if method != "average" and pattern not in _OPENCV:
        raise ValueError(
            f"demosaicing is {method!r}, which is for {', '.join(BAYER)}; for {pattern!r} use 'average'"
        )
    seen = colours(pattern, *mosaic.shape)
    if method == "average":
        return _average(mosaic, seen)
    if method == "malvar":
        return _malvar(mosaic, seen)
    suffix = {"bilinear": "", "edge-aware": "_EA", "vng": "_VNG"}[method]
    code = getattr(cv2, f"COLOR_{_OPENCV[pattern]}2RGB{suffix}")
    if method == "vng":
        # OpenCV's takes 8 bits alone: of the square root, which has as much room for the dark as cameras' curves.
        coded = np.rint(255.0 * np.sqrt(np.clip(mosaic, 0, 1))).astype(np.uint8)
        return np.asarray(np.square(np.asarray(cv2.demosaicing(coded, code), np.float32) / 255.0), np.float32)
    coded = np.rint(65535.0 * np.clip(mosaic, 0, 1)).astype(np.uint16)
    return np.asarray(cv2.demosaicing(coded, code), np.float32) / np.float32(65535.0)


def _filter(plane: Pixels, kernel: npt.NDArray[np.float64]) -> Pixels:
    return np.asarray(cv2.filter2D(plane, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT_101), np.float32)


def _malvar(mosaic: Pixels, seen: npt.NDArray[np.int64]) -> Pixels:
    across, green = _filter(mosaic, _ACROSS), _filter(mosaic, _GREEN)
    in_row, in_column = _filter(mosaic, _IN_ROW), _filter(mosaic, _IN_ROW.T)
    # Rows with red have greens whose red neighbours are left and right.
    red_rows = (seen == 0).any(axis=1)[:, None]
    result = np.empty((*mosaic.shape, 3), np.float32)
    result[..., 1] = np.where(seen == 1, mosaic, green)
    for colour, rows in ((0, red_rows), (2, ~red_rows)):
        at_green = np.where(rows, in_row, in_column)
        result[..., colour] = np.where(seen == colour, mosaic, np.where(seen == 1, at_green, across))
    return np.clip(result, 0.0, 1.0)


def _average(mosaic: Pixels, seen: npt.NDArray[np.int64]) -> Pixels:
    def spread(values: Pixels, mask: Pixels) -> Pixels:
        size, sigma = (7, 7), 1.2
        weights = cv2.GaussianBlur(mask, size, sigma, borderType=cv2.BORDER_REFLECT_101)
        total = cv2.GaussianBlur(values * mask, size, sigma, borderType=cv2.BORDER_REFLECT_101)
        return np.asarray(np.where(mask > 0, values, total / np.maximum(weights, 1e-6)), np.float32)

    masks = [(seen == colour).astype(np.float32) for colour in range(3)]
    green = spread(mosaic, masks[1])
    planes = [green + spread(mosaic - green, masks[0]), green, green + spread(mosaic - green, masks[2])]
    return np.asarray(np.clip(np.stack(planes, axis=2), 0.0, 1.0), np.float32)


def _curve(sensor: Sensor) -> tuple[Pixels, Pixels]:
    """The tone curve as display values of evenly spread roots of linear light, and those roots."""
    # Roots, since the curve is steep at black.
    roots = np.linspace(0.0, 1.0, 1024, dtype=np.float32)
    display = np.power(roots, 2.0 / sensor.gamma)
    smooth = display * display * (3.0 - 2.0 * display)
    return np.asarray((1 - sensor.contrast) * display + sensor.contrast * smooth, np.float32), roots


def photograph(image: Image, sensor: Sensor, rng: np.random.Generator) -> Image:
    """What a camera makes of a scene whose perfect picture is ``image`` ``[H, W, 3]`` RGB."""
    display, roots = _curve(sensor)
    scene = np.square(np.interp(np.arange(256) / 255.0, display, roots)).astype(np.float32)[image]
    gains = np.asarray(sensor.gains, np.float32)
    seen = colours(sensor.pattern, *image.shape[:2])
    raw = np.take_along_axis(scene / gains, seen[..., None], axis=2)[..., 0]
    noisy = sensor_noise(np.asarray(raw, np.float32), sensor.shot, sensor.read, rng)
    balanced = np.asarray(np.clip(noisy, 0.0, 1.0) * gains[seen], np.float32)
    linear = demosaic(np.minimum(balanced, 1.0), sensor.pattern, sensor.demosaicing)
    table = np.interp(np.sqrt(np.linspace(0, 1, 4096)), roots, display).astype(np.float32)
    picture = 255.0 * table[np.rint(4095.0 * linear).astype(np.int32)]
    if sensor.sharpening:
        # Of the noise alone: the picture that is aimed at is as sharp as the photographer wanted it.
        noise = picture - image
        blurred = np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.0), np.float32)
        picture = picture + np.float32(sensor.sharpening) * (noise - blurred)
    return to_uint8(np.asarray(picture, np.float32))


def camera_level(image: Image, level: CameraLevel, rng: np.random.Generator) -> Image:
    """A photo ``[H, W, 3]`` RGB as the camera of a level takes it."""
    taken = photograph(image, Sensor(level.shot, LEVEL_READ, demosaicing="vng"), rng)
    return taken if level.quality is None else jpeg(taken, level.quality)


def random_sensor(rng: np.random.Generator) -> Sensor:
    """A camera, from one by day to a small one by night."""
    pattern: Pattern = BAYER[int(rng.integers(4))]
    draw = rng.random()
    if draw < 0.05:
        pattern = "quad"
    elif draw < 0.1:
        pattern = "xtrans"
    methods: tuple[Demosaicing, ...] = ("bilinear", "edge-aware", "vng", "malvar", "average")
    chances = (0.2, 0.2, 0.1, 0.4, 0.1)
    method = methods[int(rng.choice(len(methods), p=chances))] if pattern in BAYER else "average"
    shot = 10.0 ** rng.uniform(-4.0, -1.2)
    balanced = rng.random() < 0.6
    return Sensor(
        shot=shot,
        # Reading weighs most where there is least light.
        read=float(np.sqrt(shot) * 10.0 ** rng.uniform(-2.5, -0.7)),
        pattern=pattern,
        demosaicing=method,
        gains=(rng.uniform(1.2, 2.4), 1.0, rng.uniform(1.2, 2.2)) if balanced else (1.0, 1.0, 1.0),
        gamma=rng.uniform(2.0, 2.4),
        contrast=rng.uniform(0.0, 0.5) if rng.random() < 0.4 else 0.0,
        sharpening=rng.uniform(0.2, 1.2) if rng.random() < 0.35 else 0.0,
    )
