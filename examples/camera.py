"""Restore a live camera in a window: ``python examples/camera.py [number]``; q ends it.

Needs OpenCV with windows (``pip install opencv-python``). A new place for frames to come from or to go to is one
class: here are one of each.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import cv2

import elir_trt
from elir_trt.io import Frame, Sink, Source, pump


class Camera(Source):
    """What OpenCV reads from a camera."""

    pixel_format = "bgr24"
    live = True  # When frames come faster than they are restored, the oldest is given up: no picture is late.

    def __init__(self, number: int) -> None:
        self.capture = cv2.VideoCapture(number)
        if not self.capture.isOpened():
            sys.exit(f"camera {number} does not open")

    def __iter__(self) -> Iterator[Frame]:
        while True:
            ok, pixels = self.capture.read()
            if not ok:
                return
            yield Frame(pixels, time.monotonic())

    def close(self) -> None:
        self.capture.release()


class Window(Sink):
    """A window that q closes."""

    pixel_format = "bgr24"

    def __init__(self, title: str) -> None:
        self.title = title

    def write(self, result: elir_trt.Result, frame: Frame) -> None:
        cv2.imshow(self.title, result.frame)
        self.done = cv2.waitKey(1) == ord("q")


def main(number: int) -> None:
    with elir_trt.open("camera") as restorer, Camera(number) as camera:
        print(pump(camera, restorer, Window(f"{restorer.recipe.title} (q ends)"), depth=2))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
