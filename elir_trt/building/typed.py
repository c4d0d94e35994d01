"""Types of an ONNX file: a float32 file, with or without Q/DQ, becomes one of FP16 or BF16, strongly typed.

Nodes named as wide stay in float32, between two casts: those whose values overflow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from elir_trt.backends.tensorrt_rewrite import infer_shapes

Half = Literal["fp16", "bf16"]
_TYPES: Mapping[Half, int] = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
_NUMPY: Mapping[Half, npt.DTypeLike] = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}
#: The largest finite number of FP16.
LARGEST_HALF = 65504.0
#: Inputs that stay float32 by ONNX's own rules: sizes and scales.
_FIXED: Mapping[str, tuple[int, ...]] = {"Resize": (1, 2)}


def float_tensors(model: onnx.ModelProto) -> set[str]:
    """Names of all float32 tensors of a file: initializers, inputs, and what nodes compute."""
    graph = infer_shapes(model).graph
    found = {i.name for i in graph.initializer if i.data_type == TensorProto.FLOAT}
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            found.add(value.name)
    return found


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


def narrow(data: bytes, half: Half, wide: Sequence[str] = ()) -> bytes:
    """Turn the float32 tensors of a file, inputs and outputs included, into FP16 or BF16.

    Args:
        data: serialized ONNX model.
        half: the type.
        wide: names of nodes that stay in float32.
    """
    model = onnx.load_model_from_string(data)
    graph = model.graph
    floats, keep = float_tensors(model), set(wide)
    kind, number = _TYPES[half], _NUMPY[half]
    weights = {i.name: i for i in graph.initializer}
    made_wide = {name for node in graph.node if node.name in keep for name in node.output if name in floats}
    fixed: set[str] = set()
    nodes: list[onnx.NodeProto] = []
    cast: dict[str, str] = {}

    def as_type(name: str, wanted_wide: bool) -> str:
        """The name of this tensor in the wanted type, with a cast or a second initializer where there is none."""
        if name not in floats or (name in made_wide) == wanted_wide:
            return name
        other = f"{name}_{'wide' if wanted_wide else half}"
        if other not in cast:
            cast[other] = name
            if name in weights:
                graph.initializer.append(
                    numpy_helper.from_array(numpy_helper.to_array(weights[name]).astype(np.float32), other)
                )
                fixed.add(other)
            else:
                to = TensorProto.FLOAT if wanted_wide else kind
                nodes.append(helper.make_node("Cast", [name], [other], name=f"cast_{other}", to=to))
        return other

    for node in graph.node:
        is_wide = node.name in keep
        for index, name in enumerate(node.input):
            if index in _FIXED.get(node.op_type, ()):
                fixed.add(name)
            else:
                node.input[index] = as_type(name, is_wide)
        for attribute in node.attribute:
            if not is_wide and attribute.t.data_type == TensorProto.FLOAT:
                array = numpy_helper.to_array(attribute.t).astype(number)
                attribute.t.CopyFrom(numpy_helper.from_array(array, attribute.t.name))
            if node.op_type == "Cast" and not is_wide and attribute.i == TensorProto.FLOAT:
                attribute.i = kind
        nodes.append(node)
    for output in graph.output:
        if output.name in made_wide:
            inner = f"{output.name}_wide"
            for node in nodes:
                for names in (node.input, node.output):
                    for index, name in enumerate(names):
                        if name == output.name:
                            names[index] = inner
            nodes.append(
                helper.make_node("Cast", [inner], [output.name], name=f"cast_{output.name}", to=kind)
            )
    del graph.node[:]
    graph.node.extend(nodes)
    for initializer in graph.initializer:
        if initializer.data_type == TensorProto.FLOAT and initializer.name not in fixed:
            with np.errstate(over="ignore"):  # `overflowing` names such weights
                array = numpy_helper.to_array(initializer).astype(number)
            initializer.CopyFrom(numpy_helper.from_array(array, initializer.name))
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = kind
    return bytes(model.SerializeToString())


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
