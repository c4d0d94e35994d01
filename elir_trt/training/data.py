"""Training images: a folder of photos, procedural images, random crops of both."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from elir_trt.errors import MediaError

Image = npt.NDArray[np.uint8]
Pixels = npt.NDArray[np.float32]
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
#: Photos are shown at scales from here to 1: smaller ones have more detail per pixel.
SMALLEST_SCALE = 0.4
#: Of so many places at most, a crop is where there is the most detail.
PLACES = 3


def load_photos(folder: Path, smallest: int) -> list[Image]:
    """Read the photos under ``folder`` as RGB ``[H, W, 3]`` uint8, but for those with a side under ``smallest``.

    Raises:
        MediaError: the folder has no readable photo with sides of at least ``smallest`` pixels.
    """
    images: list[Image] = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in SUFFIXES:
            continue
        bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if bgr is None:
            raise MediaError(f"{path}: not a readable image")
        if min(bgr.shape[:2]) >= smallest:
            images.append(np.ascontiguousarray(bgr[:, :, ::-1], dtype=np.uint8))
    if not images:
        raise MediaError(
            f"{folder}: no photo with sides of at least {smallest} pixels ({', '.join(SUFFIXES)})"
        )
    return images


def detail(image: Image) -> float:
    """Mean difference of neighbouring pixels of every second row and column, in green: how much there is to see."""
    green = image[::2, ::2, 1].astype(np.int16)
    return float(np.abs(np.diff(green, axis=0)).mean() + np.abs(np.diff(green, axis=1)).mean())


def recolour(image: Image, rng: np.random.Generator) -> Image:
    """Other colours, contrast and sharpness: a photo is many photos to a network that must not know it by heart."""
    if rng.random() < 0.5:
        image = image[:, :, rng.permutation(3)]
    if rng.random() < 0.3:
        gain = rng.uniform(0.7, 1.4, 3) if rng.random() < 0.5 else np.full(3, rng.uniform(0.6, 1.6))
        pixels, middle = image.astype(np.float32), image.mean() if rng.random() < 0.5 else 0.0
        image = np.clip(middle + (pixels - middle) * gain, 0, 255).astype(np.uint8)
    if rng.random() < 0.35:
        # As cameras and photographers sharpen.
        pixels = image.astype(np.float32)
        blurred = cv2.GaussianBlur(pixels, (0, 0), float(rng.uniform(0.6, 1.2)))
        image = np.clip(pixels + rng.uniform(0.3, 1.2) * (pixels - blurred), 0, 255).astype(np.uint8)
    return image


class Crops:
    """Random square crops of photos and procedural images, flipped and turned.

    Photos are scaled, recoloured and sharpened at random, and detailed places are preferred: a few dozen photos are
    soon known by heart, and smooth ones are easy.
    """

    def __init__(
        self,
        photos: list[Image],
        procedural: list[Image],
        share: float,
        seed: int,
        *,
        varied: bool = True,
    ) -> None:
        """``share`` of the crops come from ``procedural``, the others from ``photos`` by their areas.

        ``varied=False`` takes photos as they are, to measure with.
        """
        self.photos, self.procedural = photos, procedural
        self.share = share if photos else 1.0
        self.varied = varied
        areas = np.array([image.shape[0] * image.shape[1] for image in photos], dtype=np.float64)
        self.weights = areas / areas.sum() if photos else areas
        self.seed = seed
        self.rng = np.random.default_rng(seed)

    def reseed(self, step: int) -> None:
        """Let the crops from here on depend on the seed and ``step`` alone."""
        self.rng = np.random.default_rng([self.seed, step])

    def batch(self, count: int, size: int) -> Image:
        """``[count, size, size, 3]`` uint8."""
        result = np.empty((count, size, size, 3), dtype=np.uint8)
        for index in range(count):
            if self.procedural and self.rng.random() < self.share:
                crop = self._place(self.procedural[int(self.rng.integers(len(self.procedural)))], size)
            elif self.varied:
                crop = self._varied(size)
            else:
                crop = self._place(self._photo(), size)
            crop = np.rot90(crop, int(self.rng.integers(4)))
            result[index] = crop[:, ::-1] if self.rng.random() < 0.5 else crop
        return result

    def _photo(self) -> Image:
        return self.photos[int(self.rng.choice(len(self.photos), p=self.weights))]

    def _place(self, image: Image, size: int) -> Image:
        y = int(self.rng.integers(image.shape[0] - size + 1))
        x = int(self.rng.integers(image.shape[1] - size + 1))
        return image[y : y + size, x : x + size]

    def _varied(self, size: int) -> Image:
        places = []
        for _ in range(int(self.rng.integers(1, PLACES + 1))):
            photo = self._photo()
            scale = self.rng.uniform(SMALLEST_SCALE, 1.0) if self.rng.random() < 0.7 else 1.0
            places.append(self._place(photo, min(round(size / scale), *photo.shape[:2])))
        crop = max(places, key=detail)
        if len(crop) != size:
            crop = np.asarray(cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA), dtype=np.uint8)
        return recolour(crop, self.rng)
