"""TensorRT and TensorRT-RTX run the parts on an NVIDIA GPU.

One context per part. The parts never run at once, so that they share one block of memory for their activations,
which the core owns as it owns their inputs and outputs. The core calls a part's ``enqueue`` for the first frame and
then while recording; replaying calls nobody.
"""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from elir_trt.backends import tensorrt_api
from elir_trt.backends.base import (
    ELEMENTS,
    Backend,
    Buffers,
    Compiled,
    CompileOptions,
    EngineSource,
    Enqueue,
    PartSource,
    Probe,
    describe,
)
from elir_trt.backends.tensorrt_api import Flavour, ICudaEngine, IExecutionContext, IRuntimeCache, TensorRt
from elir_trt.errors import BackendError, ElirWarning
from elir_trt.files import write_whole
from elir_trt.gpu import gpu_tag, primary_context
from elir_trt.parts import PARTS, part_shapes, part_tensors
from elir_trt.recipe import Precision
from elir_trt.tolerances import PartPrecision

#: TensorRT's names of the core's element types.
_TYPES: Mapping[str, str] = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}
#: File in the bundle's folder for what TensorRT-RTX compiled on this machine.
RUNTIME_CACHE = "tensorrt-rtx/runtime.cache"


class TensorRtFamily:
    """The backend, in two flavours: see :class:`elir_trt.backends.base.Backend`."""

    devices: tuple[str, ...] = ("cuda",)
    precisions: tuple[PartPrecision, ...] = ("fp32", "bf16", "fp16", "int8", "int8-full", "fp8")
    by_part = True
    lowers_precision = False
    tunes = False
    rebuilds = True

    def __init__(self, flavour: Flavour, title: str) -> None:
        self.name: str = flavour
        self.distribution: str = flavour
        self.title = title
        self._flavour = flavour
        # TensorRT-RTX has no such kernel.
        self.quantized_residuals = flavour == "tensorrt"

    def installed(self) -> bool:
        """Whether the package is there."""
        return self._flavour in tensorrt_api.installed()

    def is_default(self, others: Sequence[Backend], gpu: bool) -> bool:
        """Always: TensorRT-RTX builds without a GPU, and where TensorRT is there is one."""
        return True

    def probe(self) -> Probe:
        """Import it; whether it runs what it builds is for the GPU to say."""
        try:
            version = tensorrt_api.load(self._flavour).version
        except Exception as error:  # A broken installation is what this looks for.
            return Probe(False, reason=str(error))
        return Probe(True, f"{version}, builds engines and runs them where there is a GPU")

    def version_tag(self) -> str:
        """The flavour and its version."""
        try:
            return f"{self.name}-{metadata.version(self.name)}"
        except metadata.PackageNotFoundError:
            # JetPack's tensorrt comes from a Debian package without metadata of its own.
            return f"{self.name}-{tensorrt_api.load(self._flavour).version}"

    def engine_files(self, part: str) -> tuple[str, ...]:
        """A plan."""
        return (f"{self.name}/{part}.engine",)

    def keeps_float32(self, precision: PartPrecision | None) -> bool:
        """A plan is read by nobody else."""
        return False

    def base_precision(self, wanted: Precision | None) -> Precision:
        """What is wanted, else float16."""
        return wanted or "fp16"

    def compile(self, source: PartSource, files: Sequence[Path], options: CompileOptions) -> Compiled:
        """Build a plan; its precisions are those of the ONNX file, which is rewritten for the version that is here.

        Raises:
            BackendError: TensorRT is not installed.
            BuildError: this version does not take the part, or the engine cannot be built.
        """
        from elir_trt.backends.tensorrt_builder import build_engine
        from elir_trt.backends.tensorrt_prepare import prepare_part

        cache = None
        if options.cache is not None:
            gpu = re.sub(r"[^A-Za-z0-9]+", "-", gpu_tag() or "any")
            cache = options.cache / f"{self.version_tag()}-{gpu}.cache"
        version = tensorrt_api.load(self._flavour).version
        onnx = source.onnx(self.base_precision(options.precision))
        prepared = prepare_part(onnx, source.part, self._flavour, version)
        built = build_engine(
            prepared.data,
            flavour=self._flavour,
            part=source.part,
            timing_cache=cache,
            workspace_bytes=options.workspace_bytes,
            builder_optimization_level=options.builder_optimization_level,
            max_aux_streams=options.max_aux_streams,
            progress=lambda phase, at, of: options.progress(f"{phase} {at}/{of}"),
        )
        files[0].write_bytes(built.data)
        return Compiled(built.seconds, built.layers, built.quantized_layers, portable=prepared.portable)

    def runner(self, onnx: bytes, part: str, precision: PartPrecision | None) -> None:
        """There may be no GPU where a bundle is built."""
        return None

    def reason_against(
        self, part: str, quantized: bytes, floating: bytes, precision: PartPrecision
    ) -> str | None:
        """By the kernels of both engines, where these can be read: of TensorRT-RTX."""
        from elir_trt.backends.tensorrt_builder import build_engine
        from elir_trt.backends.tensorrt_plan import reason_against_quantized
        from elir_trt.backends.tensorrt_prepare import prepare_part

        if self._flavour != "tensorrt-rtx":
            return None
        version = tensorrt_api.load(self._flavour).version
        plans = []
        for onnx in (quantized, floating):
            prepared = prepare_part(onnx, part, self._flavour, version)
            plan = build_engine(prepared.data, flavour=self._flavour, part=part).plan()
            if plan is None:
                return None
            plans.append(plan)
        return reason_against_quantized(plans[0], plans[1], precision)

    def load(self, bundle: EngineSource, device: str) -> TensorRtEngines:
        """Open the engines; the device is the GPU."""
        return TensorRtEngines(bundle, self._flavour)


TENSORRT = TensorRtFamily("tensorrt", "TensorRT")
TENSORRT_RTX = TensorRtFamily("tensorrt-rtx", "TensorRT-RTX")


class TensorRtEngines:
    """The GPU engines of a bundle."""

    device = "cuda"

    def __init__(self, bundle: EngineSource, flavour: Flavour) -> None:
        """Load the engines; each file's digest was checked when the bundle opened its folder.

        Raises:
            BackendError: TensorRT is missing, or refuses an engine: of another version, another GPU, damaged.
        """
        self.bundle = bundle
        self.name: str = flavour
        whole: Precision = bundle.manifest.specification.precision or "fp16"
        self.precision: str = describe(bundle.precisions(flavour), whole)
        self.element = ELEMENTS[whole]
        self.batch = bundle.manifest.specification.batch
        self._api = tensorrt_api.load(flavour)
        self._engines: dict[str, ICudaEngine] = {}
        self._cache: IRuntimeCache | None = None
        with primary_context(), self._api.messages.collect() as said:
            runtime = self._api.module.Runtime(self._api.logger)
            for part in PARTS:
                (content,) = bundle.read_engine(flavour, part)
                engine = runtime.deserialize_cuda_engine(content)
                if engine is None:
                    raise BackendError(_refusal(bundle, self._api, part, "load", [m.text for m in said]))
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
        return (self.bundle.manifest.specification.size,)

    def bind(self, size: tuple[int, int], batch: int, buffers: Buffers) -> Mapping[str, Enqueue]:
        """Make the parts' contexts and bind them to the core's buffers."""
        architecture = self.bundle.recipe.architecture
        shapes = part_shapes(architecture, size, self.bundle.condition_width, batch)
        bound: dict[str, Enqueue] = {}
        largest = max(engine.device_memory_size_v2 for engine in self._engines.values())
        block = buffers.reserve(max(largest, 1))
        for part, engine in self._engines.items():
            inputs, output = part_tensors(part, architecture)
            for name in (*inputs, output):
                found = tuple(engine.get_tensor_shape(name))
                if found != shapes[name]:
                    raise BackendError(
                        f"{self.bundle.path}: the {part} engine's {name} is {found}; frames of "
                        f"{size[1]}x{size[0]} need {shapes[name]}"
                    )
            spare = self._spare.pop(part, None)
            with primary_context():
                context = self._started(part, engine) if spare is None else spare
                context.set_device_memory(block, largest)
            for name in (*inputs, output):
                if not context.set_tensor_address(name, buffers.address(name)):
                    raise BackendError(f"{self.bundle.path}: the {part} engine does not take {name}")
            bound[part] = _Enqueue(part, context, self._api)
        return bound

    def stream_closed(self) -> None:
        """Keep what TensorRT-RTX compiled in the bundle's folder, where that can be written."""
        if self._cache is None:
            return
        content = self._cache.serialize()
        if content is None or content.nbytes == 0:
            return
        path = self.bundle.path / RUNTIME_CACHE
        # A bundle that is read-only starts a little slower.
        with contextlib.suppress(OSError):
            write_whole(path, memoryview(content))

    def _started(self, part: str, engine: ICudaEngine) -> IExecutionContext:
        with self._api.messages.collect() as said:
            context = self._context(engine)
            if context is None:
                texts = [message.text for message in said]
                raise BackendError(_refusal(self.bundle, self._api, part, "start", texts))
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
            path = self.bundle.path / RUNTIME_CACHE
            if path.is_file() and _is_own(path):
                # A cache of another GPU or version is refused, and made anew.
                self._cache.deserialize(path.read_bytes())
        config.set_runtime_cache(self._cache)
        return engine.create_execution_context(config)

    def _check_types(self) -> None:
        for part, engine in self._engines.items():
            for index in range(engine.num_io_tensors):
                name = engine.get_tensor_name(index)
                found = str(engine.get_tensor_dtype(name)).rsplit(".", 1)[-1]
                if _TYPES.get(found) != self.element:
                    raise BackendError(
                        f"{self.bundle.path}: the {part} engine's {name} is {found}; "
                        f"a bundle of {self.precision} has {self.element}; build the bundle again"
                    )


def _is_own(path: Path) -> bool:
    """Whether the file is this user's: a runtime cache is code, and no manifest vouches for it."""
    return not hasattr(os, "getuid") or path.stat().st_uid == os.getuid()


def _refusal(bundle: EngineSource, api: TensorRt, part: str, what: str, said: list[str]) -> str:
    reason = said[-1].strip() if said else "no reason was given"
    specification = bundle.manifest.specification
    return (
        f"{bundle.path}: {api.flavour} {api.version} does not {what} the {part} engine, built with "
        f"{specification.tensorrt} for {specification.gpu or 'any GPU'}: {reason}; build the bundle again here: "
        f"elir-trt build {bundle.recipe.task} --backend {api.flavour} --weights CHECKPOINT"
    )


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
