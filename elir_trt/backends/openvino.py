"""OpenVINO runs the parts on the CPU.

One compiled model per part, the latency hint, one stream. Engines that a bundle holds keep their shapes open: they
are reshaped for the frame when a stream opens, and run in bfloat16 where the CPU reports it. Those of a portable
bundle are compiled models of one size, exported, in the precision that was measured to be fastest.
"""

from __future__ import annotations

import importlib.util
import io
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from elir_trt.backends.base import (
    Array,
    Backend,
    Buffers,
    Compiled,
    CompileOptions,
    EngineSource,
    Enqueue,
    PartSource,
    Probe,
    Run,
    TunedSource,
    describe,
)
from elir_trt.cpu import available_cpus, cpu_flags
from elir_trt.errors import BackendError
from elir_trt.extras import install_command
from elir_trt.parts import DIRECT, DIRECT_PARTS, OUTPUTS, PARTS, part_shapes
from elir_trt.recipe import Precision
from elir_trt.tolerances import PartPrecision

_OPTIONS: Mapping[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
HINTS = {"fp32": "f32", "bf16": "bf16"}


def cpu_precisions() -> tuple[Precision, ...]:
    """The precisions in which this CPU runs engines, the fastest first."""
    capabilities = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("bf16", "fp32") if "BF16" in capabilities else ("fp32",)


def cpu_name() -> str:
    """The CPU's name."""
    return str(_core().get_property("CPU", "FULL_DEVICE_NAME"))


def compile_part(model: Any, hint: str) -> Any:
    """Compile a model, or the bytes of an ONNX file, for one request at a time; ``hint``: OpenVINO's type."""
    if isinstance(model, bytes):
        model = _core().read_model(io.BytesIO(model))
    return _core().compile_model(model, "CPU", {**_OPTIONS, "INFERENCE_PRECISION_HINT": hint})


def _has_fast_bf16() -> bool:
    """Whether what is not quantized in an INT8 engine runs faster in bfloat16 than in float32.

    A CPU reports bfloat16 that it computes slowly: Intel's are fast with AMX alone, AMD's with AVX-512.
    """
    if "bf16" not in cpu_precisions():
        return False
    vendor, flags = cpu_flags()
    return "amx_bf16" in flags or (vendor == "AuthenticAMD" and "avx512_bf16" in flags)


def _hint(precision: PartPrecision) -> str:
    """OpenVINO's type for what is not quantized in an engine of this precision."""
    if precision in ("fp32", "bf16"):
        return HINTS[precision]
    return "bf16" if _has_fast_bf16() else "f32"


def read_model(xml: bytes, weights: bytes) -> Any:
    """A model from the contents of its two files."""
    return _core().read_model(model=xml, weights=weights)


def _core() -> Any:
    global _shared_core
    try:
        import openvino as ov
    except ImportError as error:
        raise BackendError(
            f"OpenVINO, which runs the parts on the CPU, cannot be imported ({error}); "
            f"install it with: {install_command('cpu')}"
        ) from error
    with _lock:
        if _shared_core is None:
            _shared_core = ov.Core()
        return _shared_core


_lock = threading.Lock()
_shared_core: Any = None


class OpenVino:
    """The backend: see :class:`elir_trt.backends.base.Backend`."""

    name = "openvino"
    title = "OpenVINO"
    devices: tuple[str, ...] = ("cpu",)
    distribution = "openvino"
    precisions: tuple[PartPrecision, ...] = ("fp32", "bf16", "fp16", "int8", "int8-full")
    by_part = True
    lowers_precision = True
    tunes = True
    rebuilds = False
    quantized_residuals = False

    def installed(self) -> bool:
        """Whether the package is there."""
        return importlib.util.find_spec("openvino") is not None

    def is_default(self, others: Sequence[Backend], gpu: bool) -> bool:
        """Always: every machine has a CPU."""
        return True

    def probe(self) -> Probe:
        """Ask for the CPU's name and precisions."""
        try:
            import openvino as ov

            version = str(ov.__version__).partition("-")[0]
            return Probe(True, f"{version} on {cpu_name()}, precisions {', '.join(cpu_precisions())}")
        except ImportError:
            return Probe(False, reason=f"not installed: {install_command('cpu')}")
        except Exception as error:  # A broken installation is what this looks for.
            return Probe(False, reason=f"{type(error).__name__}: {error}")

    def version_tag(self) -> None:
        """Its files are read by any later version."""
        return None

    def engine_files(self, part: str) -> tuple[str, ...]:
        """A model in two files."""
        return (f"openvino/{part}.xml", f"openvino/{part}.bin")

    def keeps_float32(self, precision: PartPrecision | None) -> bool:
        """Whatever is not quantized: the precision is lowered when a stream opens."""
        return not (precision or "").startswith(("int8", "fp8"))

    def base_precision(self, wanted: Precision | None) -> Precision:
        """What was wanted where this CPU reports it, else the fastest, or float32."""
        usable = cpu_precisions()
        if wanted is None:
            return usable[0]
        return wanted if wanted in usable else "fp32"

    def compile(self, source: PartSource, files: Sequence[Path], options: CompileOptions) -> Compiled:
        """Convert the float32 file."""
        onnx = source.onnx("fp32")
        began = time.perf_counter()
        _core()  # Says what to install.
        import openvino as ov

        ov.save_model(ov.convert_model(io.BytesIO(onnx)), files[0], compress_to_fp16=options.half_weights)
        return Compiled(time.perf_counter() - began)

    def runner(self, onnx: bytes, part: str, precision: PartPrecision | None) -> Run:
        """The file as the CPU computes it; what is not quantized in the CPU's fastest type, or in float32."""
        exact = precision == "fp32" or "bf16" not in cpu_precisions()
        return _run_of(compile_part(onnx, "f32" if exact else "bf16"))

    def reference_runner(self, files: Sequence[bytes], part: str, shapes: Mapping[str, Sequence[int]]) -> Run:
        """The part in float32, of an engine's two files or of an ONNX file."""
        model = _float_tensors(files[0]) if len(files) == 1 else read_model(*files)
        model.reshape({name: list(shapes[name]) for name in _input_names(model)})
        return _run_of(compile_part(model, "f32"))

    def reason_against(self, part: str, quantized: bytes, floating: bytes, precision: PartPrecision) -> None:
        """Its engines are timed."""
        return None

    def load(self, bundle: EngineSource, device: str) -> OpenVinoEngines:
        """Open the engines; the device is the CPU."""
        return OpenVinoEngines(bundle)

    def tuned_precisions(self) -> tuple[PartPrecision, ...]:
        """Float32 is the safe one; INT8 runs on any CPU, fast or not."""
        return ("fp32", "int8", *(p for p in cpu_precisions() if p != "fp32"))

    def engine_version(self) -> str:
        """OpenVINO's, with its build."""
        return str(_core().get_versions("CPU")["CPU"].build_number)

    def machine(self) -> str:
        """The CPU's name and flags, and how many threads an engine has."""
        vendor, flags = cpu_flags()
        return f"{cpu_name()} ({vendor}), {available_cpus()} CPUs: {' '.join(sorted(flags))}"

    def compile_tuned(
        self, onnx: bytes, part: str, precision: PartPrecision, shapes: Mapping[str, Sequence[int]]
    ) -> bytes:
        """Compile and export."""
        try:
            return _exported(_reshaped(onnx, shapes), _hint(precision))
        except RuntimeError as error:
            raise BackendError(f"OpenVINO refuses the {part} in {precision}: {error}") from error

    def joins(self, precisions: Mapping[str, PartPrecision]) -> bool:
        """Where all that is not quantized has one type, as a model has."""
        return len({_hint(precisions[part]) for part in DIRECT_PARTS}) == 1

    def compile_direct(
        self,
        onnx: Mapping[str, bytes],
        precisions: Mapping[str, PartPrecision],
        shapes: Mapping[str, Sequence[int]],
    ) -> bytes:
        """Join the models, so that what lies between them needs neither float32 nor another layout."""
        try:
            model = _joined([_reshaped(onnx[part], shapes) for part in DIRECT_PARTS])
            return _exported(model, _hint(precisions[DIRECT_PARTS[0]]))
        except RuntimeError as error:
            raise BackendError(f"OpenVINO refuses {', '.join(DIRECT_PARTS)} in one: {error}") from error

    def load_tuned(self, source: TunedSource, device: str) -> TunedEngines:
        """The device is the CPU."""
        _core()  # Says what to install.
        return TunedEngines(source)


OPENVINO = OpenVino()


def _run_of(compiled: Any) -> Run:
    request = compiled.create_infer_request()
    names = _input_names(compiled)

    def run(feed: Mapping[str, Array]) -> Array:
        found: Array = request.infer({name: feed[name] for name in names})[0].copy()
        return found

    return run


class OpenVinoEngines:
    """The CPU engines of a bundle."""

    name = "openvino"
    device = "cpu"
    element = "float32"
    batch = None

    def __init__(self, bundle: EngineSource) -> None:
        """Read the engines; each file's digest was checked when the bundle opened its folder.

        Raises:
            BackendError: OpenVINO is missing, refuses a file, or the CPU lacks the bundle's precision.
        """
        self.bundle = bundle
        usable = cpu_precisions()
        whole = OPENVINO.base_precision(bundle.manifest.specification.precision)
        # What is not quantized runs in the CPU's fastest type.
        self._hints = {
            part: whole if p is None else (p if p in usable else ("fp32" if p == "fp16" else usable[0]))
            for part, p in bundle.precisions("openvino").items()
        }
        self.precision = describe(bundle.precisions("openvino"), whole)
        self._models: dict[str, Any] = {}
        for part in PARTS:
            xml, weights = bundle.read_engine("openvino", part)
            try:
                self._models[part] = read_model(xml, weights)
            except RuntimeError as error:
                raise BackendError(f"{bundle.path}: OpenVINO refuses the {part} engine: {error}") from error

    def sizes(self) -> None:
        """Any size: the models are reshaped."""
        return None

    def bind(self, size: tuple[int, int], batch: int, buffers: Buffers) -> Mapping[str, Enqueue]:
        """Compile the four parts for ``batch`` tiles of ``size`` and bind their tensors to the core's buffers."""
        specification = self.bundle.manifest.specification
        shapes = part_shapes(specification.recipe.architecture, size, self.bundle.condition_width, batch)
        bound: dict[str, Enqueue] = {}
        for part in PARTS:
            model = self._models[part].clone()
            try:
                model.reshape({name: list(shapes[name]) for name in _input_names(model)})
                bound[part] = _bind(compile_part(model, HINTS[self._hints[part]]), part, buffers)
            except RuntimeError as error:
                raise BackendError(
                    f"{self.bundle.path}: OpenVINO cannot compile the {part} engine for "
                    f"{batch} x {size[1]}x{size[0]}: {error}"
                ) from error
        return bound

    def stream_closed(self) -> None:
        """Nothing to keep."""


class TunedEngines:
    """CPU engines of a portable bundle, in the precisions that were chosen for this machine."""

    name = "openvino"
    device = "cpu"
    element = "float32"
    batch = None

    def __init__(self, source: TunedSource) -> None:
        self.source = source
        self.precision = describe(source.precisions, "fp32")

    def sizes(self) -> None:
        """Any size: engines are made for each that is met."""
        return None

    def bind(self, size: tuple[int, int], batch: int, buffers: Buffers) -> Mapping[str, Enqueue]:
        """Import the parts' engines and bind their tensors to the core's buffers."""
        source = self.source.at(size)
        engines = {part: source.engine(part, size, batch) for part in PARTS}
        hints = {part: _hint(source.precisions[part]) for part in PARTS}
        direct = source.direct(size, batch)
        if direct is not None:
            engines[DIRECT], hints[DIRECT] = direct, hints[DIRECT_PARTS[0]]
        bound: dict[str, Enqueue] = {}
        for part, content in engines.items():
            try:
                # An import does not keep the type that the engine was compiled for.
                options = {**_OPTIONS, "INFERENCE_PRECISION_HINT": hints[part]}
                bound[part] = _bind(_core().import_model(content, "CPU", options), part, buffers)
            except RuntimeError as error:
                raise BackendError(
                    f"{self.source.path}: OpenVINO does not take the {part} engine: {error}"
                ) from error
        return bound

    def stream_closed(self) -> None:
        """Nothing to keep."""


def _bind(compiled: Any, part: str, buffers: Buffers) -> _Enqueue:
    """A request of a compiled model over the core's buffers."""
    import openvino as ov

    request = compiled.create_infer_request()
    for name in (*_input_names(compiled), OUTPUTS[part]):
        request.set_tensor(name, ov.Tensor(buffers.buffer(name), shared_memory=True))
    return _Enqueue(request)


def _input_names(model: Any) -> list[str]:
    """The names of the inputs of a model, compiled or not."""
    return [_name(port) for port in model.inputs]


def _name(port: Any) -> str:
    return str(port.get_any_name())


def _reshaped(onnx: bytes, shapes: Mapping[str, Sequence[int]]) -> Any:
    """The model of a part for tensors of these shapes, with float32 inputs and outputs."""
    model = _float_tensors(onnx)
    model.reshape({name: list(shapes[name]) for name in _input_names(model)})
    return model


def _joined(models: Sequence[Any]) -> Any:
    """One model of several, one after the other: each takes what the one before gives, and maybe the image."""
    import openvino as ov

    (image,) = models[0].parameters
    last = models[0]
    for following in models[1:]:
        for parameter in following.parameters:
            taken = (
                image.output(0) if _name(parameter.output(0)) == "image" else last.results[0].input_value(0)
            )
            parameter.output(0).replace(taken)
        last = following
    return ov.Model(last.results, models[0].parameters, DIRECT)


def _exported(model: Any, hint: str) -> bytes:
    """A compiled model as bytes."""
    exported = compile_part(model, hint).export_model()
    return exported if isinstance(exported, bytes) else bytes(exported.getvalue())


def _float_tensors(onnx: bytes) -> Any:
    """The model of an ONNX file, with float32 inputs and outputs whatever the file's are."""
    import openvino as ov

    model = _core().read_model(io.BytesIO(onnx))
    if all(port.get_element_type() == ov.Type.f32 for port in (*model.inputs, *model.outputs)):
        return model
    steps = ov.preprocess.PrePostProcessor(model)
    for port in model.inputs:
        steps.input(_name(port)).tensor().set_element_type(ov.Type.f32)
    steps.output().tensor().set_element_type(ov.Type.f32)
    return steps.build()


class _Enqueue:
    """Runs a request over its bound tensors; waiting releases the GIL."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def __call__(self, stream_handle: int) -> None:
        self._request.start_async()
        self._request.wait()
