"""TensorRT and TensorRT-RTX run the parts on an NVIDIA GPU.

The parts share one element type there, FP16 or BF16, which lies between them; within a part there may be 8 bits. A
portable bundle keeps the parts in that type, and quantized files in float32, which are typed here: that needs the
package onnx, so that a machine without it has floats alone.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Collection, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from elir_trt.backends import tensorrt_api
from elir_trt.backends.base import (
    Backend,
    Compiled,
    CompileOptions,
    EngineSource,
    PartSource,
    Probe,
    TunedSource,
)
from elir_trt.backends.tensorrt_api import Flavour
from elir_trt.backends.tensorrt_engines import TensorRtEngines, engines_of_bundle, engines_of_source
from elir_trt.errors import BackendError
from elir_trt.gpu import find_gpu, gpu_tag
from elir_trt.recipe import Precision
from elir_trt.tolerances import PartPrecision

if TYPE_CHECKING:
    from elir_trt.backends.tensorrt_builder import EngineBuild

#: Compute capabilities from which GPUs multiply in these types.
_LEAST_CAPABILITY: Mapping[PartPrecision, int] = {"bf16": 80, "fp8": 89}


class TensorRtFamily:
    """The backend, in two flavours: see :class:`elir_trt.backends.base.Backend`."""

    devices: tuple[str, ...] = ("cuda",)
    precisions: tuple[PartPrecision, ...] = ("fp32", "bf16", "fp16", "int8", "int8-full", "fp8")
    by_part = True
    lowers_precision = False
    tunes = True
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
        onnx = source.onnx(self.base_precision(options.precision))
        built, portable = self._built(onnx, source.part, options)
        files[0].write_bytes(built.data)
        return Compiled(built.seconds, built.layers, built.quantized_layers, portable=portable)

    def runner(self, onnx: bytes, part: str, precision: PartPrecision | None) -> None:
        """There may be no GPU where a bundle is built."""
        return None

    def reason_against(
        self, part: str, quantized: bytes, floating: bytes, precision: PartPrecision
    ) -> str | None:
        """By the kernels of both engines, where these can be read: of TensorRT-RTX."""
        if self._flavour != "tensorrt-rtx":
            return None
        engines = [self._built(onnx, part, CompileOptions())[0].data for onnx in (quantized, floating)]
        return self.reason_against_engine(part, engines[0], engines[1], precision)

    def load(self, bundle: EngineSource, device: str) -> TensorRtEngines:
        """Open the engines; the device is the GPU."""
        return engines_of_bundle(bundle, self._flavour)

    def tuned_precisions(self) -> tuple[PartPrecision, ...]:
        """FP16 is the safe one; BF16 or float32 where a bundle has its parts in no other."""
        floats: tuple[PartPrecision, ...] = ("fp16", "bf16", "fp32")
        quantized: tuple[PartPrecision, ...] = ("int8", "fp8") if self._flavour == "tensorrt" else ("int8",)
        capability = int(find_gpu().compute_capability or 0)
        return tuple(p for p in (*floats, *quantized) if capability >= _LEAST_CAPABILITY.get(p, 0))

    def form(self, kept: Collection[PartPrecision], precision: PartPrecision) -> PartPrecision | None:
        """Its own form; where onnx is here BF16 is made of float32, and 8 bits of INT8."""
        types = importlib.util.find_spec("onnx") is not None
        if precision in ("int8", "fp8"):
            return "int8" if types and "int8" in kept else None
        if precision in kept:
            return precision
        return "fp32" if types and precision == "bf16" and "fp32" in kept else None

    def engine_version(self) -> str:
        """TensorRT's."""
        return tensorrt_api.load(self._flavour).version

    def machine(self) -> str:
        """The GPU's name and compute capability, and the driver."""
        return gpu_tag(driver=True) or "no GPU"

    def compile_tuned(
        self,
        onnx: bytes,
        part: str,
        precision: PartPrecision,
        shapes: Mapping[str, Sequence[int]],
        options: CompileOptions,
    ) -> bytes:
        """Build a plan, of the shapes that the file has."""
        if precision in ("int8", "fp8"):
            onnx = self._quantized(onnx, precision)
        if importlib.util.find_spec("onnx") is not None:
            from elir_trt.backends.narrow import narrow_to

            onnx = narrow_to(onnx, self.base_precision(options.precision))
        built, _ = self._built(onnx, part, options)
        if precision in ("int8", "fp8") and built.quantized_layers == 0:
            raise BackendError(f"{self.title} runs no layer of the {part} in {precision}")
        return built.data

    def reason_against_engine(
        self, part: str, quantized: bytes, floating: bytes, precision: PartPrecision
    ) -> str | None:
        """By the kernels of both engines, where these can be read: of TensorRT-RTX."""
        from elir_trt.backends.tensorrt_builder import plan_of
        from elir_trt.backends.tensorrt_plan import reason_against_quantized

        plans = [plan_of(engine, self._flavour) for engine in (quantized, floating)]
        if plans[0] is None or plans[1] is None:
            return None
        return reason_against_quantized(plans[0], plans[1], precision)

    def joins(self, precisions: Mapping[str, PartPrecision]) -> bool:
        """Never: a frame is recorded as one graph, whatever engines are in it."""
        return False

    def compile_direct(
        self,
        onnx: Mapping[str, bytes],
        precisions: Mapping[str, PartPrecision],
        shapes: Mapping[str, Sequence[int]],
    ) -> bytes:
        """There is none: see :meth:`joins`."""
        raise BackendError(f"{self.title} makes an engine for each part")

    def load_tuned(self, source: TunedSource, device: str) -> TensorRtEngines:
        """Make or find the engines, and open them; the device is the GPU."""
        return engines_of_source(source, self._flavour, self._tag())

    def _tag(self) -> str:
        """The version and the GPU, in the names of files."""
        gpu = re.sub(r"[^A-Za-z0-9]+", "-", gpu_tag() or "any")
        return f"{self.version_tag()}-{gpu}"

    def _quantized(self, onnx: bytes, precision: PartPrecision) -> bytes:
        """An INT8 file in the form that this TensorRT computes best."""
        from elir_trt.backends.eight_bits import changed, quantize_residuals, to_fp8

        if self.quantized_residuals:
            onnx = changed(onnx, quantize_residuals)
        return changed(onnx, to_fp8) if precision == "fp8" else onnx

    def _built(self, onnx: bytes, part: str, options: CompileOptions) -> tuple[EngineBuild, bytes]:
        """The engine of a file as it is typed, and the file from which any version builds it again."""
        from elir_trt.backends.tensorrt_builder import build_engine
        from elir_trt.backends.tensorrt_prepare import prepare_part

        cache = None if options.cache is None else options.cache / f"{self._tag()}.cache"
        version = tensorrt_api.load(self._flavour).version
        prepared = prepare_part(onnx, part, self._flavour, version)
        built = build_engine(
            prepared.data,
            flavour=self._flavour,
            part=part,
            timing_cache=cache,
            workspace_bytes=options.workspace_bytes,
            builder_optimization_level=options.builder_optimization_level,
            max_aux_streams=options.max_aux_streams,
            progress=lambda phase, at, of: options.progress(f"{phase} {at}/{of}"),
        )
        return built, prepared.portable


TENSORRT = TensorRtFamily("tensorrt", "TensorRT")
TENSORRT_RTX = TensorRtFamily("tensorrt-rtx", "TensorRT-RTX")
