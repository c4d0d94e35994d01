"""Face restorers: a bundle for faces, a detector, and what becomes of the rest."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, Protocol, get_args

from elir_trt import _core
from elir_trt._core import Geometry
from elir_trt.backends import Engines
from elir_trt.bundle import Bundle
from elir_trt.closing import Closing
from elir_trt.errors import BundleError, FrameError
from elir_trt.faces.alignment import SIDE
from elir_trt.faces.detector import Detector
from elir_trt.faces.face import Face
from elir_trt.faces.gates import Gates
from elir_trt.faces.opening import open_detector
from elir_trt.faces.stream import FACE_FORMATS, FaceStream, as_rgb8
from elir_trt.faces.tracking import single_faces
from elir_trt.formats import Frame, Matrix, PixelFormat, Pixels, check_size, check_whole
from elir_trt.recipe import Recipe
from elir_trt.stream import Drop, Noise, Stream, Temporal, frame_array

#: Faces that are with the face restorer at a time: on a GPU one is copied while another is computed.
_IN_FLIGHT = 4


class FrameRestorer(Protocol):
    """What is needed of a restorer: see :class:`elir_trt.restorer.Restorer`."""

    bundle: Bundle
    engines: Engines
    order: Literal["rgb", "bgr"]

    @property
    def recipe(self) -> Recipe: ...

    def geometry(self, size: tuple[int, int], *, depth: int = ...) -> Geometry:
        """How frames of ``size`` (height, width) lie on the engines."""

    def stream(
        self,
        *,
        depth: int = ...,
        drop: Drop = ...,
        steps: int | None = ...,
        seed: int = ...,
        noise: Noise = ...,
        temporal: Temporal = ...,
        deadline_ms: float | None = ...,
        size: tuple[int, int] | None = ...,
        format: PixelFormat | None = ...,
        output_format: PixelFormat | None = ...,
    ) -> Stream:
        """Open a stream."""


class FaceRestorer(Closing):
    """Restores the faces of frames, and the rest with another restorer or not at all.

    Its streams go wherever a restorer's go, such as :func:`elir_trt.io.pump`. It closes neither restorer.

    Attributes:
        faces: restores aligned faces, 512x512.
        background: restores the frames before faces are pasted into them; None: they stay as they are, bit by bit.
        detector: finds the faces.
        gates: which of them are restored.
        stateful: results of a film depend on the frames before them.
    """

    stateful = True

    def __init__(
        self,
        faces: FrameRestorer,
        *,
        detector: Detector | None = None,
        background: FrameRestorer | None = None,
        gates: Gates | None = None,
    ) -> None:
        """Use :meth:`elir_trt.restorer.Restorer.faces`."""
        made = faces.geometry((SIDE, SIDE)).scaled
        if tuple(made) != (SIDE, SIDE):
            raise BundleError(
                f"the bundle of {faces.recipe.task} makes {made[1]}x{made[0]} of an aligned face of {SIDE}x{SIDE}; "
                "faces need one that keeps this size, such as bfr"
            )
        if background is not None and background.order != faces.order:
            raise ValueError(
                f"background has frames in {background.order}, and faces are in {faces.order}; "
                "open both with one order"
            )
        self.faces = faces
        self.background = background
        self.detector = open_detector() if detector is None else detector
        self.gates = gates or Gates()
        self._single: FaceStream | None = None
        self._lock = threading.Lock()

    @property
    def recipe(self) -> Recipe:
        """The recipe of the bundle for faces."""
        return self.faces.recipe

    @property
    def order(self) -> Literal["rgb", "bgr"]:
        """Channel order of frames, in and out."""
        return self.faces.order

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides the results, so that a film that was begun with something else is begun again."""
        found: dict[str, Any] = {"detector": self.detector.name, "gates": asdict(self.gates)}
        for name, restorer in (("bundle", self.faces), ("background", self.background)):
            if restorer is not None:
                engines = restorer.engines
                found[name] = f"{restorer.bundle.digest}, {engines.name} {engines.precision}"
        return found

    def find(self, image: Any) -> list[Face]:
        """The faces of a picture as :meth:`__call__` takes it, and which of them it leaves as they are, and why."""
        frame = frame_array(image, "cpu")
        own = self._own_format
        Pixels(own, own, "bt709", False).size_of(frame)
        return single_faces(self.detector.detect(as_rgb8(frame, own)), self.gates)

    def __call__(
        self, image: Any, *, steps: int | None = None, seed: int = 0, noise: Noise = "fixed"
    ) -> Frame:
        """Restore the faces of one image.

        Args:
            image: ``[H, W, 3]`` uint8 in the restorers' channel order.
            steps: Euler steps for faces; None: the recipe's default.
            seed, noise: see :meth:`elir_trt.restorer.Restorer.stream`.

        Returns:
            ``[H, W, 3]`` uint8; of another size where a background restorer scales. Without one, and without a face
            that passes the gates, it equals the image.

        Raises:
            FrameError: the image is not such an array, or a part failed.
        """
        frame = frame_array(image, "cpu")
        own = self._own_format
        size = Pixels(own, own, "bt709", False).size_of(frame)
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
        deadline_ms: float | None = None,
        size: tuple[int, int] | None = None,
        format: PixelFormat | None = None,
        output_format: PixelFormat | None = None,
        matrix: Matrix = "bt709",
        full_range: bool = False,
    ) -> FaceStream:
        """Open a stream; arguments as :meth:`elir_trt.restorer.Restorer.stream`, but for these.

        Args:
            steps: Euler steps for faces; the background has its recipe's default.
            temporal, deadline_ms: of the background; faces have no deadline.
            format, output_format: "rgb24", "bgr24" or "rgb48le"; None: the restorers' channel order.

        Raises:
            FrameError: faces are not restored in such formats.
            ValueError: another argument is out of its range.
        """
        check_whole("depth", depth)
        size = check_size(size)
        if not 1 <= depth <= _core.MAX_DEPTH:
            raise ValueError(f"depth is {depth}; expected 1 to {_core.MAX_DEPTH}")
        if drop not in get_args(Drop):
            raise ValueError(f"drop is {drop!r}; allowed: {', '.join(get_args(Drop))}")
        format = format or self._own_format
        output_format = output_format or self._own_format
        for name, value in (("format", format), ("output_format", output_format)):
            if value not in FACE_FORMATS:
                raise FrameError(f"{name} is {value!r}; with faces allowed: {', '.join(FACE_FORMATS)}")
        if (format == "rgb48le") != (output_format == "rgb48le"):
            raise FrameError(
                f"format is {format!r} and output_format {output_format!r}; with faces both have 8 or both 16 bits"
            )
        if self.background is None:
            given: tuple[tuple[str, object, object], ...] = (
                ("temporal", temporal, "off"),
                ("deadline_ms", deadline_ms, None),
            )
            for name, found, usual in given:
                if found != usual:
                    raise ValueError(
                        f"{name} is {found!r}; it is of the background, and these faces have no background restorer"
                    )
        faces = self.faces.stream(
            depth=_IN_FLIGHT,
            steps=steps,
            seed=seed,
            noise=noise,
            size=(SIDE, SIDE),
            format=format,
            output_format=output_format,
        )
        try:
            background = None
            if self.background is not None:
                background = self.background.stream(
                    depth=depth,
                    seed=seed,
                    noise=noise,
                    temporal=temporal,
                    deadline_ms=deadline_ms,
                    size=size,
                    format=format,
                    output_format=output_format,
                )
            return FaceStream(
                faces=faces,
                background=background,
                detector=self.detector,
                gates=self.gates,
                steps=faces.steps,
                depth=depth,
                drop=drop,
                pixels=Pixels(format, output_format, matrix, full_range),
                size=size,
            )
        except BaseException:
            faces.close()
            raise

    @property
    def _own_format(self) -> PixelFormat:
        return "bgr24" if self.faces.order == "bgr" else "rgb24"

    def close(self) -> None:
        """Close the stream that single images went through."""
        with self._lock:
            self._close_single()

    def _close_single(self) -> None:
        if self._single is not None:
            self._single.close()
            self._single = None
