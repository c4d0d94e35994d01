"""A camera that every machine has: a moving pattern with noise."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from elir_trt.io.source import Source
from elir_trt.live.frame import LiveFrame

# Fields of noise that take turns.
_FIELDS = 8


class TestPattern(Source):
    """Bars of colour over a slanted ramp, a disc that moves, and noise as of a camera in the dark.

    Frames come at their rate; when nobody asks in time, those that were missed are left out.
    """

    __test__ = False  # pytest takes it for a test otherwise
    live = True

    def __init__(
        self,
        size: tuple[int, int] = (360, 640),
        rate: float = 30.0,
        *,
        sigma: float = 12.0,
        frames: int | None = None,
        seed: int = 0,
    ) -> None:
        """Draw what does not move.

        Args:
            size: height and width, 16 or more each.
            rate: frames per second.
            sigma: of the noise, in levels of 8 bits.
            frames: how many; None: for ever.
            seed: of the noise.

        Raises:
            ValueError: a number is out of its range.
        """
        height, width = size
        if min(size) < 16 or not 0.0 < rate <= 1000.0 or sigma < 0.0:
            raise ValueError(
                f"pattern is {width}x{height} at {rate:g} frames/s, sigma {sigma:g}; expected 16x16 or more, "
                "more than 0 and up to 1000 frames/s, and sigma 0 or more"
            )
        self.size = size
        self.frames = frames
        self._period_s = 1.0 / rate
        self._stop = threading.Event()
        self._still = _bars(height, width)
        generator = np.random.default_rng(seed)
        self._noise = [
            np.round(generator.normal(0.0, sigma, (height, width, 1))).astype(np.int16)
            for _ in range(_FIELDS)
        ]
        self._radius = max(2, min(size) // 8)
        y, x = np.mgrid[-self._radius : self._radius, -self._radius : self._radius]
        self._disc = (x * x + y * y < self._radius**2)[:, :, None]

    def __iter__(self) -> Iterator[LiveFrame]:
        """Give frames at their times."""
        start_s = time.monotonic()
        number = 0
        while self.frames is None or number < self.frames:
            due_s = start_s + number * self._period_s
            if self._stop.wait(max(0.0, due_s - time.monotonic())):
                return
            pixels = self.draw(number)
            yield LiveFrame(pixels, number * self._period_s, "test", captured_s=time.monotonic())
            number = max(number + 1, int((time.monotonic() - start_s) / self._period_s))

    def draw(self, number: int) -> npt.NDArray[np.uint8]:
        """The frame of a number, ``[H, W, 3]`` uint8, RGB."""
        pixels = self._still.copy()
        height, width = self._still.shape[:2]
        side = 2 * self._radius
        left = int((width - side) * (0.5 + 0.5 * np.sin(number / 30.0)))
        top = int((height - side) * (0.5 + 0.5 * np.cos(number / 23.0)))
        patch = pixels[top : top + side, left : left + side]
        np.copyto(patch, np.int16(250), where=self._disc)
        pixels += self._noise[number % _FIELDS]
        return np.clip(pixels, 0, 255).astype(np.uint8)

    def stop(self) -> None:
        """End the iteration."""
        self._stop.set()


def _bars(height: int, width: int) -> npt.NDArray[np.int16]:
    """Eight bars (white, yellow, cyan, green, magenta, red, blue, black) above a slanted grey ramp, with a fine
    grid."""
    pixels = np.empty((height, width, 3), np.int16)
    bar = (np.arange(width) * 8 // width).astype(np.int16)
    for channel, bit in enumerate((2, 4, 1)):
        pixels[:, :, channel] = np.where(bar & bit, 40, 190)
    y, x = np.mgrid[0:height, 0:width]
    ramp = ((x + y) * 255 // (height + width)).astype(np.int16)
    lower = height * 2 // 3
    pixels[lower:] = ramp[lower:, :, None]
    grid = ((x % 16 == 0) | (y % 16 == 0)) & (y >= height // 3) & (y < lower)
    pixels[grid] = 110
    return pixels
