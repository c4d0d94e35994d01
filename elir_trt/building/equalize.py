"""Equalizing a part before it is quantized: channels of one tensor get similar ranges, so that 8 bits serve them all.

Activations have one scale a tensor, and a few channels often have ranges many times those of the others, which are
left with a handful of levels. Dividing each channel and multiplying the weights that read it by the same number
changes nothing but that (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
2019; Xiao et al., "SmoothQuant", 2023, for the exponent). Here the division is a node of its own in front of a
convolution, or of the concatenation in front of that, which a backend folds into the quantization that follows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

#: How much of the differences between channels goes from activations into weights: half, on a logarithmic scale.
STRENGTH = 0.5
#: Smallest range of a channel, as a share of its tensor's: one that is always zero must not be divided by zero.
_LEAST_RANGE = 1e-6


def equalize(
    data: bytes,
    inputs: Sequence[Mapping[str, npt.NDArray[np.float32]]],
    *,
    strength: float = STRENGTH,
    leave: Collection[str] = (),
) -> bytes:
    """Equalize the channels that convolutions read.

    Args:
        data: float32 ONNX model of a part.
        inputs: what it is fed, as :func:`elir_trt.building.calibration.part_inputs` gives it.
        strength: 0 changes nothing, 1 gives all channels of a tensor the same range.
        leave: names of convolutions that stay as they are.

    Returns:
        the ONNX model, which computes the same but for rounding.
    """
    model = onnx.load_model_from_string(data)
    graph = model.graph
    read = _read_by_convolutions(graph, leave)
    tensors = list(dict.fromkeys(name for names in read.values() for name in names))
    scales = {
        name: _scales(largest, strength) for name, largest in _channel_maxima(data, tensors, inputs).items()
    }
    weights = {initializer.name: initializer for initializer in graph.initializer}
    joined = {
        node.input[0] for node in graph.node if node.name in read and list(node.input[:1]) != read[node.name]
    }
    nodes: list[NodeProto] = []
    done: set[str] = set()

    def divided(name: str) -> str:
        """The name of a tensor after its division, which is added where there is none."""
        if name not in done:
            done.add(name)
            factors = (1 / scales[name]).reshape(1, -1, 1, 1)
            graph.initializer.append(numpy_helper.from_array(factors, f"{name}.factors"))
            nodes.append(
                helper.make_node("Mul", [name, f"{name}.factors"], [f"{name}.equal"], f"{name}.equalize")
            )
        return f"{name}.equal"

    for node in list(graph.node):
        if node.op_type == "Concat" and node.output[0] in joined:
            node.input[:] = [divided(name) for name in node.input]
        elif node.name in read:
            if node.input[0] not in joined:
                node.input[0] = divided(node.input[0])
            kernel = weights[node.input[1]]
            factors = np.concatenate([scales[name] for name in read[node.name]]).reshape(1, -1, 1, 1)
            kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel) * factors, kernel.name))
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    result: bytes = model.SerializeToString()
    return result


def _read_by_convolutions(graph: onnx.GraphProto, leave: Collection[str]) -> dict[str, list[str]]:
    """The tensors whose channels a convolution reads, by its name: its input, or what that is joined from.

    A kernel or a concatenation that something else reads too cannot change for the convolution alone.
    """
    made_by = {name: node for node in graph.node for name in node.output}
    kernels = {initializer.name for initializer in graph.initializer}
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def is_taken(node: NodeProto) -> bool:
        if node.op_type != "Conv" or node.name in leave or node.input[1] not in kernels:
            return False
        groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        return groups == 1 and len(readers[node.input[1]]) == 1

    found = {}
    for node in filter(is_taken, graph.node):
        source = made_by.get(node.input[0])
        if source is None or source.op_type != "Concat":
            found[node.name] = [node.input[0]]
        elif all(is_taken(reader) for reader in readers[node.input[0]]):
            found[node.name] = list(source.input)
    return found


def _channel_maxima(
    data: bytes, tensors: Sequence[str], inputs: Sequence[Mapping[str, npt.NDArray[np.float32]]]
) -> dict[str, npt.NDArray[np.float32]]:
    """The largest magnitude of each channel of ``[N, C, H, W]`` tensors over these inputs, by ONNX Runtime."""
    import onnxruntime

    model = onnx.load_model_from_string(data)
    axes = numpy_helper.from_array(np.array([0, 2, 3], dtype=np.int64), "all_but_channels")
    model.graph.initializer.append(axes)
    for index, name in enumerate(tensors):
        model.graph.node.append(helper.make_node("Abs", [name], [f"magnitudes_{index}"]))
        model.graph.node.append(
            helper.make_node("ReduceMax", [f"magnitudes_{index}", axes.name], [f"maxima_{index}"], keepdims=0)
        )
        model.graph.output.append(helper.make_tensor_value_info(f"maxima_{index}", TensorProto.FLOAT, [None]))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [f"maxima_{index}" for index in range(len(tensors))]
    rows = [session.run(names, dict(feed)) for feed in inputs]
    return {name: np.max([row[index] for row in rows], axis=0) for index, name in enumerate(tensors)}


def _scales(largest: npt.NDArray[np.float32], strength: float) -> npt.NDArray[np.float32]:
    """What each channel is divided by; afterwards the largest magnitude of the tensor is 1."""
    ranges = np.maximum(largest, np.float32(max(float(largest.max(initial=0.0)), 1e-12) * _LEAST_RANGE))
    scales = ranges**strength
    return np.asarray(scales * np.max(ranges / scales), dtype=np.float32)
