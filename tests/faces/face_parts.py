"""Restorers and detectors that do what a test says, and pictures with faces whose places are known."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

from elir_trt.errors import FrameError
from elir_trt.faces import Detection
from elir_trt.faces.alignment import SIDE, TEMPLATE

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
DATA = Path(os.environ.get("ELIR_TRT_DATA") or SHARED / "data")
YUNET = SHARED / "models" / "face_detection_yunet_2026may.onnx"


def identity(frame: np.ndarray) -> np.ndarray:
    return frame


class PlainStream:
    """A stream of the real one's contract, whose restorer is a function; a failing frame raises at its result."""

    def __init__(self, restorer: PlainRestorer, depth: int, steps: int) -> None:
        self.restorer = restorer
        self.steps = steps
        self.closed = threading.Event()
        self._done: queue.Queue[Any] = queue.Queue(depth)

    def submit(self, frame: np.ndarray, timestamp: float | None = None) -> int:
        assert not self.closed.is_set()
        self._done.put(frame.copy(), timeout=20)
        self.restorer.submitted += 1
        return 0

    def result(self) -> Any:
        frame = self._done.get(timeout=20)
        self.restorer.frames += 1
        if self.restorer.frames - 1 == self.restorer.fail_at:
            raise FrameError("frame 0: decoder: no", index=0, part="decoder")
        late = self.restorer.late
        return SimpleNamespace(frame=self.restorer.change(frame), restored=not late, reason=late)

    def close(self) -> None:
        self.closed.set()


class PlainRestorer:
    """A restorer without a network."""

    def __init__(self, change: Callable[[np.ndarray], np.ndarray] = identity, *, order: str = "rgb") -> None:
        self.change = change
        self.order = order
        self.recipe = SimpleNamespace(task="plain", steps=5, default_steps=2)
        self.bundle = SimpleNamespace(digest="0123")
        self.engines = SimpleNamespace(name="none", precision="fp32", device="cpu")
        self.scaled = (SIDE, SIDE)
        self.frames = 0
        self.submitted = 0
        self.fail_at: int | None = None
        self.late = ""  # why a deadline leaves frames as they are
        self.streams: list[PlainStream] = []
        self.options: dict[str, Any] = {}

    def geometry(self, size: tuple[int, int], *, depth: int = 1) -> Any:
        return SimpleNamespace(scaled=self.scaled)

    def stream(self, *, depth: int = 3, steps: int | None = None, **options: Any) -> PlainStream:
        self.options = {"depth": depth, "steps": steps, **options}
        self.streams.append(PlainStream(self, depth, 2 if steps is None else steps))
        return self.streams[-1]


class FixedDetector:
    """Finds what it was told to: the same in every frame, or something of its own in each."""

    name = "fixed"

    def __init__(
        self, found: Sequence[Detection] | Callable[[int, np.ndarray], Sequence[Detection]] = ()
    ) -> None:
        self.found = found
        self.images: list[np.ndarray] = []

    def detect(self, image: np.ndarray) -> list[Detection]:
        self.images.append(image)
        if callable(self.found):
            return list(self.found(len(self.images) - 1, image))
        return list(self.found)


def face_at(
    x: float, y: float, size: float = 60.0, degrees: float = 0.0, *, score: float = 0.99
) -> Detection:
    """A face in the template's proportions: its middle, pixels of its box, and how far it leans to the right."""
    scale = size / 300.0  # of 512, a face takes some 300
    turn = np.radians(degrees)
    rotation = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    landmarks = (TEMPLATE - 256.0) @ rotation.T + [x, y]
    return Detection((x - size / 2, y - size / 2, size, size), landmarks, score)


def smooth_picture(height: int = 240, width: int = 320, seed: int = 0) -> np.ndarray:
    """``[H, W, 3]`` uint8 without fine detail: bicubic sampling gives it back."""
    coarse = np.random.default_rng(seed).integers(40, 216, (height // 24, width // 24, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
