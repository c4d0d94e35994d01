"""Running engines of several precisions in turns, through the real stages of the core's streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from elir_trt import _core
from elir_trt._core import Geometry
from elir_trt.backends.base import Engines
from elir_trt.bundle import Bundle
from elir_trt.errors import BackendError
from elir_trt.parts import DIRECT, PARTS
from elir_trt.tolerances import PartPrecision

Frame = npt.NDArray[np.uint8]


class Bench:
    """A stream whose parts can be exchanged between frames.

    All engines are bound to the same tensors, and what a frame meets between them is what it always meets.

    Attributes:
        assignment: the precision of each part for the frames that come.
    """

    def __init__(
        self,
        bundle: Bundle,
        engines: Mapping[PartPrecision, Engines],
        size: tuple[int, int],
        direct: Engines | None = None,
    ) -> None:
        """Open a stream.

        Args:
            bundle: of the engines.
            engines: of every part in each precision; all of one backend and device.
            size: height and width of frames, and of the engines' input.
            direct: engines of which that of frames without steps is used, whatever is assigned; None: frames go
                through all parts.
        """
        first = next(iter(engines.values()))
        batch = first.batch or 1
        self._stream = _stream(bundle, first, size)
        self._bound = {
            precision: of_precision.bind(size, batch, self._stream)
            for precision, of_precision in engines.items()
        }
        self.assignment: dict[str, PartPrecision] = dict.fromkeys(PARTS, next(iter(engines)))
        for part in PARTS:
            self._stream.set_part(part, self._runs(part))
        if direct is not None:
            self._stream.set_part(DIRECT, direct.bind(size, batch, self._stream)[DIRECT])
        self._stream.start()

    def run(
        self, assignment: Mapping[str, PartPrecision], frame: Frame, steps: int
    ) -> tuple[Frame, dict[str, float]]:
        """Restore a frame with these engines.

        Returns:
            the restored frame ``[H, W, 3]``, and the milliseconds of each stage.

        Raises:
            BackendError: an engine failed.
        """
        self.assignment = dict(assignment)
        return _restored(self._stream, assignment, frame, steps)

    def close(self) -> None:
        """Give the engines back."""
        self._stream.abort()

    def _runs(self, part: str) -> Callable[[int], None]:
        def run(stream_handle: int) -> None:
            self._bound[self.assignment[part]][part](stream_handle)

        return run


class FrameBench:
    """A stream of one assignment, as it will be opened: on a GPU its frames are recorded, so that nothing in it can
    be exchanged.
    """

    def __init__(self, bundle: Bundle, engines: Engines, size: tuple[int, int]) -> None:
        """Open a stream.

        Args:
            bundle: of the engines.
            engines: of every part.
            size: height and width of frames, and of the engines' input.
        """
        self._engines = engines
        self._stream = _stream(bundle, engines, size)
        for part, enqueue in engines.bind(size, engines.batch or 1, self._stream).items():
            self._stream.set_part(part, enqueue)
        self._stream.start()

    def run(
        self, assignment: Mapping[str, PartPrecision], frame: Frame, steps: int
    ) -> tuple[Frame, dict[str, float]]:
        """Restore a frame; the assignment, which is that of the engines, is for messages. As :meth:`Bench.run`."""
        return _restored(self._stream, assignment, frame, steps)

    def close(self) -> None:
        """Give the engines back, and let them keep what they compiled as they started."""
        self._stream.abort()
        self._engines.stream_closed()


def _stream(bundle: Bundle, engines: Engines, size: tuple[int, int]) -> _core.Stream:
    """A stream for frames of one size, that go through engines of that size as they are."""
    architecture = bundle.recipe.architecture
    geometry = Geometry(
        frame=size,
        engine=size,
        scaled=size,
        scale=(1.0, 1.0),
        interpolation="nearest",
        tiles=((0, 0),),
        downscale=architecture.downscale,
        latent_channels=architecture.latent_channels,
    )
    options = _core.StreamOptions(
        sigma=bundle.recipe.sigma,
        steps=bundle.recipe.default_steps,
        table=bundle.table,
        element=engines.element,
        device=engines.device,
        batch=engines.batch or 1,
        depth=1,
    )
    return _core.Stream(geometry, options)


def _restored(
    stream: _core.Stream, assignment: Mapping[str, PartPrecision], frame: Frame, steps: int
) -> tuple[Frame, dict[str, float]]:
    stream.submit(frame, None, steps, None)
    found = stream.result(None)
    if found.error is not None:
        part, message = found.error
        raise BackendError(f"the {part} failed in {assignment.get(part, 'a stage')}: {message}")
    return found.frame, found.stages
