"""A film as a camera: its frames at their times."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

from elir_trt.io.reader import VideoReader
from elir_trt.io.source import Source
from elir_trt.live.frame import LiveFrame


class Playback(Source):
    """The frames of a video file at the times that it gives them, once or for ever. Frames that are missed are not
    made up for."""

    live = True

    def __init__(self, path: str | os.PathLike[str], *, loop: bool = False, speed: float = 1.0) -> None:
        """Open the file.

        Args:
            path: of the video.
            loop: begin again at its end.
            speed: times as fast.

        Raises:
            MediaError: there is no such file, or it is no video.
            ValueError: the speed is not more than 0.
        """
        if not speed > 0.0:
            raise ValueError(f"speed is {speed}; expected more than 0")
        self._path = path
        self._loop = loop
        self._speed = speed
        self._stop = threading.Event()
        self._reader = VideoReader(path, damaged="warn")
        self.pixel_format = self._reader.pixel_format
        self.size: tuple[int, int] = self._reader.size
        self.frames = None if loop else self._reader.frames

    def __iter__(self) -> Iterator[LiveFrame]:
        """Give frames at their times."""
        start_s = time.monotonic()
        begin_s = stamp_s = 0.0
        step_s = 1.0 / float(self._reader.rate or 25)
        while True:
            for frame in self._reader:
                assert frame.timestamp_s is not None
                stamp_s = begin_s + frame.timestamp_s
                due_s = start_s + stamp_s / self._speed
                if self._stop.wait(max(0.0, due_s - time.monotonic())):
                    return
                yield LiveFrame(frame.pixels, stamp_s, frame.origin, captured_s=max(due_s, start_s))
            if not self._loop:
                return
            begin_s = stamp_s + step_s  # the last frame is shown as long as the others
            self._reader.close()
            self._reader = VideoReader(self._path, damaged="warn")

    def stop(self) -> None:
        """End the iteration."""
        self._stop.set()

    def close(self) -> None:
        """Close the file."""
        reader: Any = self._reader
        reader.close()
