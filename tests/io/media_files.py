"""A restorer without a network, small files, and real ones where there are any."""

from __future__ import annotations

import os
import queue
import threading
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest

from elir_trt.errors import FrameError
from elir_trt.stream_state import StreamState

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("ELIR_TRT_DATA") or ROOT.parent / "shared" / "data")


def real(folder: str) -> list[Any]:
    """The real files of a folder as parameters; one that is skipped where there are none."""
    files = sorted((DATA / folder).glob("*")) if (DATA / folder).is_dir() else []
    if not files:
        return [pytest.param(None, marks=pytest.mark.skip(reason="no real files (ELIR_TRT_DATA)"))]
    return [pytest.param(path, id=path.name) for path in files]


class FakeStream:
    """A stream that inverts frames, with the ring, the blocking and the errors of the real one."""

    def __init__(self, restorer: FakeRestorer, depth: int) -> None:
        self.restorer = restorer
        self.size: tuple[int, ...] | None = None
        self.ring: queue.Queue[Any] = queue.Queue(depth)
        self.count = 0
        self.closed = threading.Event()
        #: With averaging over time: the mean of the frames so far, each half as much as the next.
        state = restorer.options.get("state")
        self.before = 0 if state is None else state.frames
        self.mean: Any = None if state is None or state.temporal is None else state.temporal

    def state(self) -> StreamState:
        assert self.ring.empty()
        return StreamState(self.before + self.count, self.mean)

    def submit(self, frame: Any, timestamp: float | None = None, *, timeout: float | None = None) -> int:
        assert frame.dtype == (np.uint16 if self.restorer.format == "rgb48le" else np.uint8)
        self.size = self.size or frame.shape[:2]
        assert frame.shape == (*self.size, 3)
        assert not self.closed.is_set()
        after = np.iinfo(frame.dtype).max - frame
        if self.restorer.scale > 1:
            after = after.repeat(self.restorer.scale, axis=0).repeat(self.restorer.scale, axis=1)
        mean = self.mean
        if self.restorer.options.get("temporal") == "auto":
            mean = after.astype(np.float32) if mean is None else (mean + after) / 2
            after = mean.astype(after.dtype)
        index = self.count
        try:
            self.ring.put(SimpleNamespace(frame=after, index=index, timestamp=timestamp), timeout=timeout)
        except queue.Full:
            raise TimeoutError from None
        self.count += 1
        self.mean = mean
        return index

    def result(self, timeout: float | None = None) -> Any:
        if self.restorer.interrupt_at is not None and self.restorer.done == self.restorer.interrupt_at:
            self.restorer.interrupt_at = None
            raise KeyboardInterrupt
        try:
            found = self.ring.get(timeout=0.02 if self.closed.is_set() else timeout)
        except queue.Empty:
            raise (EOFError if self.closed.is_set() else TimeoutError) from None
        self.restorer.done += 1
        if found.index == self.restorer.fail_at:
            raise FrameError("frame failed", index=found.index, part="decoder")
        return found

    def close(self) -> None:
        self.closed.set()

    def __enter__(self) -> FakeStream:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class FakeRestorer:
    """Inverts frames; upscales by repetition; fails or is interrupted where a test wants it."""

    def __init__(self, *, scale: int = 1) -> None:
        self.scale = scale
        self.fail_at: int | None = None
        self.interrupt_at: int | None = None
        self.format = "rgb24"
        self.done = 0
        self.streams: list[FakeStream] = []

    def stream(
        self,
        *,
        depth: int,
        drop: str,
        format: str,
        output_format: str,
        matrix: str,
        full_range: bool,
        **o: Any,
    ) -> FakeStream:
        assert drop == "block"
        assert format == output_format
        assert format in ("rgb24", "rgb48le")
        self.format = format
        self.options = o
        self.streams.append(FakeStream(self, depth))
        return self.streams[-1]


def picture(height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """A smooth picture that compresses well, ``[H, W, 3]`` uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR))


def make_video(
    path: Path,
    *,
    frames: int = 12,
    size: tuple[int, int] = (48, 64),
    audio: bool = False,
    pts: list[int] | None = None,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    pixel_format: str = "yuv420p",
) -> Path:
    """A small video at 25 fps, in ticks of 1/25 s unless its times are given in ms."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *size, pixel_format
        stream.codec_context.time_base = Fraction(1, 1000) if pts else Fraction(1, 25)
        sound = container.add_stream("aac", rate=16000, layout="mono") if audio else None
        for n in range(frames):
            frame = av.VideoFrame.from_ndarray(np.roll(picture(*size), 2 * n, axis=1), format="rgb24")
            frame.pts, frame.time_base = (pts[n] if pts else n), stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            for n in range(frames * 640 // 1024):
                block = av.AudioFrame.from_ndarray(
                    np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
                )
                block.sample_rate, block.pts = 16000, n * 1024
                container.mux(sound.encode(block))
            container.mux(sound.encode(None))
    return path
