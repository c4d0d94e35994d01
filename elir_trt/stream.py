"""Restorers and streams: the way from frames to restored frames, over the core."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from elir_trt import _core
from elir_trt.backends import Backend, OnEngineError, open_backend
from elir_trt.bundle import Bundle, find_bundle
from elir_trt.errors import DeviceError, FrameError
from elir_trt.geometry import Geometry, plan
from elir_trt.recipe import Recipe

Frame = npt.NDArray[np.uint8]
# Kinds of memory in DLPack.
_CPU, _CUDA, _CUDA_HOST, _CUDA_MANAGED = 1, 2, 3, 13
Drop = Literal["block", "oldest", "newest"]
Noise = Literal["fixed", "per-frame", "off"]
Order = Literal["rgb", "bgr"]
#: How the bytes of a frame are to be read; FFmpeg's names.
PixelFormat = Literal["rgb24", "bgr24", "rgba", "bgra", "gray", "nv12"]
FORMATS = ("rgb24", "bgr24", "rgba", "bgra", "gray", "nv12")


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
        stages: milliseconds of each stage. On the CPU: load, encoder, coarse, start, velocity, step, decoder,
            store, total. On a GPU, which is told of a frame at once: launch (what the CPU did) and total.
        latency_ms: milliseconds from submit to completion, waiting in the ring included.
    """

    frame: Any
    index: int
    timestamp: float | None
    steps: int
    stages: Mapping[str, float]
    latency_ms: float


def open(
    name_or_bundle: str | Path,
    *,
    device: str = "auto",
    backend: str = "auto",
    order: Order = "rgb",
    on_engine_error: OnEngineError = "fallback",
) -> Restorer:
    """Open a bundle for restoring.

    Args:
        name_or_bundle: a bundle's folder, or a task: the newest bundle built for it, or the one that ships with
            the package ("camera").
        device: "auto", "cpu" or "cuda".
        backend: "auto", "tensorrt", "tensorrt-rtx", "torch" or "openvino".
        order: channel order of frames, in and out: "rgb" or "bgr" (OpenCV's).
        on_engine_error: what to do with engines that this GPU or its TensorRT refuses: "fallback" goes on with
            another
            backend of the bundle and warns why, "rebuild" builds them again where the bundle is portable,
            "raise" raises.

    Raises:
        BundleError: there is no such bundle, or it must not be trusted.
        BackendError, DeviceError: it cannot run here; the message says why.
    """
    if order not in ("rgb", "bgr"):
        raise ValueError(f"order is {order!r}; allowed: rgb, bgr")
    bundle = Bundle(find_bundle(name_or_bundle))
    opened = open_backend(bundle, backend, device, on_engine_error)
    bundle.release()
    return Restorer(bundle, opened, order=order)


class Restorer:
    """An opened bundle. Makes streams, and restores single images through one of its own."""

    def __init__(self, bundle: Bundle, backend: Backend, *, order: Order = "rgb") -> None:
        """Use :func:`elir_trt.open`."""
        self.bundle = bundle
        self.backend = backend
        self.order: Order = order
        self._single: Stream | None = None
        self._lock = threading.Lock()

    @property
    def recipe(self) -> Recipe:
        """The recipe of the bundle."""
        return self.bundle.recipe

    def __call__(
        self, image: Frame, *, steps: int | None = None, seed: int = 0, noise: Noise = "fixed"
    ) -> Frame:
        """Restore one image.

        Args:
            image: ``[H, W, 3]`` uint8 in the restorer's channel order, C-contiguous or not.
            steps: Euler steps, 0 to the recipe's; None: the recipe's default.
            seed: of the noise.
            noise: see :meth:`stream`.

        Returns:
            ``[H', W', 3]`` uint8; another size than the image's where the task scales.

        Raises:
            FrameError: the image is not such an array, or a part failed.
        """
        frame = check_frame(image)
        with self._lock:
            key = (frame.shape[:2], steps, seed, noise)
            if self._single is None or self._single.key != key:
                self._close_single()
                self._single = self.stream(
                    depth=1, steps=steps, seed=seed, noise=noise, size=(frame.shape[0], frame.shape[1])
                )
                self._single.key = key
            self._single.submit(frame)
            restored: Frame = self._single.result().frame
            return restored

    def stream(
        self,
        *,
        depth: int = 3,
        drop: Drop = "block",
        steps: int | None = None,
        seed: int = 0,
        noise: Noise = "fixed",
        size: tuple[int, int] | None = None,
        format: PixelFormat | None = None,
        output_format: PixelFormat | None = None,
        matrix: Literal["bt601", "bt709"] = "bt709",
        full_range: bool = False,
        results: Literal["host", "device"] = "host",
    ) -> Stream:
        """Open a stream of frames.

        Args:
            depth: frames in the ring: waiting, in work, or finished and not collected. At least 1.
            drop: what ``submit`` does when the ring is full: "block" waits for a place, "oldest" gives up the
                oldest frame that nobody has begun, or else the oldest uncollected result, "newest" gives up the
                frame at hand.
            steps: Euler steps, 0 (the coarse estimate, no noise) to the recipe's; None: the recipe's default.
            seed: of the noise, 0 to 2**64 - 1. The same seed gives the same noise on every device.
            noise: "fixed" draws it once for the stream, so that a still picture stays still; "per-frame" draws
                anew for each frame; "off" adds none.
            size: height and width of the frames; None: those of the first one.
            format: of the frames that are submitted: "rgb24" and "bgr24" (``[H, W, 3]``), "rgba" and "bgra"
                (``[H, W, 4]``, alpha is ignored), "gray" (``[H, W]``), "nv12" (``[H * 3 / 2, W]``: luma, then
                half as many rows of interleaved Cb and Cr); all uint8. None: the restorer's channel order.
            output_format: of the results; alpha is opaque, gray is luma. None: the restorer's channel order.
            matrix: between RGB and luma and chroma of "nv12" and "gray": "bt601" or "bt709" (ITU-T H.273).
            full_range: whether luma and chroma of "nv12" go from 0 to 255, not from 16 to 235 and 240.
            results: "host": numpy arrays; "device": arrays that stay on the GPU (see :class:`Result`). They
                may be dropped while work on them is queued on the stream that took them by DLPack, or on the
                default stream; finish work on other streams first.

        Raises:
            ValueError: an argument is out of its range.
            DeviceError: ``results="device"`` without a GPU.
        """
        maximum = self.recipe.steps
        if steps is None:
            steps = self.recipe.default_steps
        if not 0 <= steps <= maximum:
            raise ValueError(f"steps is {steps}; this bundle allows 0 to {maximum}")
        if depth < 1:
            raise ValueError(f"depth is {depth}; expected at least 1")
        for name, value, allowed in (
            ("drop", drop, ("block", "oldest", "newest")),
            ("noise", noise, ("fixed", "per-frame", "off")),
            ("format", format or FORMATS[0], FORMATS),
            ("output_format", output_format or FORMATS[0], FORMATS),
            ("matrix", matrix, ("bt601", "bt709")),
            ("results", results, ("host", "device")),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; allowed: {', '.join(allowed)}")
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed is {seed}; expected 0 to 2**64 - 1")
        if results == "device" and self.backend.device != "cuda":
            raise DeviceError(
                f"results='device' needs a GPU; this restorer runs on the {self.backend.device}"
            )
        own: PixelFormat = "bgr24" if self.order == "bgr" else "rgb24"
        pixels = Pixels(format or own, output_format or own, matrix, full_range)
        stream = Stream(
            self, depth=depth, drop=drop, steps=steps, seed=seed, noise=noise, pixels=pixels, results=results
        )
        if size is not None:
            stream.open_for(size)
        return stream

    def geometry(self, size: tuple[int, int]) -> Geometry:
        """How frames of ``size`` (height, width) lie on the engines."""
        built = self.bundle.manifest.specification.size
        return plan(self.recipe, size, size=built, fixed=self.backend.sizes() is not None)

    def close(self) -> None:
        """Close the stream that single images went through."""
        with self._lock:
            self._close_single()

    def _close_single(self) -> None:
        if self._single is not None:
            self._single.close()
            self._single = None

    def __enter__(self) -> Restorer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Restorer {self.recipe.task} with {self.backend.name} {self.backend.precision}>"


@dataclass(frozen=True)
class Pixels:
    """How frames are stored; see :meth:`Restorer.stream`."""

    format: PixelFormat
    output_format: PixelFormat
    matrix: Literal["bt601", "bt709"]
    full_range: bool

    def size_of(self, frame: Any) -> tuple[int, int]:
        """Height and width of the picture in an array.

        Raises:
            FrameError: it is no frame of this format.
        """
        shape = tuple(int(side) for side in frame.shape)
        channels = {"rgb24": 3, "bgr24": 3, "rgba": 4, "bgra": 4}.get(self.format)
        expected = "HxW" + ("" if channels is None else f"x{channels}")
        good = len(shape) == (2 if channels is None else 3) and 0 not in shape
        if self.format == "nv12":
            expected = "(H * 3 / 2)xW with H and W even"
            good = good and shape[0] % 3 == 0 and shape[1] % 2 == 0
        if not good or (channels is not None and shape[2] != channels) or not _is_uint8(frame):
            found = "x".join(str(n) for n in shape)
            raise FrameError(f"frame is {frame.dtype} of shape {found}; expected uint8 of shape {expected}")
        return (shape[0] * 2 // 3 if self.format == "nv12" else shape[0]), shape[1]


def _is_uint8(frame: Any) -> bool:
    return str(frame.dtype).rsplit(".", 1)[-1] == "uint8"


class Stream:
    """Frames in, restored frames out, in order.

    One thread may submit while another collects. A frame that fails raises :class:`FrameError` where it would
    have been collected; the stream goes on. Close it, or use it as a context manager.
    """

    def __init__(
        self,
        restorer: Restorer,
        *,
        depth: int,
        drop: Drop,
        steps: int,
        seed: int,
        noise: Noise,
        pixels: Pixels,
        results: Literal["host", "device"],
    ) -> None:
        """Use :meth:`Restorer.stream`."""
        self.restorer = restorer
        self.steps = steps
        self.key: Any = None
        self.pixels = pixels
        self._options: dict[str, Any] = {"depth": depth, "drop": drop, "seed": seed, "noise": noise}
        self._options.update(asdict(pixels), results=results)
        self._depth = depth
        self._core: _core.Stream | None = None
        self._opening = threading.Lock()
        self._opened = threading.Event()
        self._closed = False
        self._size: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the frames; None until it is known."""
        return self._size

    @property
    def way(self) -> str:
        """How frames are run: "called" (on the CPU always), "recorded", or "called: " and why not recorded.

        On a GPU a frame is recorded as a CUDA graph once and replayed; before the first frames it says what is tried.
        """
        return "called" if self._core is None else self._core.way

    def open_for(self, size: tuple[int, int]) -> None:
        """Compile the engines for frames of ``size`` (height, width); the first submit does so by itself."""
        with self._opening:
            if self._closed:
                raise ValueError("the stream is closed")
            if self._core is not None:
                return
            restorer = self.restorer
            geometry = restorer.geometry(size)
            core = _core.Stream(
                **geometry.arguments(),
                sigma=restorer.recipe.sigma,
                steps=self.steps,
                table=self._rows(),
                element=restorer.backend.element,
                device=restorer.backend.device,
                **self._options,
            )
            for part, enqueue in restorer.backend.bind(geometry.engine, core).items():
                core.set_part(part, enqueue)
            core.start()
            self._size = size
            self._core = core
            self._opened.set()

    def _rows(self) -> npt.NDArray[np.float32]:
        bundle = self.restorer.bundle
        return np.ascontiguousarray(bundle.condition_rows(self.steps)).reshape(-1, bundle.condition_width)

    def submit(
        self, frame: Any, timestamp: float | None = None, *, timeout: float | None = None
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
            timeout: seconds to wait for a place in the ring (drop="block"); None: as long as it takes.

        Returns:
            The frame's index, or None if it was dropped.

        Raises:
            FrameError: the frame is not such an array, not of the stream's size, or on another device. The stream
                goes on.
            TimeoutError: no place came free in time.
            ValueError: the stream is closed.
        """
        array = self._array(frame)
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
            return self._core.submit(array, timestamp, timeout)
        except _core.Closed:
            raise ValueError("the stream is closed") from None
        except ValueError as error:
            raise FrameError(str(error)) from error

    def _array(self, frame: Any) -> Any:
        """``frame`` as the core takes it: a numpy array, or an array on the GPU that this stream runs on."""
        if isinstance(frame, np.ndarray):
            return frame
        on_gpu = hasattr(frame, "__cuda_array_interface__")
        if hasattr(frame, "__dlpack_device__"):
            kind = int(frame.__dlpack_device__()[0])
            on_gpu = kind in (_CUDA, _CUDA_MANAGED)
            if kind in (_CPU, _CUDA_HOST):
                return np.from_dlpack(frame)
        if on_gpu and self.restorer.backend.device == "cuda":
            return frame
        if on_gpu:
            raise FrameError(
                "frame is on the GPU, and this stream runs on the CPU; copy it to the CPU first, or open the "
                "bundle with device='cuda'"
            )
        raise FrameError(f"frame is a {type(frame).__name__}; expected a numpy array, or an array on the GPU")

    def result(self, timeout: float | None = None) -> Result:
        """Wait for the next result, in the order of submission.

        Args:
            timeout: seconds to wait; None: as long as it takes.

        Raises:
            FrameError: this frame failed; ``index`` and ``part`` say which and where.
            TimeoutError: there was no result in time.
            EOFError: the stream was closed and everything was collected.
        """
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
        if self._core is None:
            counts = dict.fromkeys(("submitted", "completed", "dropped", "failed", "pending"), 0)
            return {**counts, "latency_ms": {}, "stages": {}}
        return self._core.stats()

    def close(self) -> None:
        """Take no more frames. Those in the ring are finished and can still be collected."""
        with self._opening:
            self._closed = True
            if self._core is not None:
                self._core.close()
                self.restorer.backend.stream_closed()
            self._opened.set()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def check_frame(frame: Any) -> Frame:
    """Return ``frame`` as an array, or raise FrameError that says what is wrong with it."""
    if not isinstance(frame, np.ndarray):
        raise FrameError(f"frame is a {type(frame).__name__}; expected a numpy array [H, W, 3] of uint8")
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        shape = "x".join(str(n) for n in frame.shape)
        raise FrameError(f"frame is {frame.dtype} of shape {shape}; expected uint8 of shape HxWx3")
    return frame
