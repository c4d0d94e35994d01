"""Q/DQ nodes of an ONNX file: how many layers they quantize, and other forms of the same. Needs the package onnx."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from elir_trt.errors import BuildError

#: Largest numbers of the types.
INT8_LARGEST, FP8_LARGEST = 127.0, 448.0
CONVOLUTIONS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def quantize_residuals(model: onnx.ModelProto) -> int:
    """Let sums of a quantized convolution and a tensor that is quantized for another node read that one's 8 bits.

    The ranges are those that the tensor has; sums with a tensor that nobody quantizes stay as they are.

    Returns:
        how many sums were changed.
    """
    graph = model.graph
    made_by = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    computed: set[str] = set()

    def dequantized(name: str) -> str | None:
        """The name of this tensor after its Q/DQ, where these come before."""
        for quantizer in readers.get(name, ()):
            if quantizer.op_type == "QuantizeLinear" and quantizer.input[0] == name:
                for reader in readers.get(quantizer.output[0], ()):
                    if reader.output[0] in computed:
                        return str(reader.output[0])
        return None

    count = 0
    for node in graph.node:
        computed.update(node.output)
        if node.op_type != "Add" or any(name not in made_by for name in node.input):
            continue
        for index, name in enumerate(node.input):
            convolution, other = made_by[name], node.input[1 - index]
            narrow = dequantized(other)
            if not _is_quantized(convolution, made_by) or narrow is None:
                continue
            node.input[1 - index] = narrow
            count += 1
            break
    return count


def _is_quantized(node: onnx.NodeProto, made_by: Mapping[str, onnx.NodeProto]) -> bool:
    return node.op_type in CONVOLUTIONS and all(
        name in made_by and made_by[name].op_type == "DequantizeLinear" for name in node.input[:2]
    )


def count_quantized(model: onnx.ModelProto) -> int:
    """Convolutions and products whose data and weights both come from a DequantizeLinear."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    return sum(_is_quantized(node, made_by) for node in model.graph.node)


def arrays_of(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """The initializers of a file, by their names."""
    return {initializer.name: initializer for initializer in model.graph.initializer}


def quantizers(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, str, str]]:
    """Nodes of Q/DQ with the names of their scale and zero point."""
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            yield node, node.input[1], node.input[2]


def to_fp8(model: onnx.ModelProto) -> None:
    """Give Q/DQ of signed 8 bits the type E4M3: the largest number of a range becomes its largest, 448."""
    arrays = arrays_of(model)
    kind = ml_dtypes.float8_e4m3fn
    scaled: set[str] = set()
    for node, scale, zero in quantizers(model):
        if scale not in scaled:
            narrowed = numpy_helper.to_array(arrays[scale]) * np.float32(INT8_LARGEST / FP8_LARGEST)
            arrays[scale].CopyFrom(numpy_helper.from_array(narrowed.astype(np.float32), scale))
            scaled.add(scale)
        if arrays[zero].data_type == TensorProto.INT8:
            points = np.zeros(numpy_helper.to_array(arrays[zero]).shape, dtype=kind)
            arrays[zero].CopyFrom(numpy_helper.from_array(points, zero))
        weights = arrays.get(node.input[0])
        if weights is not None and weights.data_type == TensorProto.INT8:
            values = numpy_helper.to_array(weights).astype(np.float32) * np.float32(
                FP8_LARGEST / INT8_LARGEST
            )
            weights.CopyFrom(numpy_helper.from_array(values.astype(kind), weights.name))
    for name in list(arrays):
        if arrays[name].data_type == TensorProto.INT8:  # pragma: no cover
            raise BuildError(f"{model.graph.name}: {name} is INT8 still")
