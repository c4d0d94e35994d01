"""A demonstration on real photos that needs no download: noisy and restored, side by side.

The photos ship inside scikit-image. They are panned into a short clip, given the noise of a camera, and
restored as a stream.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from elir_trt.errors import ElirError, MediaError, MissingPackageError
from elir_trt.io.compare import side_by_side
from elir_trt.io.images import read_image, write_image
from elir_trt.io.progress import ProgressCallback
from elir_trt.io.pumping import SupportsStream, pump
from elir_trt.io.sink import Sink
from elir_trt.io.source import Frame, Source
from elir_trt.io.video import VideoSink

if TYPE_CHECKING:
    from elir_trt.stream import Result

PHOTOS = ("astronaut.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")
RATE = 24
SIDE = 384
"""Height and width of the clip, in pixels; no photo is smaller."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class DemoReport:
    """What the demonstration did.

    Attributes:
        video: noisy on the left, restored on the right.
        image: the same for one frame of each photo.
        frames: how many were restored.
        psnr_before, psnr_after: dB against the clean frames, from the mean squared error over the clip.
        fps: restored frames per second, writing the video included.
    """

    video: Path
    image: Path
    frames: int
    psnr_before: float
    psnr_after: float
    fps: float

    def __str__(self) -> str:
        return (
            f"PSNR {self.psnr_before:.2f} dB before, {self.psnr_after:.2f} dB after; {self.frames} frames at "
            f"{self.fps:.1f} fps\n{self.video}\n{self.image}"
        )


def run_demo(
    restorer: SupportsStream,
    out_dir: str | os.PathLike[str],
    *,
    seconds: float = 4.0,
    sigma: float = 20.0,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> DemoReport:
    """Restore a noisy clip; write ``demo.mp4`` and ``before_after.png``.

    Args:
        restorer: from :func:`elir_trt.open`; one that keeps the size of its frames.
        out_dir: where to write; it is made if need be, and the two files in it are replaced.
        seconds: length of the clip, at 24 frames per second.
        sigma: standard deviation of the noise at middle grey, in 8-bit levels.
        seed: of the noise that is added, and of the restorer's.
        progress: called after each frame.

    Raises:
        MissingPackageError: scikit-image is not installed; the message says how to install it.
        MediaError: the folder cannot be written.
    """
    if not seconds > 0 or not math.isfinite(seconds):
        raise ValueError(f"seconds is {seconds}; expected more than 0")
    if not sigma >= 0 or not math.isfinite(sigma):
        raise ValueError(f"sigma is {sigma}; expected 0 or more")
    photos = load_photos()
    folder = Path(out_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(f"{folder}: cannot be made: {error.strerror or error}") from None
    source = DemoSource(photos, max(1, round(seconds * RATE)), sigma, np.random.default_rng(seed))
    sink = DemoSink(folder, source.frames, len(photos))
    done = pump(source, restorer, sink, seed=seed, progress=progress)
    before, after = (_psnr(error / done.frames) for error in sink.squared_errors)
    return DemoReport(sink.video.path, sink.image, done.frames, before, after, done.fps)


@dataclass(frozen=True, kw_only=True)
class DemoFrame(Frame):
    """A noisy frame, and what it was made of: ``[H, W, 3]`` uint8 both."""

    clean: Pixels


class DemoSource(Source):
    """The clip: views of photos with the noise of a camera."""

    size = (SIDE, SIDE)

    def __init__(self, photos: list[Pixels], frames: int, sigma: float, rng: np.random.Generator) -> None:
        """Args: see :func:`pan` and :func:`add_camera_noise`."""
        self.frames: int = frames
        self._photos = photos
        self._sigma = sigma
        self._rng = rng

    def __iter__(self) -> Iterator[DemoFrame]:
        for clean in pan(self._photos, self.frames):
            yield DemoFrame(add_camera_noise(clean, self._sigma, self._rng), clean=clean)


class DemoSink(Sink):
    """Writes the clip and a picture of it, and measures.

    Attributes:
        video: the sink for the clip, before and after side by side.
        image: one frame of each photo, the same way; written at the end.
        squared_errors: against the clean frames, noisy and restored, summed over frames.
    """

    finish_on_interrupt = True

    def __init__(self, folder: Path, frames: int, photos: int) -> None:
        """Args: folder: to write to; frames, photos: how many there are."""
        self.video = VideoSink(folder / "demo.mp4", rate=Fraction(RATE), compare=True, overwrite=True)
        self.image = folder / "before_after.png"
        self.squared_errors = (0.0, 0.0)
        self._pairs: list[Pixels] = []
        # The middle of each photo's part of the clip.
        self._shown = {(2 * n + 1) * frames // (2 * photos) for n in range(photos)}

    def write(self, result: Result, frame: Frame) -> None:
        """Take a restored :class:`DemoFrame`.

        Raises:
            ElirError: it has another size.
        """
        assert isinstance(frame, DemoFrame)
        noisy, restored = frame.pixels, result.frame
        if restored.shape != noisy.shape:
            raise ElirError(
                f"the demonstration needs a restorer that keeps the size of its frames; this one makes "
                f"{restored.shape[1]}x{restored.shape[0]} of {SIDE}x{SIDE}"
            )
        before, after = self.squared_errors
        self.squared_errors = (
            before + _squared_error(noisy, frame.clean),
            after + _squared_error(restored, frame.clean),
        )
        if result.index in self._shown:
            self._pairs.append(side_by_side(noisy, restored))
        self.video.write(result, frame)

    def close(self, *, complete: bool = True) -> None:
        """Finish the clip; the picture is only of a whole one."""
        self.video.close(complete=complete)
        if complete:
            write_image(self.image, np.vstack(self._pairs))

    def abort(self) -> None:
        """Leave neither."""
        self.video.abort()


def load_photos() -> list[Pixels]:
    """The photos, ``[H, W, 3]`` uint8, from the installed scikit-image; it is not imported.

    Raises:
        MissingPackageError: it is not installed.
        ElirError: its photos are not in it.
    """
    found = importlib.util.find_spec("skimage")
    if found is None or not found.submodule_search_locations:
        raise MissingPackageError(
            "the demonstration uses photos that ship with scikit-image, which is not installed: "
            "pip install 'elir_trt[demo]'",
            name="skimage",
        )
    folder = Path(next(iter(found.submodule_search_locations))) / "data"
    missing = [name for name in PHOTOS if not (folder / name).is_file()]
    if missing:
        raise ElirError(
            f"{folder}: {', '.join(missing)} should be here and is not; "
            "pip install --force-reinstall scikit-image"
        )
    return [read_image(folder / name).rgb for name in PHOTOS]


def pan(photos: list[Pixels], frames: int) -> Iterator[Pixels]:
    """Cut ``frames`` views of the photos, one photo after the other, each moving across it."""
    for n in range(frames):
        index = n * len(photos) // frames
        first = -(-index * frames // len(photos))
        count = -(-(index + 1) * frames // len(photos)) - first
        along = (n - first) / max(1, count - 1)
        photo = photos[index]
        y = round(along * (photo.shape[0] - SIDE))
        x = round(along * (photo.shape[1] - SIDE))
        yield photo[y : y + SIDE, x : x + SIDE]


def add_camera_noise(clean: Pixels, sigma: float, rng: np.random.Generator) -> Pixels:
    """Add the noise of a sensor: of the light itself, which grows with it, and of the electronics.

    The variance is ``shot * signal + read ** 2`` on the linear signal (Foi et al., "Practical
    Poissonian-Gaussian Noise Modeling and Fitting for Single-Image Raw-Data", IEEE TIP 2008), 95 % of it
    shot noise at middle grey. The result is clipped and rounded to 8 bits, as a camera does.

    Args:
        clean: ``[H, W, 3]`` uint8, sRGB.
        sigma: standard deviation at middle grey (128), in 8-bit sRGB levels.
        rng: where the noise comes from.
    """
    grey = float(_to_linear(np.asarray(128 / 255)))
    slope = float(_to_linear(np.asarray(129 / 255)) - _to_linear(np.asarray(127 / 255))) / 2
    variance = (sigma * slope) ** 2
    linear = _to_linear(clean / 255.0)
    deviation = np.sqrt(variance * (0.95 * linear / grey + 0.05))
    noisy = linear + deviation * rng.standard_normal(clean.shape)
    return np.rint(_to_srgb(np.clip(noisy, 0.0, 1.0)) * 255).astype(np.uint8)


def _to_linear(srgb: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """IEC 61966-2-1."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _to_srgb(linear: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def _squared_error(frame: Pixels, clean: Pixels) -> float:
    return float(np.mean((frame.astype(np.float32) - clean) ** 2))


def _psnr(squared_error: float) -> float:
    return math.inf if squared_error == 0 else 10 * math.log10(255**2 / squared_error)
