"""What a backend is: one object that says everything about it, and the engines that it opens.

A backend compiles the parts of a bundle, opens them for one frame geometry and gives the core one callable per part,
``enqueue(stream_handle)``, whose tensors are bound to buffers that the core owns. The core calls it: once per frame
on the host device, while recording on CUDA.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from elir_trt.manifest import BuildSpecification, Manifest
from elir_trt.recipe import Precision, Recipe
from elir_trt.tolerances import PartPrecision

#: Runs one part over its bound tensors; the argument is the CUDA stream's handle (0 on the host).
Enqueue = Callable[[int], None]
Array = npt.NDArray[np.float32]
#: Runs one part over numpy arrays by their names (see :func:`elir_trt.parts.part_tensors`), and gives its output;
#: what the part does not take is passed over.
Run = Callable[[Mapping[str, Array]], Array]

#: The core's element type of each precision that its tensors can have.
ELEMENTS: Mapping[str, str] = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


class Buffers(Protocol):
    """Where the core keeps the tensors of the parts."""

    def buffer(self, name: str) -> Array:
        """A view of the tensor ``name`` (see :func:`elir_trt.parts.part_tensors`), on the host device."""

    def view(self, name: str) -> Any:
        """That tensor for other libraries, by DLPack, on any device."""

    def address(self, name: str) -> int:
        """Where that tensor lies, on any device."""

    def reserve(self, bytes: int) -> int:
        """Address of memory of the device that lives as long as the stream."""


class EngineSource(Protocol):
    """What engines are opened from: see :class:`elir_trt.bundle.Bundle`."""

    path: Path
    manifest: Manifest

    @property
    def recipe(self) -> Recipe: ...

    @property
    def condition_width(self) -> int: ...

    def precisions(self, backend: str) -> dict[str, PartPrecision | None]:
        """What each part of a backend came out in; None: what the backend chooses."""

    def read_engine(self, backend: str, part: str) -> list[bytes]:
        """Contents of the files of one engine, verified."""


class Engines(Protocol):
    """Engines of one bundle, ready to be bound.

    Attributes:
        name: of the backend, such as "openvino".
        precision: "fp32", "bf16", "fp16", another of one part, or "mixed".
        device: the core's device that they run on, "cpu" or "cuda".
        element: type of the parts' tensors, "float32", "float16" or "bfloat16".
        batch: tiles that they take together; None: any number.
    """

    name: str
    precision: str
    device: str
    element: str
    batch: int | None

    def sizes(self) -> tuple[tuple[int, int], ...] | None:
        """Heights and widths that the engines take; None: any multiple that the recipe allows."""

    def bind(self, size: tuple[int, int], batch: int, buffers: Buffers) -> Mapping[str, Enqueue]:
        """Bind the four parts to the core's buffers, for ``batch`` encoder inputs of ``size`` (height, width).

        Where the engines have one for frames without steps it is bound too (:data:`elir_trt.parts.DIRECT`).
        """

    def stream_closed(self) -> None:
        """A stream takes no more frames; may be called several times."""


@dataclass(frozen=True)
class Probe:
    """Whether a backend is usable here.

    Attributes:
        usable: it is installed, and starts.
        version: of what runs the engines, and on what where that is known; empty if it is not usable.
        reason: why it is not usable, and what to do; empty if it is.
    """

    usable: bool
    version: str = ""
    reason: str = ""


class PartSource(Protocol):
    """What the engine of a part is made of; each form is made when it is asked for.

    Attributes:
        part: encoder, coarse, velocity or decoder.
    """

    @property
    def part(self) -> str: ...

    def onnx(self, precision: Precision) -> bytes:
        """The part as ONNX, with tensors of ``precision`` where precisions were not chosen part by part."""

    def weights(self) -> Mapping[str, Array]:
        """The part's weights in float32, by their names in the model."""


@dataclass(frozen=True)
class CompileOptions:
    """How the parts of a bundle are compiled.

    Attributes:
        precision: of the bundle; None: what the backend takes then.
        half_weights: keep weights in 16 bits where the engine has them apart from its arithmetic.
        workspace_bytes, builder_optimization_level, max_aux_streams: of TensorRT, under its names: see
            :class:`elir_trt.manifest.BuildSpecification`. Other backends have nothing like these.
        cache: folder for what speeds up later compilations; None: nothing is kept.
        progress: is called with what is being done.
    """

    precision: Precision | None = None
    half_weights: bool = False
    workspace_bytes: int | None = None
    builder_optimization_level: int | None = None
    max_aux_streams: int = 0
    cache: Path | None = None
    progress: Callable[[str], None] = lambda text: None

    @classmethod
    def of(
        cls,
        specification: BuildSpecification,
        *,
        half_weights: bool = False,
        cache: Path | None = None,
        progress: Callable[[str], None] = lambda text: None,
    ) -> CompileOptions:
        """What a bundle's specification says of its engines, and the rest."""
        return cls(
            precision=specification.precision,
            half_weights=half_weights,
            workspace_bytes=specification.workspace_bytes,
            builder_optimization_level=specification.builder_optimization_level,
            max_aux_streams=specification.max_aux_streams,
            cache=cache,
            progress=progress,
        )


@dataclass(frozen=True)
class Compiled:
    """How the engine of a part came out.

    Attributes:
        seconds: time that it took.
        layers: of the network, where the backend knows them.
        quantized_layers: layers that compute in 8 bits, where the backend knows them: of the engine where it can be
            read (TensorRT-RTX), else of the network that it was built from.
        relative_error: of rounded weights, where the backend takes weights; None: that of the ONNX file.
        portable: the ONNX file that this backend compiles again on another machine, without the package onnx; None:
            the one that it was given.
    """

    seconds: float
    layers: int | None = None
    quantized_layers: int | None = None
    relative_error: float | None = None
    portable: bytes | None = None


class Backend(Protocol):
    """One way to run the parts. Only calls that say so import what may be missing.

    Attributes:
        name: as in ``--backend``, in manifests and in the registry.
        title: as it calls itself.
        devices: the core's devices that it runs on, the preferred one first.
        distribution: the package that it needs, as package indexes call it.
        precisions: that its parts can come out in.
        by_part: whether parts may have precisions of their own, and be quantized.
        lowers_precision: it takes float32 files and lowers the precision itself.
        tunes: it is a :class:`TunableBackend`.
        rebuilds: engines are of one machine, and are built again from the ONNX files of a portable bundle.
        quantized_residuals: what is added to a convolution in 8 bits should be in 8 bits too, so that both are one
            kernel.
    """

    name: str
    title: str
    devices: tuple[str, ...]
    distribution: str
    precisions: tuple[PartPrecision, ...]
    by_part: bool
    lowers_precision: bool
    tunes: bool
    rebuilds: bool
    quantized_residuals: bool

    def installed(self) -> bool:
        """Whether it can be imported here; imports nothing."""

    def is_default(self, others: Sequence[Backend], gpu: bool) -> bool:
        """Whether a bundle gets its engines unasked.

        Args:
            others: the backends that are installed here.
            gpu: whether there is a usable GPU.
        """

    def probe(self) -> Probe:
        """Import it and look whether it starts. Never raises."""

    def version_tag(self) -> str | None:
        """What its engines must be built with to run, such as "tensorrt-10.3"; None: any version takes them."""

    def engine_files(self, part: str) -> tuple[str, ...]:
        """Paths in a bundle of the files of one engine."""

    def keeps_float32(self, precision: PartPrecision | None) -> bool:
        """Whether the engine of a part that came out in ``precision`` holds the float32 part."""

    def base_precision(self, wanted: Precision | None) -> Precision:
        """The precision here of parts that nobody asked to be another, in a bundle of precision ``wanted``."""

    def compile(self, source: PartSource, files: Sequence[Path], options: CompileOptions) -> Compiled:
        """Make the engine of a part.

        Args:
            source: of the part.
            files: where to write, one for each of :meth:`engine_files`.
            options: how.

        Raises:
            BackendError: the backend cannot be imported.
            BuildError: it refuses the part.
        """

    def runner(self, onnx: bytes, part: str, precision: PartPrecision | None) -> Run | None:
        """Run an ONNX file with the arithmetic of the engines; None: that is not possible on any machine."""

    def reason_against(
        self, part: str, quantized: bytes, floating: bytes, precision: PartPrecision
    ) -> str | None:
        """Why a quantized part is not known to be faster than its float; None: it is, or time will tell.

        Args:
            part: which.
            quantized, floating: its ONNX files.
            precision: of the first, for messages.
        """

    def load(self, bundle: EngineSource, device: str) -> Engines:
        """Open the engines of a bundle that was not released.

        Raises:
            BackendError: the backend cannot be imported, or refuses an engine.
            BundleError: the bundle has none.
        """


class TunedSource(Protocol):
    """What engines that were chosen by measurement are opened from.

    Attributes:
        path: of the bundle, for messages.
        recipe: of the bundle.
        condition_width: numbers in one row of the conditioning table.
    """

    path: Path
    recipe: Recipe
    condition_width: int

    @property
    def precisions(self) -> Mapping[str, PartPrecision]:
        """Of each part."""

    def engine(self, part: str, size: tuple[int, int], batch: int) -> bytes:
        """The engine of a part for ``batch`` inputs of ``size``, made where there is none."""

    def direct(self, size: tuple[int, int], batch: int) -> bytes | None:
        """The engine of frames without steps, made where there is none; None: the parts run one after the other."""

    def at(self, size: tuple[int, int]) -> TunedSource:
        """The source for inputs of ``size``, for which other precisions may have been chosen."""


class TunableBackend(Backend, Protocol):
    """A backend that makes engines of a portable bundle in several precisions, of which the fastest are taken."""

    def tuned_precisions(self) -> tuple[PartPrecision, ...]:
        """The precisions that this machine's engines can have, the safe one first.

        Raises:
            BackendError: the backend cannot be imported.
        """

    def engine_version(self) -> str:
        """The version of what runs the engines."""

    def machine(self) -> str:
        """The processor that engines are bound to: its name and what it can do."""

    def compile_tuned(
        self, onnx: bytes, part: str, precision: PartPrecision, shapes: Mapping[str, Sequence[int]]
    ) -> bytes:
        """Make the engine of a part.

        Args:
            onnx: the part in float32 or FP16, or quantized where the precision is.
            part: which.
            precision: of the engine.
            shapes: of its tensors.

        Raises:
            BackendError: it refuses the part.
        """

    def joins(self, precisions: Mapping[str, PartPrecision]) -> bool:
        """Whether :data:`elir_trt.parts.DIRECT_PARTS` in these precisions go into one engine."""

    def compile_direct(
        self,
        onnx: Mapping[str, bytes],
        precisions: Mapping[str, PartPrecision],
        shapes: Mapping[str, Sequence[int]],
    ) -> bytes:
        """Make one engine of :data:`elir_trt.parts.DIRECT_PARTS`, from the image to what is decoded.

        Args:
            onnx, precisions: of each of these parts, as :meth:`compile_tuned` takes them.
            shapes: of all tensors.

        Raises:
            BackendError: it refuses a part.
        """

    def load_tuned(self, source: TunedSource, device: str) -> Engines:
        """Open engines; they are asked for when a stream is bound."""


class ReferenceBackend(Backend, Protocol):
    """The backend that float32 parts are kept for, to compare others with."""

    def reference_runner(self, files: Sequence[bytes], part: str, shapes: Mapping[str, Sequence[int]]) -> Run:
        """Run a part in float32, from the contents of its engine files, for tensors of these shapes."""


def describe(precisions: Mapping[str, str | None], whole: str) -> str:
    """One word for the precision of four parts; ``whole`` stands for those that have none."""
    found = {precision or whole for precision in precisions.values()}
    return found.pop() if len(found) == 1 else "mixed"
