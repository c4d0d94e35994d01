"""One engine from one ONNX file, by TensorRT or TensorRT-RTX.

The file decides the precision: networks are strongly typed, in every version. The full TensorRT builds for
the GPU that it runs on and needs one; TensorRT-RTX needs none, and what it builds runs on many.
"""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from elir_trt.backends import tensorrt_api
from elir_trt.backends.tensorrt_api import (
    Builder,
    Flavour,
    IBuilderConfig,
    INetworkDefinition,
    IProgressMonitor,
    ITimingCache,
    Message,
    TensorRt,
)
from elir_trt.backends.tensorrt_plan import Plan, read_plan
from elir_trt.backends.widen import widen_transposed
from elir_trt.errors import BuildError, ElirWarning
from elir_trt.files import locked, write_whole

#: Called with a phase of the build, the steps of it that are done, and how many it has. Phases nest.
Progress = Callable[[str, int, int], None]

#: What is known about an error in whose text all of the words occur.
HINTS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("out of memory",), "free GPU memory, or build for a smaller size"),
    (("workspace",), "allow a larger workspace, or build for a smaller size"),
    (("plugin not found",), "the file has an operator that TensorRT does not know"),
)


@dataclass(frozen=True)
class EngineBuild:
    """An engine, and how it came to be.

    Attributes:
        data: the serialized engine.
        layers: layers of the network before TensorRT fused them.
        quantized_layers: convolutions that run in 8 bits, counted in the engine's plan where that can be read
            (TensorRT-RTX; see :meth:`plan`). Elsewhere convolutions and products of the network whose data and
            weights are both dequantized from 8 bits: TensorRT may still run these as floats.
        version: of the TensorRT that built it.
        flavour: "tensorrt" or "tensorrt-rtx".
        seconds: wall-clock time.
        warnings: what TensorRT warned of, each once, and what was changed for it.
    """

    data: bytes
    layers: int
    quantized_layers: int
    version: str
    flavour: Flavour
    seconds: float
    warnings: tuple[str, ...]

    def plan(self) -> Plan | None:
        """Its kernels; None: they cannot be read, as in all versions of full TensorRT."""
        return plan_of(self.data, self.flavour)


def build_engine(
    onnx: bytes | str | Path,
    *,
    flavour: Flavour | None = None,
    part: str | None = None,
    timing_cache: Path | None = None,
    workspace_bytes: int | None = None,
    builder_optimization_level: int | None = None,
    max_aux_streams: int = 0,
    compute_capabilities: Sequence[str] = (),
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> EngineBuild:
    """Build an engine. One is built at a time; other threads wait.

    Args:
        onnx: the ONNX file's contents, or its path.
        flavour: which TensorRT; None: the full one if it is installed, else TensorRT-RTX.
        part: what messages call the engine; None: the name of the graph in the file.
        timing_cache: file that keeps measured times between builds, shared by all engines of one TensorRT on
            one GPU; written whole, under a lock, and merged with what other builds have written. An unusable
            one is warned of and replaced. TensorRT-RTX measures nothing when it builds and leaves the file
            alone.
        workspace_bytes: GPU memory that a layer may use for scratch; None: TensorRT's own limit.
        builder_optimization_level: 0, the fastest build, to 5, the longest search for fast kernels; None: TensorRT's
            own, 3.
        max_aux_streams: streams besides the caller's that an engine may use. With 0, what is recorded into a CUDA
            graph is one chain, and other work of the GPU is not held up.
        compute_capabilities: GPUs to build for, such as "86" and "120"; TensorRT-RTX only. Empty:
            TensorRT-RTX builds one engine for 8.0, 8.6, 8.9 and 12.0 (others, such as Turing's "75", are to
            be named), TensorRT builds for the GPU that is here.
        progress: is called as phases of the build advance.
        cancelled: is asked at every step; once it says True the build stops.

    Raises:
        BackendError: TensorRT is not installed.
        BuildError: the file is not accepted (naming the node), the engine cannot be built, or the build was
            cancelled.

    Whatever ``progress`` or ``cancelled`` raises stops the build and is raised again. So does Ctrl-C.
    """
    api = tensorrt_api.load(flavour)
    if part is None:
        part = _graph_name(onnx)
    if not isinstance(onnx, bytes) and not Path(onnx).is_file():
        raise BuildError(f"{part}: {onnx}: no such ONNX file")
    remarks = []
    if api.flavour == "tensorrt-rtx":
        widened = widen_transposed(onnx if isinstance(onnx, bytes) else Path(onnx))
        if widened is not None:
            onnx, count = widened
            remarks.append(
                f"{count} transposed convolutions compute in float32; TensorRT-RTX has none in bfloat16"
            )
    # Two builds at a time would measure each other's load, and TensorRT has one logger for both.
    with _building, api.messages.collect() as messages:
        began = time.perf_counter()
        try:
            builder = api.module.Builder(api.logger)
            network = builder.create_network(tensorrt_api.strongly_typed(api))
        except (RuntimeError, TypeError) as error:
            # TypeError is what the bindings make of a builder that could not be created.
            hint = "; it needs a GPU, TensorRT-RTX does not" if api.flavour == "tensorrt" else ""
            text = _explain(messages) or str(error)
            raise BuildError(f"{part}: {api.flavour} {api.version} does not start{hint}: {text}") from error
        parser = _parse(api, network, onnx, part)
        config = builder.create_builder_config()
        _set_options(api, config, part, workspace_bytes, builder_optimization_level, max_aux_streams)
        _choose_targets(api, config, compute_capabilities, part)
        cache = None
        if timing_cache is not None and api.features.timing_cache:
            cache = _TimingCache(api, config, timing_cache)
        data = _serialize(api, builder, network, config, part, _Watch(progress, cancelled))
        if cache is not None:
            cache.save()
        del parser  # It owns the weights while the network is built.
        return EngineBuild(
            data=data,
            layers=network.num_layers,
            quantized_layers=_quantized_layers(network, plan_of(data, api.flavour))
            if _has_quantization(onnx)
            else 0,
            version=api.version,
            flavour=api.flavour,
            seconds=time.perf_counter() - began,
            warnings=(*remarks, *(message.text for message in messages if message.severity == "warning")),
        )


_building = threading.Lock()


def _has_quantization(onnx: bytes | str | Path) -> bool:
    content = onnx if isinstance(onnx, bytes) else Path(onnx).read_bytes()
    return b"DequantizeLinear" in content


def plan_of(data: bytes, flavour: Flavour) -> Plan | None:
    """The kernels of an engine; None: they cannot be read, as in all versions of full TensorRT."""
    if flavour == "tensorrt-rtx":
        with contextlib.suppress(BuildError):  # The list of kernels is no promise of TensorRT-RTX.
            return read_plan(data)
    return None


def _quantized_layers(network: INetworkDefinition, plan: Plan | None) -> int:
    """What TensorRT has in 8 bits: by its plan, else read back from the network; never by the file."""
    if plan is not None:
        return plan.quantized_convolutions
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    kinds = [str(layer.type).rsplit(".", 1)[-1] for layer in layers]
    dequantized: set[str] = set()
    for layer, kind in zip(layers, kinds, strict=True):
        read = [layer.get_input(index) for index in range(layer.num_inputs)]
        joined = kind == "CONCATENATION" and all(t is not None and t.name in dequantized for t in read)
        if kind == "DEQUANTIZE" or joined:
            dequantized.update(layer.get_output(index).name for index in range(layer.num_outputs))
    found = 0
    for layer, kind in zip(layers, kinds, strict=True):
        if kind not in ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY"):
            continue
        read = [layer.get_input(index) for index in (0, 1)]
        found += all(tensor is not None and tensor.name in dequantized for tensor in read)
    return found


def _graph_name(onnx: bytes | str | Path) -> str:
    if not isinstance(onnx, bytes):
        return Path(onnx).stem
    try:
        from onnx import load_model_from_string

        return load_model_from_string(onnx).graph.name or "the ONNX file"
    except Exception:  # Whatever is wrong with the file, TensorRT's parser says it better.
        return "the ONNX file"


def _parse(api: TensorRt, network: INetworkDefinition, onnx: bytes | str | Path, part: str) -> object:
    parser = api.module.OnnxParser(network, api.logger)
    with api.messages.collect() as messages:
        # From the path where there is one, so that weights in files beside it are found.
        accepted = parser.parse(onnx) if isinstance(onnx, bytes) else parser.parse_from_file(str(onnx))
    if not accepted or parser.num_errors:
        found = []
        for index in range(parser.num_errors):
            error = parser.get_error(index)
            text = _without_noise(error.desc())
            if error.node() >= 0:
                text = f"node {error.node()} {error.node_name()!r} ({error.node_operator()}): {text}"
            if text not in found:
                found.append(text)
        text = "; ".join(found) or _explain(messages) or "no reason given"
        raise BuildError(f"{part}: {api.flavour} {api.version} refuses the ONNX file: {_hint(text)}{text}")
    if network.num_layers == 0 or network.num_outputs == 0:
        # The parser accepts nearly any bytes that hold no graph.
        raise BuildError(f"{part}: not an ONNX file: {api.flavour} {api.version} finds no graph in it")
    return parser


def _set_options(
    api: TensorRt,
    config: IBuilderConfig,
    part: str,
    workspace_bytes: int | None,
    builder_optimization_level: int | None,
    max_aux_streams: int,
) -> None:
    if workspace_bytes is not None:
        if workspace_bytes <= 0:
            raise BuildError(f"{part}: workspace_bytes is {workspace_bytes}; expected a positive number")
        config.set_memory_pool_limit(api.module.MemoryPoolType.WORKSPACE, workspace_bytes)
    if builder_optimization_level is not None:
        if not 0 <= builder_optimization_level <= 5:
            raise BuildError(
                f"{part}: builder_optimization_level is {builder_optimization_level}; expected 0 to 5"
            )
        config.builder_optimization_level = builder_optimization_level
    if max_aux_streams < 0:
        raise BuildError(f"{part}: max_aux_streams is {max_aux_streams}; expected 0 or more")
    config.max_aux_streams = max_aux_streams
    if api.features.user_allocation:
        # Else an engine may allocate while it runs, which cannot be recorded.
        config.set_flag(api.module.BuilderFlag.REQUIRE_USER_ALLOCATION)


def _choose_targets(api: TensorRt, config: IBuilderConfig, names: Sequence[str], part: str) -> None:
    if not names:
        return
    if not api.features.compute_capabilities:
        raise BuildError(
            f"{part}: compute capabilities are {', '.join(names)}; {api.flavour} {api.version} only builds "
            "for the GPU that is here, TensorRT-RTX also builds for others: pip install tensorrt-rtx"
        )
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        target = tensorrt_api.compute_capability(api, name)
        if target is None or not config.set_compute_capability(target, index):
            raise BuildError(
                f"{part}: compute capability is {name!r}; {api.flavour} {api.version} builds for "
                f"{', '.join(tensorrt_api.compute_capabilities(api))}"
            )


def _serialize(
    api: TensorRt,
    builder: Builder,
    network: INetworkDefinition,
    config: IBuilderConfig,
    part: str,
    watch: _Watch,
) -> bytes:
    config.progress_monitor = _make_monitor(api, watch)
    with api.messages.collect() as messages:
        memory = builder.build_serialized_network(network, config)
    if watch.raised is not None:
        raise watch.raised
    if watch.stopped:
        raise BuildError(f"{part}: cancelled")
    if memory is None:
        text = _explain(messages) or "no reason given"
        raise BuildError(f"{part}: {api.flavour} {api.version} cannot build the engine: {_hint(text)}{text}")
    return bytes(memory)


class _Watch:
    """Passes the build's progress on and stops it; exceptions wait here until C++ has returned."""

    def __init__(self, progress: Progress | None, cancelled: Callable[[], bool] | None) -> None:
        self.raised: BaseException | None = None
        self.stopped = False
        self._progress = progress
        self._cancelled = cancelled
        self._lock = threading.Lock()
        self._steps: dict[str, int] = {}

    def start(self, phase: str, steps: int) -> None:
        """A phase begins; it has no way to stop the build, its first step has."""
        self._steps[phase] = steps
        self._report(phase, 0)

    def advance(self, phase: str, step: int) -> bool:
        """Step number ``step`` of a phase is done; False stops the build."""
        return self._report(phase, step + 1)

    def finish(self, phase: str) -> None:
        """A phase is over; TensorRT does not always take its last step."""
        self._report(phase, self._steps.get(phase, 0))

    def _report(self, phase: str, done: int) -> bool:
        # TensorRT may call from several threads; callers of build_engine need not care.
        with self._lock:
            try:
                if self.raised is None and not self.stopped:
                    if self._progress is not None:
                        steps = self._steps.get(phase, done)
                        self._progress(phase, min(done, steps), steps)
                    self.stopped = self._cancelled is not None and self._cancelled()
            except BaseException as error:
                self.raised = error
            return self.raised is None and not self.stopped


def _make_monitor(api: TensorRt, watch: _Watch) -> IProgressMonitor:
    class Monitor(api.module.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            watch.start(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return watch.advance(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            watch.finish(phase_name)

    return cast(IProgressMonitor, Monitor())


class _TimingCache:
    """A timing cache in a file. Nothing that goes wrong with it stops a build."""

    def __init__(self, api: TensorRt, config: IBuilderConfig, path: Path) -> None:
        """Give the file's cache to ``config``, or an empty one."""
        self._api = api
        self._config = config
        self._path = path
        data = self._read()
        cache = None
        if data:
            cache, reason = self._decode(data)
            if cache is not None and not config.set_timing_cache(cache, False):
                cache, reason = None, "it was made by another TensorRT or on another GPU"
            if cache is None:
                self._warn(f"is not used and will be replaced: {reason}")
        if cache is None:
            empty = config.create_timing_cache(b"")
            if empty is not None:
                config.set_timing_cache(empty, False)

    def save(self) -> None:
        """Merge what was measured into the file."""
        cache = self._config.get_timing_cache()
        if cache is None:
            return
        try:
            with locked(self._path):
                written, _ = self._decode(self._read())
                if written is not None:
                    cache.combine(written, False)
                memory = cache.serialize()
                if memory is not None:
                    write_whole(self._path, bytes(memory))
        except OSError as error:
            self._warn(f"cannot be written: {error.strerror}")

    def _read(self) -> bytes:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            self._warn(f"cannot be read: {error.strerror}")
            return b""

    def _decode(self, data: bytes) -> tuple[ITimingCache | None, str]:
        """The cache in ``data``, or None and why not."""
        if not data:
            return None, "it is empty"
        with self._api.messages.collect() as messages:
            cache = self._config.create_timing_cache(data)
        # Unreadable data gives an empty cache and a warning, in some versions no cache.
        if cache is None or messages:
            return None, _explain(messages) or "it cannot be read"
        return cache, ""

    def _warn(self, text: str) -> None:
        warnings.warn(f"timing cache {self._path} {text}", ElirWarning, stacklevel=4)


def _explain(messages: Sequence[Message]) -> str:
    """The errors among the messages, else the warnings, in one line."""
    for severity in ("error", "warning"):
        found = [_without_noise(message.text) for message in messages if message.severity == severity]
        if any(found):
            return "; ".join(text for text in found if text)
    return ""


def _without_noise(text: str) -> str:
    """Without the complaints about a missing CUDA driver, which TensorRT-RTX makes and does not mean."""
    lines = (line.strip() for line in text.splitlines())
    return " ".join(line for line in lines if line and "catchCudaError" not in line)


def _hint(text: str) -> str:
    lower = text.lower()
    return next((f"{hint}: " for words, hint in HINTS if all(word in lower for word in words)), "")
