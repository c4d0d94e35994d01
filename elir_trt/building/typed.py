"""What the values of a float32 ONNX file need of a type, and how much it multiplies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from elir_trt.backends.narrow import float_tensors
from elir_trt.backends.tensorrt_rewrite import infer_shapes

#: The largest finite number of FP16.
LARGEST_HALF = 65504.0


def count_multiplications(data: bytes) -> int:
    """Multiplications of all convolutions of a file whose shapes are static."""
    graph = infer_shapes(onnx.load_model_from_string(data)).graph
    shapes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output, *graph.value_info)
    }
    weights = {initializer.name: math.prod(initializer.dims) for initializer in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            # Each weight is used at each place of the output; of a transposed convolution, of the input.
            batch, _, *places = shapes[node.output[0] if node.op_type == "Conv" else node.input[0]]
            total += weights[node.input[1]] * batch * math.prod(places)
    return total


def largest_values(data: bytes, inputs: Sequence[Mapping[str, npt.NDArray[np.float32]]]) -> dict[str, float]:
    """The largest magnitude of every float32 tensor that a node computes, over these inputs, by ONNX Runtime."""
    import onnxruntime

    model = onnx.load_model_from_string(data)
    floats = float_tensors(model)
    names = [name for node in model.graph.node for name in node.output if name in floats]
    del model.graph.output[:]
    for index, name in enumerate(names):
        model.graph.node.append(helper.make_node("Abs", [name], [f"abs_{index}"]))
        model.graph.node.append(helper.make_node("ReduceMax", [f"abs_{index}"], [f"max_{index}"], keepdims=0))
        model.graph.output.append(helper.make_tensor_value_info(f"max_{index}", TensorProto.FLOAT, []))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found = dict.fromkeys(names, 0.0)
    for feed in inputs:
        for name, value in zip(names, session.run(None, dict(feed)), strict=True):
            found[name] = max(found[name], float(value))
    return found


def overflowing(data: bytes, inputs: Sequence[Mapping[str, npt.NDArray[np.float32]]]) -> dict[str, float]:
    """Nodes whose values or weights FP16 cannot hold, with the largest of these; and nodes that read them, with 0."""
    values = largest_values(data, inputs)
    model = onnx.load_model_from_string(data)
    weights = {
        i.name: float(np.abs(numpy_helper.to_array(i)).max(initial=0.0))
        for i in model.graph.initializer
        if i.data_type == TensorProto.FLOAT
    }
    beyond = {name: value for name, value in values.items() if not value <= LARGEST_HALF}
    found: dict[str, float] = {}
    for node in model.graph.node:
        largest = max((beyond[name] for name in node.output if name in beyond), default=None)
        heaviest = max((weights[name] for name in node.input if name in weights), default=0.0)
        if heaviest > LARGEST_HALF:
            largest = max(heaviest, largest or 0.0)
        if largest is not None:
            found[node.name] = largest
        elif any(name in beyond for name in node.input):
            found[node.name] = 0.0
    return found
