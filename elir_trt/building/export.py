"""Export: one strongly typed ONNX file per part, checked against torch.

Precision lives in the file: FP16 or BF16 tensors from input to output, because TensorRT 11 has no weak typing
and the same form builds on TensorRT 10 and TensorRT-RTX. Shapes are static. The velocity part takes the time
as one row of a constant table (see :meth:`elir_trt.model.velocity.Velocity.condition`).
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from elir_trt.errors import ExportError
from elir_trt.model.elir import Elir
from elir_trt.model.engine_parts import part_module
from elir_trt.parts import part_shapes, part_tensors
from elir_trt.recipe import Precision

#: First opset with GroupNormalization in its present form.
OPSET = 21

TYPES: Mapping[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}

#: Largest relative error ||exported - torch|| / ||torch|| against the float32 part. Rounding to 8 bits of
#: mantissa costs about 0.4 % per operation in bfloat16; a wrong graph is wrong by tens of percent.
BOUNDS: Mapping[Precision, float] = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 6e-2}


@dataclass(frozen=True)
class ExportedPart:
    """One part as ONNX.

    Attributes:
        name: encoder, coarse, velocity or decoder.
        data: the serialized ONNX model.
        precision: element type of its tensors.
        relative_error: against the float32 part in torch, over one random input.
    """

    name: str
    data: bytes
    precision: Precision
    relative_error: float


def conditioning_table(model: Elir, steps: int) -> npt.NDArray[np.float32]:
    """Rows of the velocity's conditioning for 1 to ``steps`` steps: ``[steps * (steps + 1) / 2, width]``.

    The rows of n steps, at times k / n, are rows ``n (n - 1) / 2`` to ``n (n + 1) / 2``.
    """
    times = torch.tensor([k / n for n in range(1, steps + 1) for k in range(n)], dtype=torch.float32)
    with torch.no_grad():
        return model.fmir.condition(times).float().numpy()


def export_part(
    model: Elir, part: str, *, size: tuple[int, int], precision: Precision = "fp32"
) -> ExportedPart:
    """Export one part and check it against torch.

    Args:
        model: the restorer, in float32, on the CPU.
        part: encoder, coarse, velocity or decoder.
        size: height and width of the encoder's input, in pixels.
        precision: element type of every tensor of the file, inputs and outputs included.

    Raises:
        ExportError: the export failed, or the file's outputs are not those of the part.
    """
    architecture = model.architecture
    inputs, output = part_tensors(part, architecture)
    shapes = part_shapes(architecture, size, model.fmir.condition_width)
    reference = part_module(model, part).eval()
    generator = torch.Generator().manual_seed(0)
    arguments = [_example(shapes[name], name, generator) for name in inputs]
    with torch.no_grad():
        expected: Tensor = reference(*arguments)
    typed = reference.to(TYPES[precision])
    buffer = io.BytesIO()
    try:
        with _quiet():
            program = torch.onnx.export(
                typed,
                tuple(argument.to(TYPES[precision]) for argument in arguments),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=[output],
                optimize=True,
                verbose=False,
            )
        assert program is not None
        proto = program.model_proto
    except Exception as error:
        raise ExportError(f"{part}: the export to ONNX failed: {error}") from error
    proto.graph.name = part
    # The exporter notes which source line each node came from; a file should not know the builder's paths.
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del proto.metadata_props[:]
    buffer.write(proto.SerializeToString())
    data = buffer.getvalue()
    error_ = relative_error(_run_onnx(data, inputs, arguments, precision), expected.numpy())
    if not error_ <= BOUNDS[precision]:
        raise ExportError(
            f"{part}: the exported {precision} file differs from torch by {error_:.2e} (relative); "
            f"at most {BOUNDS[precision]:.0e} is allowed. With fp16, values beyond 65504 overflow: try bf16"
        )
    return ExportedPart(part, data, precision, error_)


def with_batch(data: bytes, batch: int) -> bytes:
    """An ONNX part for ``batch`` images per call, made of one for a single image.

    The parts are convolutions, group normalizations and element-wise operators, none of which states a batch: it
    stands in the shapes of inputs and outputs alone, and in what the exporter noted for what lies between.
    """
    if batch == 1:
        return data
    import onnx

    proto = onnx.load_model_from_string(data)
    for value in (*proto.graph.input, *proto.graph.output):
        if value.name != "condition":  # One row for all images.
            value.type.tensor_type.shape.dim[0].dim_value = batch
    del proto.graph.value_info[:]
    return bytes(proto.SerializeToString())


def relative_error(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    """``||found - expected|| / ||expected||`` (Frobenius); NaN where ``found`` has NaN."""
    difference = found.astype(np.float64) - expected.astype(np.float64)
    return float(np.linalg.norm(difference) / max(float(np.linalg.norm(expected)), 1e-30))


def _example(shape: tuple[int, ...], name: str, generator: torch.Generator) -> Tensor:
    if name == "image":
        return torch.rand(shape, generator=generator)
    return torch.randn(shape, generator=generator)


def _run_onnx(
    data: bytes, inputs: tuple[str, ...], arguments: list[Tensor], precision: Precision
) -> npt.NDArray[np.float32]:
    """Run the file in OpenVINO with float32 inputs; arithmetic as the CPU does the file's types."""
    import openvino as ov

    core = ov.Core()
    model = core.read_model(io.BytesIO(data))
    steps = ov.preprocess.PrePostProcessor(model)
    for name in inputs:
        steps.input(name).tensor().set_element_type(ov.Type.f32)
    steps.output().tensor().set_element_type(ov.Type.f32)
    compiled = core.compile_model(
        steps.build(), "CPU", {"INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" else "undefined"}
    )
    result = compiled({name: value.numpy() for name, value in zip(inputs, arguments, strict=True)})
    return np.array(result[0], dtype=np.float32)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter logs and warns about versions of its own parts; errors still come as exceptions."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
