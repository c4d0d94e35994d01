"""Engines of TensorRT and TensorRT-RTX, opened and bound to the core's buffers.

One context per part. The parts never run at once, so that they share one block of memory for their activations,
which the core owns as it owns their inputs and outputs. The core calls a part's ``enqueue`` for the first frame and
then while recording; replaying calls nobody.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from elir_trt.backends import tensorrt_api
from elir_trt.backends.base import ELEMENTS, Buffers, EngineSource, Enqueue, TunedSource, describe
from elir_trt.backends.tensorrt_api import Flavour, ICudaEngine, IExecutionContext, IRuntimeCache, TensorRt
from elir_trt.errors import BackendError, ElirWarning
from elir_trt.files import write_whole
from elir_trt.gpu import primary_context
from elir_trt.parts import PARTS, part_shapes, part_tensors
from elir_trt.recipe import Architecture, Precision

#: TensorRT's names of the core's element types.
_TYPES: Mapping[str, str] = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}
#: File in the bundle's folder for what TensorRT-RTX compiled on this machine.
RUNTIME_CACHE = "tensorrt-rtx/runtime.cache"


@dataclass(frozen=True)
class EngineSet:
    """The engines of the four parts, and what they are for.

    Attributes:
        path: of the bundle, for messages.
        contents: the serialized engines, by part.
        architecture: of the model.
        condition_width: numbers in one row of the conditioning table.
        size, batch: of the inputs that they were built for.
        precision: of them all in a word.
        element: the core's name of their tensors' type.
        origin: what they were built with and for, in messages.
        remedy: what to do where they are refused, in messages.
        runtime_cache: file for what TensorRT-RTX compiles as it starts them; None: it is not kept.
    """

    path: Path
    contents: Mapping[str, bytes]
    architecture: Architecture
    condition_width: int
    size: tuple[int, int]
    batch: int
    precision: str
    element: str
    origin: str
    remedy: str
    runtime_cache: Path | None


def engines_of_bundle(bundle: EngineSource, flavour: Flavour) -> TensorRtEngines:
    """Open the engines that a bundle holds; each file's digest was checked when the bundle opened its folder.

    Raises:
        BackendError: TensorRT is missing, or refuses an engine: of another version, another GPU, damaged.
    """
    specification = bundle.manifest.specification
    whole: Precision = specification.precision or "fp16"
    contents = {}
    for part in PARTS:
        (contents[part],) = bundle.read_engine(flavour, part)
    opened = EngineSet(
        path=bundle.path,
        contents=contents,
        architecture=bundle.recipe.architecture,
        condition_width=bundle.condition_width,
        size=specification.size,
        batch=specification.batch,
        precision=describe(bundle.precisions(flavour), whole),
        element=ELEMENTS[whole],
        origin=f"built with {specification.tensorrt} for {specification.gpu or 'any GPU'}",
        remedy="build the bundle again here: "
        f"elir-trt build {bundle.recipe.task} --backend {flavour} --weights CHECKPOINT",
        runtime_cache=bundle.path / RUNTIME_CACHE,
    )
    return TensorRtEngines(opened, flavour)


def engines_of_source(source: TunedSource, flavour: Flavour, tag: str) -> TensorRtEngines:
    """Open engines that were made for this machine, or make them.

    Args:
        source: of the engines.
        flavour: of TensorRT.
        tag: of its version and the GPU, in the names of files.

    Raises:
        BackendError: TensorRT is missing, or refuses a part or its engine.
        BuildError: an engine cannot be built.
    """
    opened = EngineSet(
        path=source.path,
        contents={part: source.engine(part, source.size, source.batch) for part in PARTS},
        architecture=source.recipe.architecture,
        condition_width=source.condition_width,
        size=source.size,
        batch=source.batch,
        precision=describe(source.precisions, source.whole),
        element=ELEMENTS[source.whole],
        origin="made on this machine",
        remedy=f"to have it made again, remove the folder engines/{source.digest[:16]} of the cache",
        runtime_cache=None if source.cache is None else source.cache / f"{tag}-{source.digest[:16]}.runtime",
    )
    return TensorRtEngines(opened, flavour)


class TensorRtEngines:
    """The GPU engines of a bundle, of one size."""

    device = "cuda"

    def __init__(self, opened: EngineSet, flavour: Flavour) -> None:
        """Load the engines.

        Raises:
            BackendError: TensorRT is missing, or refuses an engine: of another version, another GPU, damaged.
        """
        self.name: str = flavour
        self.precision = opened.precision
        self.element = opened.element
        self.batch = opened.batch
        self._path, self._size = opened.path, opened.size
        self._architecture, self._condition_width = opened.architecture, opened.condition_width
        self._origin, self._remedy = opened.origin, opened.remedy
        self._cache_file = opened.runtime_cache
        self._api = tensorrt_api.load(flavour)
        self._engines: dict[str, ICudaEngine] = {}
        self._cache: IRuntimeCache | None = None
        with primary_context(), self._api.messages.collect() as said:
            runtime = self._api.module.Runtime(self._api.logger)
            for part in PARTS:
                engine = runtime.deserialize_cuda_engine(opened.contents[part])
                if engine is None:
                    raise BackendError(self._refusal(part, "load", [m.text for m in said]))
                self._engines[part] = engine
        # The runtime must outlive its engines.
        self._runtime = runtime
        self._check_types()
        # Some refusals come only here, such as TensorRT-RTX's of a GPU that it has no kernels for; the first
        # stream takes these contexts.
        with primary_context():
            self._spare = {part: self._started(part, engine) for part, engine in self._engines.items()}

    def sizes(self) -> tuple[tuple[int, int], ...] | None:
        """The one size that the engines were built for."""
        return (self._size,)

    def bind(self, size: tuple[int, int], batch: int, buffers: Buffers) -> Mapping[str, Enqueue]:
        """Make the parts' contexts and bind them to the core's buffers."""
        shapes = part_shapes(self._architecture, size, self._condition_width, batch)
        bound: dict[str, Enqueue] = {}
        largest = max(engine.device_memory_size_v2 for engine in self._engines.values())
        block = buffers.reserve(max(largest, 1))
        for part, engine in self._engines.items():
            inputs, output = part_tensors(part, self._architecture)
            for name in (*inputs, output):
                found = tuple(engine.get_tensor_shape(name))
                if found != shapes[name]:
                    raise BackendError(
                        f"{self._path}: the {part} engine's {name} is {found}; frames of "
                        f"{size[1]}x{size[0]} need {shapes[name]}"
                    )
            spare = self._spare.pop(part, None)
            with primary_context():
                context = self._started(part, engine) if spare is None else spare
                context.set_device_memory(block, largest)
            for name in (*inputs, output):
                if not context.set_tensor_address(name, buffers.address(name)):
                    raise BackendError(f"{self._path}: the {part} engine does not take {name}")
            bound[part] = _Enqueue(part, context, self._api)
        return bound

    def stream_closed(self) -> None:
        """Keep what TensorRT-RTX compiled, where that can be written."""
        if self._cache is None or self._cache_file is None:
            return
        content = self._cache.serialize()
        if content is None or content.nbytes == 0:
            return
        # Where it cannot be kept, the next start is a little slower.
        with contextlib.suppress(OSError):
            self._cache_file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._cache_file, memoryview(content))

    def _started(self, part: str, engine: ICudaEngine) -> IExecutionContext:
        with self._api.messages.collect() as said:
            context = self._context(engine)
            if context is None:
                texts = [message.text for message in said]
                raise BackendError(self._refusal(part, "start", texts))
        return context

    def _context(self, engine: ICudaEngine) -> IExecutionContext | None:
        user_managed = self._api.module.ExecutionContextAllocationStrategy.USER_MANAGED
        if not self._api.features.runtime_cache:
            return engine.create_execution_context(user_managed)
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(user_managed)
        # The core records the whole frame; TensorRT-RTX must not record its part of it.
        config.cuda_graph_strategy = self._api.module.CudaGraphStrategy.DISABLED
        if self._cache is None:
            self._cache = config.create_runtime_cache()
            path = self._cache_file
            if path is not None and path.is_file() and _is_own(path):
                # A cache of another GPU or version is refused, and made anew.
                self._cache.deserialize(path.read_bytes())
        config.set_runtime_cache(self._cache)
        return engine.create_execution_context(config)

    def _refusal(self, part: str, what: str, said: list[str]) -> str:
        reason = said[-1].strip() if said else "no reason was given"
        engine = f"{self._path}: {self._api.flavour} {self._api.version} does not {what} the {part} engine"
        return f"{engine}, {self._origin}: {reason}; {self._remedy}"

    def _check_types(self) -> None:
        for part, engine in self._engines.items():
            for index in range(engine.num_io_tensors):
                name = engine.get_tensor_name(index)
                found = str(engine.get_tensor_dtype(name)).rsplit(".", 1)[-1]
                if _TYPES.get(found) != self.element:
                    raise BackendError(
                        f"{self._path}: the {part} engine's {name} is {found}; "
                        f"a bundle of {self.precision} has {self.element}; build the bundle again"
                    )


def _is_own(path: Path) -> bool:
    """Whether the file is this user's: a runtime cache is code, and no manifest vouches for it."""
    return not hasattr(os, "getuid") or path.stat().st_uid == os.getuid()


class _Enqueue:
    """Puts a part on a CUDA stream."""

    def __init__(self, part: str, context: IExecutionContext, api: TensorRt) -> None:
        self._part, self._context, self._api = part, context, api
        self._asked = False

    def __call__(self, stream_handle: int) -> None:
        if not self._asked:
            # Once, for the first frame, which is never recorded.
            self._asked = True
            self._warn_if_never_recorded(stream_handle)
        with self._api.messages.collect() as said:
            if not self._context.execute_async_v3(stream_handle):
                raise BackendError(said[-1].text if said else f"TensorRT did not run the {self._part}")

    def _warn_if_never_recorded(self, stream_handle: int) -> None:
        if not self._api.features.stream_capturable or self._context.is_stream_capturable(stream_handle):
            return
        warnings.warn(
            f"{self._api.flavour} {self._api.version} cannot record the {self._part} engine into a CUDA graph: every "
            "kernel of every frame is launched by itself; build the bundle again with this version",
            ElirWarning,
            stacklevel=2,
        )
