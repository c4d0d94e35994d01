"""Rewrites of an ONNX file that compute the same: what older TensorRT versions need, and what costs a GPU less.

All work on float32, FP16 and BF16 files, with or without Q/DQ, and leave names of inputs and outputs alone. What each
is worth is in docs/tensorrt.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from elir_trt.backends.tensorrt_form import FORM, has_form

#: The opset that every TensorRT from 10.3 on takes; FP8 needs 19.
OPSET = 20
#: The most values of a group that TensorRT-RTX normalizes in one kernel, measured on its plans.
LARGEST_SMALL_GROUP = 8192


def for_tensorrt(data: bytes) -> bytes:
    """The form of a part that every supported TensorRT takes, and that costs it fewest bytes.

    Group normalization is lowered to one scale a group (:func:`lower_group_normalization`), concatenations are nested
    (:func:`nest_concatenations`), the opset is at most :data:`OPSET`. The file's metadata say so, and a file whose
    metadata do comes back as it is.

    Args:
        data: serialized ONNX model of a part.
    """
    if has_form(data):
        return data
    model = onnx.load_model_from_string(data)
    lower_group_normalization(model)
    nest_concatenations(model)
    model.metadata_props.add(key=FORM, value=f"opset {OPSET} or before")
    result: bytes = model.SerializeToString()
    return result


def for_tensorrt_rtx(data: bytes) -> bytes:
    """What TensorRT-RTX likes better than the form of :func:`for_tensorrt`: small groups in one kernel each."""
    if b"GroupNormalization" not in data:
        return data
    model = onnx.load_model_from_string(data)
    if not normalize_small_groups(model):
        return data
    result: bytes = model.SerializeToString()
    return result


def nest_concatenations(model: onnx.ModelProto) -> int:
    """Let a concatenation that begins with all that another has joined read that one's output instead.

    A dense block joins what it has seen again for each convolution. Nested, TensorRT lets the convolutions write
    into one buffer, each beside the last, and copies nothing. Bits stay as they are.

    Returns:
        how many concatenations were changed.
    """
    joined: list[tuple[list[str], int, str]] = []
    count = 0
    for node in model.graph.node:
        if node.op_type != "Concat":
            continue
        axis = next(attribute.i for attribute in node.attribute if attribute.name == "axis")
        inputs = list(node.input)
        # The last concatenation is the longest of those that this one goes on from.
        for others, other_axis, output in reversed(joined):
            if axis == other_axis and len(others) < len(inputs) and inputs[: len(others)] == others:
                node.input[:] = [output, *inputs[len(others) :]]
                count += 1
                break
        joined.append((inputs, axis, node.output[0]))
    return count


def lower_group_normalization(model: onnx.ModelProto) -> int:
    """Turn group normalization of opset 21, with one scale a channel, into that of opset 18, with one a group.

    Scales are ones and biases zeros; a multiplication and an addition a channel follow. TensorRT before
    10.15 has no scales a channel, and refuses the file.

    Returns:
        how many normalizations were changed.
    """
    opset = next(entry for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset.version <= OPSET:
        return 0
    # From 21 on, the operators of the parts have got more types and no other meaning, but for this one.
    opset.version = OPSET
    weights = {initializer.name: initializer for initializer in model.graph.initializer}
    constants = _Constants(model)
    nodes: list[NodeProto] = []
    count = 0
    for node in model.graph.node:
        if node.op_type != "GroupNormalization":
            nodes.append(node)
            continue
        count += 1
        attributes = {attribute.name: attribute for attribute in node.attribute}
        groups = attributes["num_groups"].i
        source, scale = node.input[:2]
        kind = weights[scale].data_type
        lowered = helper.make_node(
            "GroupNormalization",
            [source, constants.filled(1.0, groups, kind), constants.filled(0.0, groups, kind)],
            [f"{node.output[0]}.normalized"],
            node.name,
            num_groups=groups,
        )
        if "epsilon" in attributes:
            lowered.attribute.append(attributes["epsilon"])
        nodes.append(lowered)
        nodes += _scaled(node, lowered.output[0], constants, weights)
    _replace_nodes(model, nodes)
    return count


def normalize_small_groups(model: onnx.ModelProto, largest: int = LARGEST_SMALL_GROUP) -> int:
    """Normalize groups of at most ``largest`` values as layers: ``[N, C, H, W]`` seen as ``[N, groups, values]``.

    TensorRT-RTX makes one kernel of this and what follows. Its kernel for group normalization needs another before
    it, which zeroes counters; beyond that size a layer becomes three kernels. The file has to be lowered
    (:func:`lower_group_normalization`) and its shapes static.

    Returns:
        how many normalizations were changed.
    """
    shapes = _static_shapes(model)
    weights = {initializer.name: initializer for initializer in model.graph.initializer}
    constants = _Constants(model)
    nodes: list[NodeProto] = []
    count = 0
    for node in model.graph.node:
        shape = shapes.get(node.input[0]) if node.op_type == "GroupNormalization" else None
        if shape is None or not _is_plain(node, weights):
            nodes.append(node)
            continue
        attributes = {attribute.name: attribute for attribute in node.attribute}
        groups = attributes["num_groups"].i
        values = int(np.prod(shape[1:])) // groups
        if values > largest:
            nodes.append(node)
            continue
        count += 1
        name, output = node.name or node.output[0], node.output[0]
        kind = weights[node.input[1]].data_type
        nodes.append(
            helper.make_node(
                "Reshape",
                [node.input[0], constants.shape([shape[0], groups, values])],
                [f"{output}.groups"],
                f"{name}.groups",
            )
        )
        layer = helper.make_node(
            "LayerNormalization",
            [f"{output}.groups", constants.filled(1.0, values, kind), constants.filled(0.0, values, kind)],
            [f"{output}.layers"],
            node.name,
            axis=-1,
        )
        if "epsilon" in attributes:
            layer.attribute.append(attributes["epsilon"])
        nodes.append(layer)
        nodes.append(
            helper.make_node(
                "Reshape", [f"{output}.layers", constants.shape(shape)], [output], f"{name}.channels"
            )
        )
    if count:
        _replace_nodes(model, nodes)
    return count


class _Constants:
    """Initializers of a model that several nodes share."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._names = {initializer.name for initializer in model.graph.initializer}

    def filled(self, value: float, count: int, kind: int) -> str:
        """The name of a vector of ``count`` numbers that are all ``value``."""
        name = f"{'ones' if value else 'zeros'}_{count}_{TensorProto.DataType.Name(kind).lower()}"
        return self.add(name, np.full(count, value, dtype=helper.tensor_dtype_to_np_dtype(kind)))

    def shape(self, shape: Iterable[int]) -> str:
        """The name of a vector that is a shape."""
        sizes = list(shape)
        return self.add(f"shape_{'_'.join(map(str, sizes))}", np.array(sizes, dtype=np.int64))

    def add(self, name: str, array: npt.NDArray[np.generic]) -> str:
        """The name of this array, which is added where there is none of that name."""
        if name not in self._names:
            self._graph.initializer.append(numpy_helper.from_array(array, name))
            self._names.add(name)
        return name


def _scaled(
    node: NodeProto, source: str, constants: _Constants, weights: Mapping[str, TensorProto]
) -> list[NodeProto]:
    """The multiplication and the addition a channel that ``node`` did besides normalizing."""
    _, scale, bias = node.input
    name, output = node.name or node.output[0], node.output[0]
    columns = [
        constants.add(f"{weight}.{index}", numpy_helper.to_array(weights[weight]).reshape(-1, 1, 1))
        for index, weight in enumerate((scale, bias))
    ]
    return [
        helper.make_node("Mul", [source, columns[0]], [f"{output}.scaled"], f"{name}.scale"),
        helper.make_node("Add", [f"{output}.scaled", columns[1]], [output], f"{name}.bias"),
    ]


def _is_plain(node: NodeProto, weights: Mapping[str, TensorProto]) -> bool:
    """Whether a group normalization only normalizes: its scales are ones and its biases zeros."""
    if any(name not in weights for name in node.input[1:]):
        return False
    scale, bias = (numpy_helper.to_array(weights[name]).astype(np.float32) for name in node.input[1:])
    return bool(np.all(scale == 1) and not bias.any())


def infer_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a model with the types and shapes of its tensors, as ONNX infers them.

    ONNX says nothing of group normalization before opset 21, and of nothing that comes after one: in the copy it is
    an identity, which has the same types.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.op_type == "GroupNormalization":
            node.op_type = "Identity"
            del node.input[1:]
            del node.attribute[:]
    return onnx.shape_inference.infer_shapes(copy)


def _static_shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    graph = infer_shapes(model).graph
    found = {}
    for value in (*graph.input, *graph.output, *graph.value_info):
        dimensions = value.type.tensor_type.shape.dim
        if dimensions and all(dimension.HasField("dim_value") for dimension in dimensions):
            found[value.name] = [dimension.dim_value for dimension in dimensions]
    return found


def _replace_nodes(model: onnx.ModelProto, nodes: Iterable[NodeProto]) -> None:
    kept = list(nodes)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    used = {name for node in kept for name in node.input} | {output.name for output in model.graph.output}
    initializers = [i for i in model.graph.initializer if i.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(initializers)
