"""Restorers: an opened bundle, from which streams and single images come."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from elir_trt import _core
from elir_trt._core import Geometry
from elir_trt.backends import Engines
from elir_trt.bundle import Bundle, find_bundle
from elir_trt.closing import Closing
from elir_trt.errors import DeviceError
from elir_trt.formats import FORMATS, Frame, Matrix, PixelFormat, Pixels, check_size, check_whole
from elir_trt.geometry import LARGEST_TILE, plan, scaled_size
from elir_trt.memory import available_bytes, parse_bytes, resident_bytes
from elir_trt.process import Process
from elir_trt.recipe import Recipe
from elir_trt.still import BATCH, Still, still_levels
from elir_trt.stream import Drop, Noise, OnLate, Stream, Temporal, frame_array
from elir_trt.stream_state import StreamState
from elir_trt.tiling import affordable_pixels, frame_bytes
from elir_trt.tuning.choice import OnEngineError, open_engines
from elir_trt.tuning.store import Choice, Tune

if TYPE_CHECKING:
    from elir_trt.faces.detector import Detector
    from elir_trt.faces.gates import Gates
    from elir_trt.faces.restorer import FaceRestorer

Order = Literal["rgb", "bgr"]


def open(
    name_or_bundle: str | Path,
    *,
    device: str = "auto",
    backend: str = "auto",
    order: Order = "rgb",
    on_engine_error: OnEngineError = "fallback",
    tune: Tune = "auto",
    max_memory: int | str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Restorer:
    """Open a bundle for restoring.

    Args:
        name_or_bundle: a bundle's folder, or a task: the newest bundle built for it, or the one that ships with
            the package ("camera").
        device: "auto", "cpu" or "cuda".
        backend: "auto" or the name of a backend, see :func:`elir_trt.backends.names`.
        order: channel order of frames, in and out: "rgb" or "bgr" (OpenCV's).
        on_engine_error: what to do with engines that this GPU or its TensorRT refuses: "fallback" goes on with
            another backend of the bundle and warns why, "rebuild" builds them again where the bundle is portable,
            "raise" raises.
        tune: a portable bundle has no engines. The first time that a machine opens it they are made, compared with
            float32, and timed, and the fastest are kept in the user's cache: "auto" takes some seconds for that,
            "full" measures longer, "off" not at all, with float32 on the CPU where nothing was measured before.
        max_memory: bytes, or a text such as "2GB", that this process should stay below while it restores one stream
            on the CPU: larger frames are cut into smaller tiles then. None: what is free on the machine, and tiles of
            2048x2048 pixels at most. What a frame itself takes is not less for it (:meth:`Restorer.geometry`).
        progress: is called with what is being done, where engines are made; None: a line on standard error where that
            is a terminal.

    Raises:
        BundleError: there is no such bundle, or it must not be trusted.
        BackendError, DeviceError: it cannot run here; the message says why.
    """
    if order not in ("rgb", "bgr"):
        raise ValueError(f"order is {order!r}; allowed: rgb, bgr")
    most = None if max_memory is None else parse_bytes(max_memory)
    found = Path(find_bundle(name_or_bundle)).absolute()
    bundle = Bundle(found)
    with _line() if progress is None else contextlib.nullcontext(progress) as say:
        opened = open_engines(bundle, backend, device, on_engine_error, tune, say)
    bundle.release()
    opened.bundle.release()
    return Restorer(
        opened.bundle,
        opened.engines,
        order=order,
        choice=opened.choice,
        max_memory=most,
        arguments={
            "name_or_bundle": str(found),
            "device": device,
            "backend": backend,
            "order": order,
            "on_engine_error": on_engine_error,
            "tune": tune,
            "max_memory": most,
        },
    )


def _open_again(arguments: dict[str, Any]) -> Restorer:
    """What a pickled restorer becomes."""
    return open(**arguments)


@contextlib.contextmanager
def _line() -> Iterator[Callable[[str], None]]:
    """A line on standard error that is written over again, and gone at the end; nothing where nobody sees it."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda text: None
        return
    shown = False

    def say(text: str) -> None:
        nonlocal shown
        shown = True
        sys.stderr.write(f"\r\x1b[Kelir_trt: {text}")
        sys.stderr.flush()

    try:
        yield say
    finally:
        if shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


class Restorer(Closing):
    """An opened bundle. Makes streams, and restores single images through one of its own.

    It is pickled as the arguments that it was opened with, and opens the bundle again where it arrives: in processes
    that were spawned, and on other machines that have the bundle at the same place.

    Attributes:
        bundle: what runs; another than was opened where its engines were built again.
        engines: of it, opened by a backend.
        choice: of their precisions, where they were made for this machine; None: the bundle had its engines with it,
            or they are a GPU's.
        order: channel order of frames, in and out.
        max_memory: bytes that the process should stay below; None: what the machine has.
    """

    def __init__(
        self,
        bundle: Bundle,
        engines: Engines,
        *,
        order: Order = "rgb",
        choice: Choice | None = None,
        max_memory: int | None = None,
        arguments: dict[str, Any] | None = None,
    ) -> None:
        """Use :func:`elir_trt.open`."""
        self.bundle = bundle
        self.engines = engines
        self.choice = choice
        self.order: Order = order
        self.max_memory = max_memory
        self._arguments = arguments
        self._single: Stream | None = None
        self._lock = threading.Lock()
        self._process = Process()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._arguments is None:
            raise TypeError("this restorer was not made by elir_trt.open, and cannot be pickled")
        return _open_again, (self._arguments,)

    @property
    def recipe(self) -> Recipe:
        """The recipe of the bundle."""
        return self.bundle.recipe

    def __call__(
        self, image: Any, *, steps: int | None = None, seed: int = 0, noise: Noise = "fixed"
    ) -> Frame:
        """Restore one image.

        Args:
            image: ``[H, W, 3]`` uint8 in the restorer's channel order, C-contiguous or not: a numpy array, or what
                streams take besides (:meth:`elir_trt.stream.Stream.submit`), such as a tensor of PyTorch.
            steps: Euler steps, 0 to the recipe's; None: the recipe's default.
            seed: of the noise.
            noise: see :meth:`stream`.

        Returns:
            ``[H', W', 3]`` uint8; another size than the image's where the task scales.

        Raises:
            FrameError: the image is not such an array, or a part failed.
        """
        self._process.require("restorer")
        frame = frame_array(image, self.engines.device)
        size = self._own_pixels.size_of(frame)
        with self._lock:
            key = (size, steps, seed, noise)
            if self._single is None or self._single.key != key:
                self._close_single()
                self._single = self.stream(depth=1, steps=steps, seed=seed, noise=noise, size=size)
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
        temporal: Temporal = "off",
        still: Still = "off",
        deadline_ms: float | None = None,
        on_late: OnLate = "pass",
        size: tuple[int, int] | None = None,
        format: PixelFormat | None = None,
        output_format: PixelFormat | None = None,
        matrix: Matrix = "bt709",
        full_range: bool = False,
        results: Literal["host", "device"] = "host",
        state: StreamState | None = None,
    ) -> Stream:
        """Open a stream of frames.

        Args:
            depth: frames in the ring: waiting, in work, or finished and not collected. 1 to 4096, within the
                machine's memory.
            drop: what ``submit`` does when the ring is full: "block" waits for a place, "oldest" gives up the
                oldest frame that nobody has begun, or else the oldest uncollected result, "newest" gives up the
                frame at hand.
            steps: Euler steps, 0 (the coarse estimate, no noise) to the recipe's; None: the recipe's default.
            seed: of the noise, 0 to 2**64 - 1. The same seed gives the same noise on every device.
            noise: "fixed" draws it once for the stream, so that a still picture stays still; "per-frame" draws
                anew for each frame; "off" adds none.
            temporal: "auto" averages each frame with those before where nothing but noise changed, so that a still
                scene does not flicker; what moves, and what comes after a cut, is left as it is. For the frames
                of one scene in their order, not for unrelated pictures. "off" restores each frame by itself. See
                docs/temporal.md.
            still: tiles whose input did not change are taken from their last restoration: "exact" where it is the
                same to the bit; a number where no block of 8x8 pixels differs by more levels (of 255) in the mean
                from what was restored, up to 64, for 120 frames at most. Frames are cut into tiles for it. Not
                with noise="per-frame", which is new for each frame. See docs/still.md.
            deadline_ms: milliseconds from ``submit`` within which a frame is to be done. Where the frames before say
                that there is no time for all ``steps``, a frame is given fewer, down to the coarse estimate; see
                :class:`Result` for what it got and why. Up to an hour; None: as long as it takes.
            on_late: what becomes of frames that there is no time to restore at all: "pass" hands them on as they
                came, scaled and converted; "drop" gives them up, and they have no result.
            size: height and width of the frames; None: those of the first one.
            format: of the frames that are submitted, a name of :data:`elir_trt.formats.FORMATS`. uint8: "rgb24" and
                "bgr24" (``[H, W, 3]``), "rgba" and "bgra" (``[H, W, 4]``, alpha is ignored), "gray" (``[H, W]``),
                "nv12" (``[H * 3 / 2, W]``: luma, then half as many rows of interleaved Cb and Cr), "yuv420p" (the
                same shape: luma, all of Cb, all of Cr), "yuv444p" (``[H * 3, W]``). uint16: "p010le" (as nv12, 10
                bits in the upper bits of each number) and "rgb48le" (``[H, W, 3]``). None: the restorer's channel
                order.
            output_format: of the results; alpha is opaque, gray is luma. None: the restorer's channel order.
            matrix: between RGB and luma and chroma, and of gray: "bt601" or "bt709" (ITU-T H.273).
            full_range: whether luma and chroma have the whole range (0 to 255 of 8 bits), not 16 to 235 and 240.
            results: "host": numpy arrays; "device": arrays that stay on the GPU (see :class:`Result`). They
                may be dropped while work on them is queued on the stream that took them by DLPack, or on the
                default stream; finish work on other streams first.
            state: of a stream of the same options, sizes and engines, see :meth:`Stream.state`: this one goes on
                behind its frames. A StateError says that it does not fit, when the size is known.

        Raises:
            ValueError: an argument is out of its range.
            DeviceError: ``results="device"`` without a GPU; or this is a process forked from the one that opened
                the bundle.
        """
        self._process.require("restorer")
        maximum = self.recipe.steps
        if steps is None:
            steps = self.recipe.default_steps
        for name, number in (("depth", depth), ("steps", steps), ("seed", seed)):
            check_whole(name, number)
        size = check_size(size)
        if not 0 <= steps <= maximum:
            raise ValueError(f"steps is {steps}; this bundle allows 0 to {maximum}")
        if not 1 <= depth <= _core.MAX_DEPTH:
            raise ValueError(f"depth is {depth}; expected 1 to {_core.MAX_DEPTH}")
        for name, value, allowed in (
            ("drop", drop, ("block", "oldest", "newest")),
            ("noise", noise, ("fixed", "per-frame", "off")),
            ("temporal", temporal, ("off", "auto")),
            ("on_late", on_late, ("pass", "drop")),
            ("format", format, (None, *FORMATS)),
            ("output_format", output_format, (None, *FORMATS)),
            ("matrix", matrix, ("bt601", "bt709")),
            ("results", results, ("host", "device")),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; allowed: {', '.join(filter(None, allowed))}")
        levels = still_levels(still)
        if levels is not None and noise == "per-frame" and maximum > 0:
            raise ValueError(
                "still is with noise='per-frame', which changes still regions; use noise='fixed'"
            )
        if deadline_ms is not None and not 0.0 < deadline_ms <= _core.MAX_DEADLINE_MS:
            raise ValueError(
                f"deadline_ms is {deadline_ms}; expected more than 0, at most {_core.MAX_DEADLINE_MS:g}"
            )
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed is {seed}; expected 0 to 2**64 - 1")
        if results == "device" and self.engines.device != "cuda":
            raise DeviceError(
                f"results='device' needs a GPU; this restorer runs on the {self.engines.device}"
            )
        own = self._own_pixels.format
        pixels = Pixels(format or own, output_format or own, matrix, full_range)
        stream = Stream(
            self,
            depth=depth,
            drop=drop,
            steps=steps,
            seed=seed,
            noise=noise,
            temporal=temporal,
            still=levels,
            deadline_ms=deadline_ms,
            on_late=on_late,
            pixels=pixels,
            results=results,
            state=state,
        )
        if size is not None:
            stream.open_for(size)
        return stream

    def faces(
        self,
        *,
        detector: Detector | str | os.PathLike[str] | None = None,
        background: Restorer | None = None,
        gates: Gates | None = None,
    ) -> FaceRestorer:
        """Restore the faces of frames with this bundle, one for aligned faces of 512x512 such as bfr.

        Args:
            detector: what finds faces (:class:`elir_trt.faces.Detector`), or the file of one (YuNet's, for OpenCV);
                None: the one that the extra "faces" brings (MTCNN).
            background: restores the rest of the frames; None: it stays as it is, bit by bit.
            gates: which faces are restored; None: the defaults of :class:`elir_trt.faces.Gates`.

        Returns:
            What takes images and opens streams as a restorer does. See docs/faces.md.

        Raises:
            BundleError: this bundle does not keep the size of a face.
            MediaError: the detector's file cannot be read or used.
            MissingPackageError: the extra "faces" is not installed.
        """
        from elir_trt.faces.opening import open_detector
        from elir_trt.faces.restorer import FaceRestorer

        if detector is None or isinstance(detector, (str, os.PathLike)):
            detector = open_detector(detector)
        return FaceRestorer(self, detector=detector, background=background, gates=gates)

    @property
    def _own_pixels(self) -> Pixels:
        own: PixelFormat = "bgr24" if self.order == "bgr" else "rgb24"
        return Pixels(own, own, "bt709", False)

    def geometry(self, size: tuple[int, int], *, depth: int = 1, still: bool = False) -> Geometry:
        """How frames of ``size`` (height, width) lie on the engines: whole, or cut into tiles.

        Engines of any size get the cheapest tiles (:mod:`elir_trt.tiling`) that memory allows, the process as it is
        now and a stream of ``depth`` frames taken into account; with ``still`` small ones (:mod:`elir_trt.still`).

        Raises:
            FrameError: the frame is empty, or too large.
        """
        built = self.bundle.manifest.specification.size
        if self.engines.sizes() is not None:
            return plan(self.recipe, size, size=built, fixed=True)
        pixels = self._tile_pixels(size, built, depth)
        return plan(self.recipe, size, size=built, tile_pixels=pixels, still=still)

    def _tile_pixels(self, size: tuple[int, int], built: tuple[int, int], depth: int) -> int:
        """Pixels of a tile that memory allows."""
        if self.max_memory is not None:
            free = self.max_memory - resident_bytes()
        else:
            available = available_bytes()
            if available is None:
                return LARGEST_TILE
            free = available * 3 // 4  # Others run here too.
        free -= frame_bytes(size, scaled_size(self.recipe, size, built), depth)
        together = self.bundle.manifest.specification.batch
        return min(affordable_pixels(self.recipe.architecture, free) // together, LARGEST_TILE)

    def batch(self, geometry: Geometry, *, still: bool = False) -> int:
        """Tiles that go through the engines together: as many as these take, or as the bundle was built for.

        With ``still`` at least :data:`elir_trt.still.BATCH`: such tiles are small.
        """
        built = self.bundle.manifest.specification.batch
        if still:
            built = max(built, BATCH)
        # Engines that take any number are not given places that no tile fills.
        return self.engines.batch or min(built, len(geometry.tiles))

    def close(self) -> None:
        """Close the stream that single images went through."""
        if not self._process.is_current():
            return  # A forked process has none of the threads, and the lock may be held for ever.
        with self._lock:
            self._close_single()

    def _close_single(self) -> None:
        if self._single is not None:
            self._single.close()
            self._single = None

    def __repr__(self) -> str:
        return f"<Restorer {self.recipe.task} with {self.engines.name} {self.engines.precision}>"
