"""Types of an ONNX file: a float32 file, with or without Q/DQ, becomes one of FP16 or BF16, strongly typed.

Nodes named as wide stay in float32, between two casts: those whose values overflow. Needs the package onnx.
"""

from __future__ import annotations

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
