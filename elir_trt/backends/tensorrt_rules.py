"""Which ONNX files which TensorRT takes, as far as the parts meet it: known before a parser says it, or says nothing.

TensorRT's parser runs where TensorRT is installed, and some versions parse a file and then compute something else.
The table has what NVIDIA's lists of operators, bug reports and bindings say; TensorRT-RTX's row was built with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx
from onnx import NodeProto, TensorProto, numpy_helper

from elir_trt.backends.tensorrt_api import Flavour
from elir_trt.errors import BuildError

#: What the parts, rewritten or not, are made of. Every version from 10.3 on has importers for these.
OPERATORS = frozenset(
    {
        "Add",
        "Cast",
        "Concat",
        "Constant",
        "Conv",
        "ConvTranspose",
        "DepthToSpace",
        "DequantizeLinear",
        "Div",
        "GroupNormalization",
        "Identity",
        "LayerNormalization",
        "Mul",
        "QuantizeLinear",
        "Relu",
        "Reshape",
        "Resize",
        "Sigmoid",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Sub",
        "Tanh",
        "Transpose",
        "Unsqueeze",
    }
)
#: Types that a quantized tensor may have; zero points are 0 and signed.
_EIGHT_BITS = (TensorProto.INT8, TensorProto.FLOAT8E4M3FN)


@dataclass(frozen=True)
class OnnxRules:
    """What a range of versions takes.

    Attributes:
        flavour, since: of TensorRT, and the first version that this holds for; up to the next row's.
        largest_opset: of the file.
        channel_scales: group normalization of opset 21, with a scale a channel, is computed. Without, its scales
            are taken for those of groups (NVIDIA/TensorRT issues 4336, 4313 and 3094).
        one_group: group normalization with one group is computed; without, as if each channel were one (issue 4756).
        transposed_bfloat16: there are transposed convolutions in BF16.
    """

    flavour: Flavour
    since: tuple[int, int]
    largest_opset: int
    channel_scales: bool
    one_group: bool
    transposed_bfloat16: bool


#: Newest last. Scales a channel came with the layer that add_normalization_v2 makes, which the bindings of 10.13 lack
#: and those of 10.16 have; 10.15 is the first whose list names opset 24.
RULES: tuple[OnnxRules, ...] = (
    OnnxRules("tensorrt", (10, 0), 20, channel_scales=False, one_group=False, transposed_bfloat16=True),
    OnnxRules("tensorrt", (10, 15), 24, channel_scales=True, one_group=False, transposed_bfloat16=True),
    OnnxRules("tensorrt", (11, 0), 25, channel_scales=True, one_group=False, transposed_bfloat16=True),
    OnnxRules("tensorrt-rtx", (1, 0), 24, channel_scales=True, one_group=False, transposed_bfloat16=False),
)


def rules_for(flavour: Flavour, version: str) -> OnnxRules:
    """The rules of a version such as "10.3.0".

    Raises:
        BuildError: the version is older than every row, or is none.
    """
    numbers = re.match(r"(\d+)\.(\d+)", version)
    found = None
    if numbers is not None:
        asked = (int(numbers[1]), int(numbers[2]))
        found = next((r for r in reversed(RULES) if r.flavour == flavour and r.since <= asked), None)
    if found is None:
        first = next(rules.since for rules in RULES if rules.flavour == flavour)
        raise BuildError(f"{flavour} is {version}; expected {first[0]}.{first[1]} or later")
    return found


def refusals(data: bytes, rules: OnnxRules) -> list[str]:
    """Why a version would refuse a file or compute something else; empty: it takes the file.

    Args:
        data: serialized ONNX model.
        rules: of the version.

    Returns:
        a line for each reason, naming the node, what it has and what is expected.
    """
    model = onnx.load_model_from_string(data)
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    found = []
    if opset > rules.largest_opset:
        found.append(f"the file's opset is {opset}; expected at most {rules.largest_opset}")
    weights = {initializer.name: initializer for initializer in model.graph.initializer}
    for node in model.graph.node:
        for reason in _node_refusals(node, opset, rules, weights):
            found.append(f"{node.name or node.output[0]} ({node.op_type}): {reason}")
    return found


def _node_refusals(
    node: NodeProto, opset: int, rules: OnnxRules, weights: Mapping[str, TensorProto]
) -> Iterator[str]:
    if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
        yield "is no operator that a part may have"
        return
    # What a later opset added would be ignored, or read as something else.
    known = onnx.defs.get_schema(node.op_type, opset, "").attributes
    for attribute in node.attribute:
        if attribute.name not in known:
            yield f"has the attribute {attribute.name}, which opset {opset} does not know"
    if node.op_type == "GroupNormalization":
        yield from _group_refusals(node, opset, rules, weights)
    elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        yield from _quantization_refusals(node, weights)
    elif node.op_type == "ConvTranspose" and not rules.transposed_bfloat16:
        kernel = weights.get(node.input[1])
        if kernel is not None and kernel.data_type == TensorProto.BFLOAT16:
            yield "is in BF16, for which there is no kernel"


def _group_refusals(
    node: NodeProto, opset: int, rules: OnnxRules, weights: Mapping[str, TensorProto]
) -> Iterator[str]:
    groups = next(attribute.i for attribute in node.attribute if attribute.name == "num_groups")
    scale = weights.get(node.input[1])
    if scale is None:
        yield "has a scale that is no constant"
        return
    if groups == 1 and not rules.one_group:
        yield "has one group, and would be computed as if each channel were one"
    if opset > 20 and not rules.channel_scales:
        yield f"is of opset {opset}, with scales a channel; expected opset 18 to 20, with scales a group"
    if opset <= 20 and scale.dims[0] != groups:
        yield f"has {scale.dims[0]} scales; expected one for each of the {groups} groups"


def _quantization_refusals(node: NodeProto, weights: Mapping[str, TensorProto]) -> Iterator[str]:
    if len(node.input) < 3:
        yield "has no zero point, and so unsigned bits; expected 0 of INT8 or E4M3"
        return
    zero = weights.get(node.input[2])
    if node.input[1] not in weights or zero is None:
        yield "has a scale or a zero point that is no constant"
        return
    if zero.data_type not in _EIGHT_BITS:
        yield f"has a zero point of {TensorProto.DataType.Name(zero.data_type)}; expected INT8 or FLOAT8E4M3FN"
    elif numpy_helper.to_array(zero).astype("float32").any():
        yield "has a zero point other than 0"
