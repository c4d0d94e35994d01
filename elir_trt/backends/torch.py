"""PyTorch runs the parts: on a GPU where TensorRT is not installed, and as the yardstick for the others.

On a GPU the parts are float16 or bfloat16 modules, channels last. The core records them with the rest of the frame,
so what they allocate comes from a pool of their own: a recording keeps addresses, and nobody else may get these.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

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
)
from elir_trt.errors import BackendError
from elir_trt.parts import PARTS, part_shapes, part_tensors
from elir_trt.recipe import Precision
from elir_trt.tolerances import PartPrecision


class Torch:
    """The backend: see :class:`elir_trt.backends.base.Backend`."""

    name = "torch"
    title = "PyTorch"
    devices: tuple[str, ...] = ("cuda", "cpu")
    distribution = "torch"
    precisions: tuple[PartPrecision, ...] = ("fp32", "fp16", "bf16")
    by_part = False
    lowers_precision = True
    tunes = False
    rebuilds = False
    quantized_residuals = False

    def installed(self) -> bool:
        """Whether the package is there."""
        return importlib.util.find_spec("torch") is not None

    def is_default(self, others: Sequence[Backend], gpu: bool) -> bool:
        """Where there is a GPU and nothing else that runs on it."""
        return gpu and not any("cuda" in other.devices for other in others if other.name != self.name)

    def probe(self) -> Probe:
        """Import it."""
        try:
            import torch
        except ImportError:
            return Probe(False, reason="not installed: pip install torch")
        except Exception as error:  # A broken installation is what this looks for.
            return Probe(False, reason=f"{type(error).__name__}: {error}")
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        return Probe(True, f"{torch.__version__}, {built}")

    def version_tag(self) -> None:
        """Weights are read by any version."""
        return None

    def engine_files(self, part: str) -> tuple[str, ...]:
        """Weights."""
        return (f"torch/{part}.npz",)

    def keeps_float32(self, precision: PartPrecision | None) -> bool:
        """They are weights, maybe rounded, and no model that the reference backend reads."""
        return False

    def base_precision(self, wanted: Precision | None) -> Precision:
        """What is wanted, else float16."""
        return wanted or "fp16"

    def compile(self, source: PartSource, files: Sequence[Path], options: CompileOptions) -> Compiled:
        """Keep the weights."""
        began = time.perf_counter()
        kind = np.float16 if options.half_weights else np.float32
        state = source.weights()
        kept = {key: value.astype(kind) for key, value in state.items()}
        np.savez(files[0], **kept)  # type: ignore[arg-type]
        # What rounding the weights costs; a GPU's own rounding comes on top.
        lost = sum(float(np.sum((kept[key].astype(np.float64) - state[key]) ** 2)) for key in state)
        whole = sum(float(np.sum(state[key].astype(np.float64) ** 2)) for key in state)
        error = (lost / max(whole, 1e-30)) ** 0.5
        return Compiled(time.perf_counter() - began, relative_error=error)

    def runner(self, onnx: bytes, part: str, precision: PartPrecision | None) -> None:
        """It runs no ONNX files."""
        return None

    def reason_against(self, part: str, quantized: bytes, floating: bytes, precision: PartPrecision) -> None:
        """It has no 8 bits."""
        return None

    def load(self, bundle: EngineSource, device: str) -> TorchEngines:
        """Open the weights on "cpu" or "cuda"."""
        return TorchEngines(bundle, device)


TORCH = Torch()


class TorchEngines:
    """The parts of a bundle as torch modules."""

    name = "torch"
    batch = None

    def __init__(self, bundle: EngineSource, device: str) -> None:
        """Read the weights; each file's digest was checked when the bundle opened its folder.

        Args:
            bundle: with weights for torch.
            device: "cpu", in float32, or "cuda", in the bundle's precision or else float16.

        Raises:
            BackendError: torch is missing, sees no GPU, or a file does not hold the part's weights.
        """
        try:
            import torch
        except ImportError as error:
            raise BackendError(
                f"the backend torch cannot be used ({error}); install it with: pip install torch"
            ) from error
        from elir_trt.model.elir import Elir
        from elir_trt.model.engine_parts import part_module

        if device == "cuda" and not torch.cuda.is_available():
            raise BackendError(
                f"the backend torch sees no GPU: torch {torch.__version__} was built "
                f"{'for CUDA ' + torch.version.cuda if torch.version.cuda else 'without CUDA'}"
            )
        self.bundle, self.device = bundle, device
        wanted = bundle.manifest.specification.precision
        self.precision: str = "fp32" if device == "cpu" else wanted or "fp16"
        self.element = ELEMENTS[self.precision]
        model = Elir(bundle.recipe.architecture)
        for part, module in model.parts().items():
            (content,) = bundle.read_engine("torch", part)
            try:
                with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                    state = {key: torch.from_numpy(arrays[key].astype(np.float32)) for key in arrays.files}
                module.load_state_dict(state)
            except (ValueError, RuntimeError) as error:
                text = str(error).splitlines()[0]
                raise BackendError(f"{bundle.path}: torch refuses the {part}'s weights: {text}") from error
        self._modules: dict[str, Any] = {}
        for part in PARTS:
            module = part_module(model, part).eval().requires_grad_(False)
            placed: Any = module.to(device, getattr(torch, self.element))
            self._modules[part] = placed.to(memory_format=torch.channels_last)

    def sizes(self) -> None:
        """Any size."""
        return None

    def bind(self, size: tuple[int, int], batch: int, buffers: Buffers) -> Mapping[str, Enqueue]:
        """Give each part the core's buffers as tensors."""
        import torch

        architecture = self.bundle.recipe.architecture
        shapes = part_shapes(architecture, size, self.bundle.condition_width, batch)
        tensors = {name: torch.utils.dlpack.from_dlpack(buffers.view(name)) for name in shapes}
        pool = torch.cuda.MemPool() if self.device == "cuda" else None
        bound: dict[str, Enqueue] = {}
        for part in PARTS:
            inputs, output = part_tensors(part, architecture)
            bound[part] = _Enqueue(
                self._modules[part], [tensors[name] for name in inputs], tensors[output], pool
            )
        return bound

    def stream_closed(self) -> None:
        """Nothing to keep."""


class _Enqueue:
    """Runs a module over its tensors, on the core's stream."""

    def __init__(self, module: Any, inputs: list[Any], output: Any, pool: Any) -> None:
        self._module, self._inputs, self._output, self._pool = module, inputs, output, pool

    def __call__(self, stream_handle: int) -> None:
        import torch

        with torch.inference_mode(), _on(stream_handle, self._pool):
            self._output.copy_(self._module(*self._inputs))


@contextlib.contextmanager
def _on(stream_handle: int, pool: Any) -> Iterator[None]:
    import torch

    if pool is None:
        yield
        return
    with (
        torch.cuda.stream(torch.cuda.ExternalStream(stream_handle)),  # type: ignore[no-untyped-call]
        torch.cuda.use_mem_pool(pool),
        torch.backends.cudnn.flags(enabled=True, benchmark=True),
    ):
        yield
