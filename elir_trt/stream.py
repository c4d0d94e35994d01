"""Streams: frames in, restored frames out, over the core."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from elir_trt import _core
from elir_trt._core import Geometry
from elir_trt.backends import Engines
from elir_trt.bundle import Bundle
from elir_trt.closing import Closing
from elir_trt.errors import FrameError
from elir_trt.formats import Frame, Pixels
from elir_trt.process import Process
from elir_trt.recipe import Recipe
from elir_trt.stream_state import StreamState

# Kinds of memory in DLPack.
_CPU, _CUDA, _CUDA_HOST, _CUDA_MANAGED = 1, 2, 3, 13
Drop = Literal["block", "oldest", "newest"]
Noise = Literal["fixed", "per-frame", "off"]
Temporal = Literal["off", "auto"]
OnLate = Literal["pass", "drop"]


@dataclass(frozen=True)
class Result:
    """A restored frame.

    Attributes:
        frame: ``[H, W, 3]`` uint8, in the channel order of the restorer; or as the stream's ``output_format``
            says. With ``results="device"`` it is an array on the GPU that other libraries take without a copy,
            by DLPack or ``__cuda_array_interface__``; it is complete.
        index: position among the submitted frames, from 0.
        timestamp: what was submitted with the frame.
        steps: Euler steps that it was given.
        restored: False if a deadline left no time, and the frame is as it came.
        reason: why it was given fewer steps than asked for, or is not restored; empty: neither.
        reused: share of its tiles that were taken from frames before, 0 to 1; see ``still`` of
            :meth:`elir_trt.restorer.Restorer.stream`.
        stages: milliseconds of each stage. On the CPU: still, load, encoder, coarse, start, velocity, step, decoder,
            direct (encoder, coarse and decoder in one engine, for frames without steps), temporal, store, total. On
            a GPU, which is told of a frame at once: launch (what the CPU did) and total.
        latency_ms: milliseconds from submit to completion, waiting in the ring included.
    """

    frame: Any
    index: int
    timestamp: float | None
    steps: int
    stages: Mapping[str, float]
    latency_ms: float
    restored: bool = True
    reason: str = ""
    reused: float = 0.0

    @property
    def rung(self) -> str:
        """What a deadline left of it: "K=2", ..., "K=0", or "unrestored"."""
        return f"K={self.steps}" if self.restored else "unrestored"


class Opener(Protocol):
    """What opens streams: see :class:`elir_trt.restorer.Restorer`."""

    bundle: Bundle
    engines: Engines

    @property
    def recipe(self) -> Recipe: ...

    def geometry(self, size: tuple[int, int], *, depth: int = ..., still: bool = ...) -> Geometry:
        """How frames of ``size`` (height, width) lie on the engines, in a stream of ``depth`` frames."""

    def batch(self, geometry: Geometry, *, still: bool = ...) -> int:
        """Tiles that go through the engines together."""


def _reason(found: _core.Result) -> str:
    if found.restored and found.steps == found.wanted_steps:
        return ""
    needed = f"take up to {found.needed_ms:.1f}" if found.needed_ms else "were not timed yet"
    return f"{max(found.left_ms, 0.0):.1f} ms were left; {found.wanted_steps} steps {needed}"


class Stream(Closing):
    """Frames in, restored frames out, in order.

    One thread may submit while another collects. A frame that fails raises :class:`FrameError` where it would
    have been collected; the stream goes on. Close it, or use it as a context manager.
    """

    def __init__(
        self,
        restorer: Opener,
        *,
        depth: int,
        drop: Drop,
        steps: int,
        seed: int,
        noise: Noise,
        temporal: Temporal,
        still: float | None,
        deadline_ms: float | None,
        on_late: OnLate,
        pixels: Pixels,
        results: Literal["host", "device"],
        state: StreamState | None = None,
    ) -> None:
        """Use :meth:`Restorer.stream`."""
        self.restorer = restorer
        self.steps = steps
        self.key: Any = None
        self.pixels = pixels
        self._options: dict[str, Any] = {"depth": depth, "drop": drop, "seed": seed, "noise": noise}
        self._options.update(temporal=temporal, still=still, deadline_ms=deadline_ms, on_late=on_late)
        self._options.update(asdict(pixels), results=results)
        self._depth = depth
        self._before = state
        self._core: _core.Stream | None = None
        self._opening = threading.Lock()
        self._opened = threading.Event()
        self._closed = False
        self._size: tuple[int, int] | None = None
        self._process = Process()

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the frames; None until it is known."""
        return self._size

    @property
    def execution_mode(self) -> str:
        """How frames are run: "eager" (on the CPU always), "graph", or "eager: " and why not recorded.

        On a GPU a frame is recorded as a CUDA graph once and replayed; before the first frames it says what is tried.
        """
        return "eager" if self._core is None else self._core.execution_mode

    def open_for(self, size: tuple[int, int]) -> None:
        """Compile the engines for frames of ``size`` (height, width); the first submit does so by itself."""
        self._process.require("stream")
        with self._opening:
            if self._closed:
                raise ValueError("the stream is closed")
            if self._core is not None:
                return
            restorer = self.restorer
            still = self._options["still"] is not None
            geometry = restorer.geometry(size, depth=self._depth, still=still)
            batch = restorer.batch(geometry, still=still)
            options = _core.StreamOptions(
                sigma=restorer.recipe.sigma,
                steps=self.steps,
                table=restorer.bundle.table,
                element=restorer.engines.element,
                device=restorer.engines.device,
                batch=batch,
                frames_before=self._before.frames if self._before else 0,
                **self._options,
            )
            core = _core.Stream(geometry, options)
            for part, enqueue in restorer.engines.bind(geometry.engine, batch, core).items():
                core.set_part(part, enqueue)
            if self._before is not None:
                self._before.put_into(core)
            core.start()
            self._size = size
            self._core = core
            self._opened.set()

    def submit(
        self,
        frame: Any,
        timestamp: float | None = None,
        *,
        steps: int | None = None,
        timeout: float | None = None,
    ) -> int | None:
        """Hand in a frame. One in memory of the CPU is copied before the call returns.

        A stream on a GPU takes arrays there without a copy: anything with ``__dlpack__`` (torch, CuPy) or
        ``__cuda_array_interface__`` (PyCUDA, Numba). It waits for the producer's stream as those protocols say,
        keeps the array, and reads it until the frame's result was collected: do not change it before. Rows may
        be apart, pixels must be packed. PyCUDA's arrays must be of the device's primary context
        (``import pycuda.autoprimaryctx``).

        Args:
            frame: in the stream's format, by default ``[H, W, 3]`` uint8 in the restorer's channel order. In
                memory of the CPU: a numpy array, C-contiguous or not, or what numpy takes by DLPack.
            timestamp: anything that should come back with the result, in seconds.
            steps: Euler steps for this frame, 0 (the coarse estimate) to the recipe's; None: the stream's.
            timeout: seconds to wait for a place in the ring (drop="block"); None: as long as it takes.

        Returns:
            The frame's index, or None if it was dropped.

        Raises:
            FrameError: the frame is not such an array, not of the stream's size, or on another device. The stream
                goes on.
            TimeoutError: no place came free in time.
            ValueError: the stream is closed, ``steps`` is out of its range, or ``timestamp`` is no number.
        """
        self._process.require("stream")
        self._check_steps(steps)
        array = frame_array(frame, self.restorer.engines.device)
        timestamp = _seconds(timestamp)
        size = self.pixels.size_of(array)
        if self._core is None:
            self.open_for(size)
        assert self._core is not None
        if size != self._size:
            assert self._size is not None
            raise FrameError(
                f"frame is {size[1]}x{size[0]}; this stream takes "
                f"{self._size[1]}x{self._size[0]} (open another stream for another size)"
            )
        try:
            return self._core.submit(array, timestamp, steps, timeout)
        except _core.Closed:
            raise ValueError("the stream is closed") from None
        except ValueError as error:
            raise FrameError(str(error)) from error

    def submit_planes(
        self,
        y: int,
        y_pitch: int,
        uv: int,
        uv_pitch: int,
        *,
        owner: Any = None,
        stream: int | None = None,
        timestamp: float | None = None,
        steps: int | None = None,
        timeout: float | None = None,
    ) -> int | None:
        """Hand in a frame of "nv12" or "p010le" whose planes lie apart, as in NVMM buffers of Jetson cameras and
        decoders.

        The stream needs its ``size`` before (see :meth:`Restorer.stream`). On a GPU nothing is copied: the planes
        must not change until the frame's result was collected.

        Args:
            y, uv: addresses of luma, and of interleaved Cb and Cr, in memory of the stream's device.
            y_pitch, uv_pitch: bytes from one row to the next.
            owner: what keeps that memory alive; it is held until the frame's result was collected.
            stream: CUDA stream on which the planes are made; None: they are complete.
            timestamp, steps, timeout: as in :meth:`submit`.

        Returns:
            The frame's index, or None if it was dropped.

        Raises:
            FrameError: an address or a pitch cannot be, or the stream's format has no such planes.
            TimeoutError: no place came free in time.
            ValueError: the stream is closed, has no size yet, or ``steps`` is out of its range.
        """
        self._process.require("stream")
        self._check_steps(steps)
        timestamp = _seconds(timestamp)
        if self._core is None:
            raise ValueError(
                "submit_planes needs the size of frames: open the stream with size=(height, width)"
            )
        try:
            return self._core.submit_planes(
                [(y, y_pitch), (uv, uv_pitch)], owner, stream, timestamp, steps, timeout
            )
        except _core.Closed:
            raise ValueError("the stream is closed") from None
        except ValueError as error:
            raise FrameError(str(error)) from error

    def _check_steps(self, steps: int | None) -> None:
        maximum = self.restorer.recipe.steps
        if steps is not None and not 0 <= steps <= maximum:
            raise ValueError(f"steps is {steps}; this bundle allows 0 to {maximum}")

    def result(self, timeout: float | None = None) -> Result:
        """Wait for the next result, in the order of submission.

        Args:
            timeout: seconds to wait; None: as long as it takes.

        Raises:
            FrameError: this frame failed; ``index`` and ``part`` say which and where.
            TimeoutError: there was no result in time.
            EOFError: the stream was closed and everything was collected.
        """
        self._process.require("stream")
        if self._core is None:
            if self._closed:
                raise EOFError("the stream is closed, and all results were collected")
            if not self._opened.wait(timeout):
                raise TimeoutError(f"no frame was submitted within {timeout} s")
            if self._core is None:
                raise EOFError("the stream is closed, and all results were collected")
        try:
            found = self._core.result(timeout)
        except _core.Closed:
            raise EOFError("the stream is closed, and all results were collected") from None
        if found.error is not None:
            part, message = found.error
            raise FrameError(f"frame {found.index}: {part}: {message}", index=found.index, part=part)
        return Result(
            frame=found.frame,
            index=found.index,
            timestamp=found.timestamp,
            steps=found.steps,
            stages=found.stages,
            latency_ms=found.latency_ms,
            restored=found.restored,
            reason=_reason(found),
            reused=found.reused,
        )

    def map(self, frames: Iterable[Frame | tuple[Frame, float | None]]) -> Iterator[Result]:
        """Restore frames as an iterator of results, in order, keeping the ring full.

        Args:
            frames: frames, or pairs of a frame and its timestamp.

        Raises:
            FrameError: a frame failed.
            ValueError: the stream drops frames: use ``submit`` and ``result``.
        """
        if self._options["drop"] != "block":
            raise ValueError(f"map needs a stream with drop='block'; this one has {self._options['drop']!r}")
        if self._options["on_late"] == "drop" and self._options["deadline_ms"] is not None:
            raise ValueError(
                "map needs a result for each frame; this stream drops late ones (on_late='drop')"
            )
        waiting: deque[int | None] = deque()
        for item in frames:
            frame, timestamp = item if isinstance(item, tuple) else (item, None)
            if len(waiting) >= self._depth:
                waiting.popleft()
                yield self.result()
            waiting.append(self.submit(frame, timestamp))
        while waiting:
            waiting.popleft()
            yield self.result()

    def stats(self) -> dict[str, Any]:
        """Counts (submitted, completed, dropped, failed, pending) and p50, p95, p99 of latency and stages, in ms."""
        self._process.require("stream")
        if self._core is None:
            counts = dict.fromkeys(("submitted", "completed", "dropped", "failed", "pending"), 0)
            return {**counts, "latency_ms": {}, "stages": {}}
        return self._core.stats()

    def state(self) -> StreamState:
        """What this stream carries from frame to frame, while all its results are collected.

        A stream that is opened with it goes on as if it were this one; see :meth:`Restorer.stream`.

        Raises:
            RuntimeError: frames are in work.
        """
        self._process.require("stream")
        before = self._before.frames if self._before else 0
        if self._core is None:
            return self._before or StreamState(0, None)
        averages = self._options["temporal"] != "off"
        temporal = self._core.temporal_state() if averages else None
        return StreamState(before + self._core.stats()["submitted"], temporal)

    def read_tensor(self, name: str) -> npt.NDArray[np.float32]:
        """A copy of one of the parts' tensors (see :func:`elir_trt.parts.part_tensors`) as the last frame left it.

        Frames without steps may leave those between encoder and decoder as they were.
        """
        self._process.require("stream")
        if self._core is None:
            raise ValueError("the stream has no tensors before its first frame")
        return self._core.read(name)

    def close(self) -> None:
        """Take no more frames. Those in the ring are finished and can still be collected."""
        if not self._process.is_current():
            return  # A forked process has none of the threads, and the lock may be held for ever.
        with self._opening:
            self._closed = True
            if self._core is not None:
                self._core.close()
                self.restorer.engines.stream_closed()
            self._opened.set()


def frame_array(frame: Any, device: str) -> Any:
    """``frame`` as the core takes it: a numpy array, or an array on the GPU that a stream runs on.

    Args:
        frame: see :meth:`Stream.submit`.
        device: that the stream runs on, "cpu" or "cuda".

    Raises:
        FrameError: it is neither, or on another device.
    """
    if isinstance(frame, np.ndarray):
        return frame
    on_gpu = hasattr(frame, "__cuda_array_interface__")
    if hasattr(frame, "__dlpack_device__"):
        kind = int(frame.__dlpack_device__()[0])
        on_gpu = kind in (_CUDA, _CUDA_MANAGED)
        if kind in (_CPU, _CUDA_HOST):
            return np.from_dlpack(frame)
    if on_gpu and device == "cuda":
        return frame
    if on_gpu:
        raise FrameError(
            "frame is on the GPU, and this stream runs on the CPU; copy it to the CPU first, or open the "
            "bundle with device='cuda'"
        )
    raise FrameError(f"frame is a {type(frame).__name__}; expected a numpy array, or an array on the GPU")


def _seconds(timestamp: Any) -> float | None:
    """A time stamp as the core takes it.

    Raises:
        ValueError: it is no number.
    """
    if timestamp is None:
        return None
    if not isinstance(timestamp, Real):
        raise ValueError(f"timestamp is {timestamp!r}; expected seconds as a number, or None")
    return float(timestamp)
