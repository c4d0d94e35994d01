"""TensorRT and TensorRT-RTX: every name of theirs that the package uses, and how one of them is found.

Both packages have the same Python API under different module names, and it moved between TensorRT 10.3 and
11.4. The protocols below are the part of it that is used: the type checker refuses any other name in the
package, and a test looks up each of these in lists of what the versions really have. What only some versions
have is in :data:`CHOSEN` and is asked for with ``hasattr`` (see :class:`Features`), never by version number.

Importing this module imports neither package.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, SupportsInt, cast

from elir_trt.errors import BackendError
from elir_trt.machine import jetson_release

Flavour = Literal["tensorrt", "tensorrt-rtx"]

#: Module of each flavour, the full TensorRT first.
MODULES: Mapping[Flavour, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}

#: Names that not every supported version has: class (or "" for the module itself) and members.
CHOSEN: Mapping[str, frozenset[str]] = {
    "": frozenset({"ComputeCapability", "CudaGraphStrategy"}),
    "BuilderFlag": frozenset({"REQUIRE_USER_ALLOCATION"}),
    "IBuilderConfig": frozenset({"num_compute_capabilities", "set_compute_capability"}),
    "ICudaEngine": frozenset({"create_runtime_config"}),
    "IExecutionContext": frozenset({"is_stream_capturable"}),
    "IRuntimeCache": frozenset({"deserialize", "serialize"}),
    "IRuntimeConfig": frozenset(
        {
            "create_runtime_cache",
            "cuda_graph_strategy",
            "set_execution_context_allocation_strategy",
            "set_runtime_cache",
        }
    ),
}

_log = logging.getLogger(__name__)


class IHostMemory(Protocol):
    """Memory that TensorRT owns; it has the buffer protocol."""

    nbytes: int

    def __buffer__(self, flags: int, /) -> memoryview: ...


class ITimingCache(Protocol):
    def combine(self, input_cache: ITimingCache, ignore_mismatch: bool) -> bool: ...
    def serialize(self) -> IHostMemory | None: ...


class MemoryPoolType(Protocol):
    WORKSPACE: object


class NetworkDefinitionCreationFlag(Protocol):
    STRONGLY_TYPED: SupportsInt


class BuilderFlag(Protocol):
    REQUIRE_USER_ALLOCATION: object


class IBuilderConfig(Protocol):
    builder_optimization_level: int
    max_aux_streams: int
    num_compute_capabilities: int
    progress_monitor: object

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None: ...
    def get_timing_cache(self) -> ITimingCache | None: ...
    def set_compute_capability(self, compute_capability: object, index: int) -> bool: ...
    def set_flag(self, flag: object) -> None: ...
    def set_memory_pool_limit(self, pool: object, pool_size: int) -> None: ...
    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool: ...


class ITensor(Protocol):
    name: str


class ILayer(Protocol):
    type: object
    num_inputs: int
    num_outputs: int

    def get_input(self, index: int) -> ITensor | None: ...
    def get_output(self, index: int) -> ITensor: ...


class INetworkDefinition(Protocol):
    num_layers: int
    num_outputs: int

    def get_layer(self, index: int) -> ILayer: ...


class Builder(Protocol):
    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> IHostMemory | None: ...
    def create_builder_config(self) -> IBuilderConfig: ...
    def create_network(self, flags: int) -> INetworkDefinition: ...


class ParserError(Protocol):
    def desc(self) -> str: ...
    def node(self) -> int: ...
    def node_name(self) -> str: ...
    def node_operator(self) -> str: ...


class OnnxParser(Protocol):
    num_errors: int

    def get_error(self, index: int) -> ParserError: ...
    def parse(self, model: bytes) -> bool: ...
    def parse_from_file(self, model: str) -> bool: ...


# What runs engines uses the protocols from here to Runtime.


class TensorIOMode(Protocol):
    INPUT: object


class DataType(Protocol):
    """Its members; each has ``name``."""

    BF16: object
    FLOAT: object
    HALF: object


class ExecutionContextAllocationStrategy(Protocol):
    USER_MANAGED: object


class IRuntimeCache(Protocol):
    """TensorRT-RTX: kernels that were compiled on this machine, kept for the next start."""

    def deserialize(self, blob: bytes, /) -> bool: ...
    def serialize(self) -> IHostMemory | None: ...


class IRuntimeConfig(Protocol):
    cuda_graph_strategy: object

    def create_runtime_cache(self) -> IRuntimeCache: ...
    def set_execution_context_allocation_strategy(self, strategy: object) -> None: ...
    def set_runtime_cache(self, cache: IRuntimeCache) -> bool: ...


class IExecutionContext(Protocol):
    def execute_async_v3(self, stream_handle: int) -> bool: ...
    def is_stream_capturable(self, stream: int) -> bool: ...
    def set_device_memory(self, memory: int, size: int) -> None: ...
    def set_tensor_address(self, name: str, memory: int) -> bool: ...


class ICudaEngine(Protocol):
    device_memory_size_v2: int
    num_io_tensors: int
    num_layers: int

    def create_execution_context(self, strategy_or_config: object, /) -> IExecutionContext | None: ...
    def create_runtime_config(self) -> IRuntimeConfig: ...
    def get_tensor_dtype(self, name: str) -> object: ...
    def get_tensor_mode(self, name: str) -> object: ...
    def get_tensor_name(self, index: int) -> str: ...
    def get_tensor_shape(self, name: str) -> Sequence[int]: ...


class Runtime(Protocol):
    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None: ...


class ILogger(Protocol):
    def log(self, severity: SupportsInt, msg: str) -> None: ...


class IProgressMonitor(Protocol):
    def phase_finish(self, phase_name: str) -> None: ...
    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None: ...
    def step_complete(self, phase_name: str, step: int) -> bool: ...


#: The classes whose members a test looks up in the lists of what each version has.
PROTOCOLS: tuple[type, ...] = (
    Builder,
    BuilderFlag,
    DataType,
    ExecutionContextAllocationStrategy,
    IBuilderConfig,
    ICudaEngine,
    IExecutionContext,
    IHostMemory,
    ILayer,
    ILogger,
    INetworkDefinition,
    IProgressMonitor,
    IRuntimeCache,
    IRuntimeConfig,
    ITensor,
    ITimingCache,
    MemoryPoolType,
    NetworkDefinitionCreationFlag,
    OnnxParser,
    ParserError,
    Runtime,
    TensorIOMode,
)

# Inside of Module the names of the protocols are those of its attributes.
_BuilderFlag = BuilderFlag
_DataType = DataType
_ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy
_MemoryPoolType = MemoryPoolType
_NetworkDefinitionCreationFlag = NetworkDefinitionCreationFlag
_TensorIOMode = TensorIOMode
_MakeBuilder = Callable[[ILogger], Builder]
_MakeParser = Callable[[INetworkDefinition, ILogger], OnnxParser]
_MakeRuntime = Callable[[ILogger], Runtime]


class Module(Protocol):
    """``tensorrt`` or ``tensorrt_rtx``."""

    __version__: str
    Builder: _MakeBuilder
    BuilderFlag: _BuilderFlag
    ComputeCapability: Any
    CudaGraphStrategy: Any
    DataType: _DataType
    ExecutionContextAllocationStrategy: _ExecutionContextAllocationStrategy
    # Base classes; typed as Any because a class can only derive from something the type checker sees.
    ILogger: Any
    IProgressMonitor: Any
    MemoryPoolType: _MemoryPoolType
    NetworkDefinitionCreationFlag: _NetworkDefinitionCreationFlag
    OnnxParser: _MakeParser
    Runtime: _MakeRuntime
    TensorIOMode: _TensorIOMode
    # Only asked whether they have a member.
    IBuilderConfig: type
    IExecutionContext: type
    IRuntimeConfig: type


class Message(NamedTuple):
    """Something that TensorRT said."""

    severity: Literal["error", "warning"]
    text: str


class Messages:
    """TensorRT's warnings and errors, kept while somebody collects them.

    TensorRT takes the first logger of a process for everything that lives at the same time, so there is one
    logger per module and whoever wants its messages collects them. Everything also goes to Python's logging
    at DEBUG, under this module's name.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._collectors: list[list[Message]] = []

    @contextlib.contextmanager
    def collect(self) -> Iterator[list[Message]]:
        """A list that fills with the messages that arrive inside of the ``with`` block, from any thread."""
        found: list[Message] = []
        with self._lock:
            self._collectors.append(found)
        try:
            yield found
        finally:
            with self._lock:
                self._collectors = [kept for kept in self._collectors if kept is not found]

    def add(self, severity: int, text: str) -> None:
        """Take one message; ``severity`` as in ``ILogger.Severity``: 0 and 1 are errors, 2 is a warning."""
        _log.debug("%s", text)
        if severity <= 2:
            message = Message("error" if severity <= 1 else "warning", text)
            with self._lock:
                for found in self._collectors:
                    if message not in found:
                        found.append(message)


@dataclass(frozen=True)
class Features:
    """What this TensorRT has that others do not.

    Attributes:
        compute_capabilities: engines can be built for GPUs that are not here (TensorRT-RTX).
        timing_cache: times of tactics can be kept between builds. TensorRT-RTX has the calls, but chooses
            its kernels where they run: there they are deprecated and do nothing.
        stream_capturable: a context says whether it can be recorded into a CUDA graph.
        runtime_cache: compiles its kernels on the machine that runs, and can keep them (TensorRT-RTX).
        user_allocation: an engine can be built so that it never allocates where it runs, without which it may not be
            recorded (TensorRT-RTX).
    """

    compute_capabilities: bool
    timing_cache: bool
    stream_capturable: bool
    runtime_cache: bool
    user_allocation: bool


@dataclass(frozen=True)
class TensorRt:
    """A TensorRT that was found.

    Attributes:
        module: the Python module.
        flavour: "tensorrt" or "tensorrt-rtx".
        version: such as "10.13.3.9".
        features: what it has that others do not.
        logger: to be passed to everything that takes one.
        messages: what arrived at the logger.
    """

    module: Module
    flavour: Flavour
    version: str
    features: Features
    logger: ILogger
    messages: Messages = field(repr=False)


def installed() -> tuple[Flavour, ...]:
    """The flavours that can be imported here, found without importing them."""
    return tuple(flavour for flavour, name in MODULES.items() if importlib.util.find_spec(name) is not None)


def load(flavour: Flavour | None = None) -> TensorRt:
    """Import TensorRT.

    Args:
        flavour: which one; None: the full TensorRT if it is installed, else TensorRT-RTX.

    Raises:
        BackendError: it is not installed, or does not start; the message says how to install it.
    """
    chosen: Flavour = next(iter(installed()), "tensorrt") if flavour is None else flavour
    if chosen not in MODULES:
        raise BackendError(f"TensorRT flavour is {chosen!r}; allowed are {', '.join(MODULES)}")
    try:
        module = importlib.import_module(MODULES[chosen])
    except (ImportError, OSError) as error:
        # OSError: the Python package is there, and one of its shared libraries is not.
        hint = _how_to_install(chosen)
        raise BackendError(f"{chosen} cannot be imported ({error}); install it with: {hint}") from error
    with _lock:
        known = _loaded.get(chosen)
        if known is None or known.module is not cast(Module, module):
            known = _loaded[chosen] = _describe(cast(Module, module), chosen)
        return known


def _how_to_install(flavour: Flavour) -> str:
    """JetPack has TensorRT as a Debian package, and PyPI's is not for its CUDA; no TensorRT-RTX runs there."""
    if jetson_release() is None:
        return f"pip install {flavour}"
    apt = "sudo apt install python3-libnvinfer, and make the virtual environment with --system-site-packages"
    return apt if flavour == "tensorrt" else f"TensorRT, as TensorRT-RTX has no kernels for a Jetson: {apt}"


def strongly_typed(api: TensorRt) -> int:
    """Flags for ``create_network``: the element types of the ONNX file are those of the engine."""
    return 1 << int(api.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def compute_capability(api: TensorRt, name: str) -> object | None:
    """The target for a compute capability such as "89", or None where TensorRT-RTX has none of that name."""
    return getattr(api.module.ComputeCapability, f"SM{name}", None)


def compute_capabilities(api: TensorRt) -> tuple[str, ...]:
    """The compute capabilities that :func:`compute_capability` knows, such as "89"."""
    names = (name for name in dir(api.module.ComputeCapability) if name.startswith("SM"))
    return tuple(sorted((name[2:] for name in names), key=int))


_lock = threading.Lock()
_loaded: dict[Flavour, TensorRt] = {}


def _describe(module: Module, flavour: Flavour) -> TensorRt:
    messages = Messages()
    features = Features(
        compute_capabilities=hasattr(module, "ComputeCapability")
        and all(hasattr(module.IBuilderConfig, name) for name in CHOSEN["IBuilderConfig"]),
        timing_cache=flavour == "tensorrt",
        stream_capturable=hasattr(module.IExecutionContext, "is_stream_capturable"),
        runtime_cache=hasattr(module, "CudaGraphStrategy")
        and hasattr(module, "IRuntimeConfig")
        and all(hasattr(module.IRuntimeConfig, name) for name in CHOSEN["IRuntimeConfig"]),
        user_allocation=hasattr(module.BuilderFlag, "REQUIRE_USER_ALLOCATION"),
    )
    return TensorRt(module, flavour, module.__version__, features, _make_logger(module, messages), messages)


def _make_logger(module: Module, messages: Messages) -> ILogger:
    class Logger(module.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()

        def log(self, severity: SupportsInt, msg: str) -> None:
            # Called from C++, which an exception must not reach.
            with contextlib.suppress(Exception):
                messages.add(int(severity), msg)

    return cast(ILogger, Logger())
