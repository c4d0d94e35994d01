"""Streams whose faces alone, or whose faces and rest, are restored."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from elir_trt.closing import Closing
from elir_trt.errors import FrameError
from elir_trt.faces.alignment import SIDE, after, inverse, resizing
from elir_trt.faces.detector import Detector
from elir_trt.faces.face import Face
from elir_trt.faces.gates import Gates
from elir_trt.faces.pasting import Patch, paste
from elir_trt.faces.ring import Closed, Ring
from elir_trt.faces.tracking import Tracker, single_faces
from elir_trt.faces.warping import cut_out
from elir_trt.formats import FORMATS, Frame, Pixels
from elir_trt.process import Process
from elir_trt.stream import Drop, Result, Stream, frame_array

#: Formats of the frames that faces are restored in, in and out. Of 16 bits, faces have 16 too.
FACE_FORMATS = ("rgb24", "bgr24", "rgb48le")


@dataclass(frozen=True)
class FaceResult(Result):
    """A frame with restored faces.

    ``stages`` has milliseconds of: detect (with tracks), align, wait (for the restorers), paste, total. ``steps`` is
    of the faces; ``restored`` and ``reason`` are of the background, True and empty where there is none.

    Attributes:
        faces: that were found, those included that were left as they are.
    """

    faces: tuple[Face, ...] = ()


@dataclass
class _Job:
    """A frame on its way."""

    frame: npt.NDArray[Any]
    timestamp: float | None
    started: float
    faces: Sequence[Face] = ()
    has_background: bool = False
    #: True for each face that was handed to the restorer, then False: more faces than the restorer takes at a time
    #: are collected while others are still handed in.
    handed_in: queue.SimpleQueue[bool] = field(default_factory=queue.SimpleQueue)
    error: FrameError | None = None
    stages: dict[str, float] = field(default_factory=dict)
    frame_out: npt.NDArray[Any] | None = None
    restored: bool = True
    reason: str = ""


class FaceStream(Closing):
    """Frames in, frames with restored faces out, in order; use it as :class:`elir_trt.stream.Stream`.

    Two threads work: one finds, follows and aligns faces, and hands them to a stream of the face restorer without
    waiting for what comes of them; the other collects and pastes them. So the faces of a frame are restored together,
    and found while those of the frame before are restored. A frame with a timestamp belongs to a film, in which faces
    are followed and smoothed over time; one without stands alone.
    """

    def __init__(
        self,
        *,
        faces: Stream,
        background: Stream | None,
        detector: Detector,
        gates: Gates,
        steps: int,
        depth: int,
        drop: Drop,
        pixels: Pixels,
        size: tuple[int, int] | None,
    ) -> None:
        """Use :meth:`FaceRestorer.stream`; the streams are this one's, and closed with it."""
        self.steps = steps
        self.key: Any = None
        self.pixels = pixels
        self._faces = faces
        self._background = background
        self._detector = detector
        self._gates = gates
        self._tracker = Tracker(gates)
        self._depth = depth
        self._drop = drop
        self._size = size
        self._ring: Ring[_Job] = Ring(depth, drop)
        self._begun: queue.SimpleQueue[tuple[int, _Job] | None] = queue.SimpleQueue()
        self._process = Process()
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for target, name in (
                (self._prepare_all, "elir-faces-find"),
                (self._finish_all, "elir-faces-paste"),
            )
        ]
        for thread in self._threads:
            thread.start()

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the frames; None until it is known."""
        return self._size

    def submit(
        self, frame: Any, timestamp: float | None = None, *, timeout: float | None = None
    ) -> int | None:
        """Hand in a frame, in memory of the CPU; it is copied before the call returns.

        Args:
            frame: in the stream's format.
            timestamp: seconds, of a frame of a film; None: the frame stands alone.
            timeout: seconds to wait for a place in the ring (drop="block"); None: as long as it takes.

        Returns:
            The frame's index, or None if it was dropped.

        Raises:
            FrameError: the frame is not such an array, or not of the stream's size. The stream goes on.
            TimeoutError: no place came free in time.
            ValueError: the stream is closed.
        """
        self._process.require("stream")
        started = time.perf_counter()
        array = frame_array(frame, "cpu")
        size = self.pixels.size_of(array)
        if self._size is None:
            self._size = size
        if size != self._size:
            raise FrameError(
                f"frame is {size[1]}x{size[0]}; this stream takes "
                f"{self._size[1]}x{self._size[0]} (open another stream for another size)"
            )
        try:
            return self._ring.put(_Job(array.copy(), timestamp, started), timeout)
        except Closed:
            raise ValueError("the stream is closed") from None

    def result(self, timeout: float | None = None) -> FaceResult:
        """Wait for the next result, in the order of submission; raises as :meth:`elir_trt.stream.Stream.result`."""
        self._process.require("stream")
        try:
            index, job = self._ring.take(timeout)
        except Closed:
            raise EOFError("the stream is closed, and all results were collected") from None
        if job.error is not None:
            part, message = job.error.part, job.error.args[0]
            raise FrameError(f"frame {index}: {part}: {message}", index=index, part=part)
        return FaceResult(
            frame=job.frame_out,
            index=index,
            timestamp=job.timestamp,
            steps=self.steps,
            stages=job.stages,
            latency_ms=job.stages["total"],
            restored=job.restored,
            reason=job.reason,
            faces=tuple(job.faces),
        )

    def map(self, frames: Iterable[Frame | tuple[Frame, float | None]]) -> Iterator[FaceResult]:
        """Frames, or pairs of a frame and its timestamp, as an iterator of results, in order.

        Raises:
            FrameError: a frame failed.
            ValueError: the stream drops frames: use ``submit`` and ``result``.
        """
        if self._drop != "block":
            raise ValueError(f"map needs a stream with drop='block'; this one has {self._drop!r}")
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

    def close(self) -> None:
        """Take no more frames. Those in the ring are finished and can still be collected."""
        if self._process.is_current():
            self._ring.close()

    def _prepare_all(self) -> None:
        try:
            while True:
                index, job = self._ring.begin()
                self._begun.put((index, job))
                try:
                    self._prepare(job)
                except FrameError as error:
                    job.error = error
                except Exception as error:
                    job.error = FrameError(f"{type(error).__name__}: {error}", part="align")
                finally:
                    job.handed_in.put(False)
        except Closed:
            self._begun.put(None)

    def _prepare(self, job: _Job) -> None:
        """Find the faces of a frame, and hand them and the frame to the restorers."""
        if self._background is not None:
            self._background.submit(job.frame, job.timestamp)
            job.has_background = True
        begun = time.perf_counter()
        image = as_rgb8(job.frame, self.pixels.format)
        try:
            found = self._detector.detect(image)
        except Exception as error:
            raise FrameError(f"{type(error).__name__}: {error}", part="detect") from error
        if job.timestamp is None:
            job.faces = single_faces(found, self._gates)
        else:
            job.faces = self._tracker.update(found, image, job.timestamp)
        detected = time.perf_counter()
        most = np.iinfo(job.frame.dtype).max
        for face in job.faces:
            if face.restored and face.alignment is not None:
                aligned = cut_out(job.frame, face.alignment.matrix, (SIDE, SIDE))
                self._faces.submit(np.clip(np.rint(aligned), 0, most).astype(job.frame.dtype))
                job.handed_in.put(True)
        job.stages["detect"] = 1e3 * (detected - begun)
        job.stages["align"] = 1e3 * (time.perf_counter() - detected)

    def _finish_all(self) -> None:
        while (item := self._begun.get()) is not None:
            index, job = item
            try:
                self._finish(job)
            except Exception as error:
                job.error = FrameError(f"{type(error).__name__}: {error}", part="paste")
            self._ring.finish(index)
        self._faces.close()
        if self._background is not None:
            self._background.close()

    def _finish(self, job: _Job) -> None:
        """Collect what the restorers made of a frame, all of it, and put it together, unless something failed."""
        begun = time.perf_counter()
        errors: list[FrameError] = []
        restored: list[Any] = []
        base: Any = None
        while job.handed_in.get():
            try:
                restored.append(self._faces.result().frame)
            except FrameError as error:
                errors.append(FrameError(f"a face: {error.args[0]}", part=error.part))
        if job.has_background:
            assert self._background is not None
            try:
                whole = self._background.result()
                base, job.restored, job.reason = whole.frame, whole.restored, whole.reason
            except FrameError as error:
                errors.append(FrameError(f"the background: {error.args[0]}", part=error.part))
        if job.error is None and errors:
            job.error = errors[0]
        if job.error is not None:
            return
        collected = time.perf_counter()
        if base is None:
            base = job.frame if self.pixels.format == self.pixels.output_format else job.frame[:, :, ::-1]
        # A background restorer may have made the frame larger.
        grown = resizing((job.frame.shape[0], job.frame.shape[1]), (base.shape[0], base.shape[1]))
        shown = [face for face in job.faces if face.restored and face.alignment is not None]
        job.frame_out = paste(
            base,
            [
                Patch(pixels, after(face.alignment.matrix, inverse(grown)), face.opacity)
                for face, pixels in zip(shown, restored, strict=True)
                if face.alignment is not None
            ],
        )
        ended = time.perf_counter()
        job.stages["wait"] = 1e3 * (collected - begun)
        job.stages["paste"] = 1e3 * (ended - collected)
        job.stages["total"] = 1e3 * (ended - job.started)


def as_rgb8(frame: npt.NDArray[Any], format: str) -> Frame:
    """A frame of one of :data:`FACE_FORMATS` as detectors take it: ``[H, W, 3]`` uint8, RGB, C-contiguous."""
    if FORMATS[format].dtype == "uint16":
        frame = (frame >> 8).astype(np.uint8)
    return np.ascontiguousarray(frame[:, :, ::-1] if format == "bgr24" else frame, dtype=np.uint8)
