"""A rewrite for TensorRT-RTX, which has no transposed convolution in bfloat16.

The velocity's U-Net has them in every recipe, so that without this no bundle could be built in bfloat16.
"""

from __future__ import annotations

import io
from pathlib import Path


def widen_transposed(source: bytes | Path) -> tuple[bytes, int] | None:
    """Let the bfloat16 transposed convolutions of an ONNX file compute in float32, between two casts.

    Everything around them stays in bfloat16; float32 holds every bfloat16 value, so nothing overflows.

    Args:
        source: the file's contents, or its path, with weights in files beside it or not.

    Returns:
        The changed file with all its weights inside, and how many were widened; None: there were none, or the
        source is no ONNX file.
    """
    contents = source if isinstance(source, bytes) else source.read_bytes()
    if b"ConvTranspose" not in contents:
        return None
    import onnx
    from onnx import TensorProto, helper

    try:
        model = onnx.load_model(io.BytesIO(source) if isinstance(source, bytes) else source)
    except Exception:
        return None  # Not a whole ONNX file; TensorRT's parser says what is wrong with it.
    graph = model.graph
    narrow = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.BFLOAT16}
    nodes = []
    count = 0
    for node in graph.node:
        if node.op_type != "ConvTranspose" or node.input[1] not in narrow:
            nodes.append(node)
            continue
        label = node.name or f"transposed_{count}"
        for index, name in enumerate(node.input):
            if name:
                wide = f"{label}.input{index}.float32"
                nodes.append(helper.make_node("Cast", [name], [wide], wide, to=TensorProto.FLOAT))
                node.input[index] = wide
        name, node.output[0] = node.output[0], f"{label}.output.float32"
        nodes.append(node)
        back = f"{label}.output.bfloat16"
        nodes.append(helper.make_node("Cast", [node.output[0]], [name], back, to=TensorProto.BFLOAT16))
        count += 1
    if not count:
        return None
    # Shapes and types that the exporter noted for what is in between still hold: no name changed its type.
    del graph.node[:]
    graph.node.extend(nodes)
    return model.SerializeToString(), count
