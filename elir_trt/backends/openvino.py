"""OpenVINO runs the parts on the CPU.

One compiled model per part, the latency hint, one stream; bfloat16 where the CPU reports it. The models keep
their shapes open: they are reshaped for the frame when a stream opens.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from elir_trt.errors import BackendError
from elir_trt.parts import PARTS, TENSORS, part_shapes

if TYPE_CHECKING:
    from elir_trt.backends import Buffers, Enqueue
    from elir_trt.bundle import Bundle

HINTS = {"fp32": "f32", "bf16": "bf16"}


def cpu_precisions() -> tuple[str, ...]:
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
    options = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": hint}
    return _core().compile_model(model, "CPU", options)


def read_model(xml: bytes, weights: bytes) -> Any:
    """A model from the contents of its two files."""
    return _core().read_model(model=xml, weights=weights)


def describe(precisions: Mapping[str, str | None], whole: str) -> str:
    """One word for the precision of four parts."""
    found = {precision or whole for precision in precisions.values()}
    return found.pop() if len(found) == 1 else "mixed"


def _core() -> Any:
    global _shared_core
    try:
        import openvino as ov
    except ImportError as error:
        raise BackendError(
            f"OpenVINO, which runs the parts on the CPU, cannot be imported ({error}); "
            "install it with: pip install 'elir_trt[cpu]'"
        ) from error
    with _lock:
        if _shared_core is None:
            _shared_core = ov.Core()
        return _shared_core


_lock = threading.Lock()
_shared_core: Any = None


class OpenVinoBackend:
    """The CPU engines of a bundle."""

    name = "openvino"
    device = "cpu"
    element = "float32"

    def __init__(self, bundle: Bundle) -> None:
        """Read the engines; each file's digest was checked when the bundle opened its folder.

        Raises:
            BackendError: OpenVINO is missing, refuses a file, or the CPU lacks the bundle's precision.
        """
        self.bundle = bundle
        usable = cpu_precisions()
        wanted = bundle.manifest.specification.precision
        whole = wanted if wanted in usable else (usable[0] if wanted is None else "fp32")
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

    def bind(self, size: tuple[int, int], buffers: Buffers) -> Mapping[str, Enqueue]:
        """Compile the four parts for ``size`` and bind their tensors to the core's buffers."""
        import openvino as ov

        specification = self.bundle.manifest.specification
        shapes = part_shapes(specification.recipe.architecture, size, self.bundle.condition_width)
        bound: dict[str, Enqueue] = {}
        for part in PARTS:
            inputs, output = TENSORS[part]
            model = self._models[part].clone()
            try:
                model.reshape({name: list(shapes[name]) for name in inputs})
                request = compile_part(model, HINTS[self._hints[part]]).create_infer_request()
                for name in (*inputs, output):
                    request.set_tensor(name, ov.Tensor(buffers.buffer(name), shared_memory=True))
            except RuntimeError as error:
                raise BackendError(
                    f"{self.bundle.path}: OpenVINO cannot compile the {part} engine for "
                    f"{size[1]}x{size[0]}: {error}"
                ) from error
            bound[part] = _Enqueue(request)
        return bound

    def stream_closed(self) -> None:
        """Nothing to keep."""


class _Enqueue:
    """Runs a request over its bound tensors; waiting releases the GIL."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def __call__(self, stream_handle: int) -> None:
        self._request.start_async()
        self._request.wait()
