"""Equalizing channels: the same function, with ranges that are alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from bundles import small_recipe
from onnx import TensorProto, helper, numpy_helper

from elir_trt.building.calibration import part_inputs
from elir_trt.building.equalize import equalize
from elir_trt.building.export import export_part, relative_error
from elir_trt.building.quantize import quantize, run_file
from elir_trt.model import load_model
from elir_trt.parts import PARTS
from elir_trt.samples import load_samples

SIZE = (64, 128)


@pytest.fixture(scope="module")
def fed(small_checkpoint: Path) -> dict[str, Any]:
    recipe = small_recipe()
    model = load_model(small_checkpoint, recipe.architecture).eval()
    return part_inputs(model, recipe, load_samples(recipe, SIZE, count=4).frames)


@pytest.fixture(scope="module")
def files(small_checkpoint: Path) -> dict[str, bytes]:
    model = load_model(small_checkpoint, small_recipe().architecture).eval()
    return {part: export_part(model, part, size=SIZE).data for part in PARTS}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_it_computes_the_same(
    part: str, strength: float, files: dict[str, bytes], fed: dict[str, Any]
) -> None:
    feeds = fed[part][:2]
    for found, expected in zip(
        run_file(equalize(files[part], feeds, strength=strength), feeds),
        run_file(files[part], feeds),
        strict=True,
    ):
        assert relative_error(found, expected) < 1e-5


def test_channels_have_one_range_at_full_strength(files: dict[str, bytes], fed: dict[str, Any]) -> None:
    model = onnx.load_model_from_string(equalize(files["coarse"], fed["coarse"], strength=1.0))
    divided = [node.output[0] for node in model.graph.node if node.name.endswith(".equalize")]
    assert len(divided) > 10
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in divided)
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rows = [session.run(None, dict(feed)) for feed in fed["coarse"]]
    for index in range(len(divided)):
        largest = np.max([np.abs(row[index]).max((0, 2, 3)) for row in rows], axis=0)
        np.testing.assert_allclose(largest[largest > 0], 1.0, rtol=1e-4)


def test_convolutions_that_are_left_keep_their_weights(files: dict[str, bytes], fed: dict[str, Any]) -> None:
    before = onnx.load_model_from_string(files["encoder"])
    left = [node.name for node in before.graph.node if node.op_type == "Conv"][:2]
    after = onnx.load_model_from_string(equalize(files["encoder"], fed["encoder"], leave=left))

    def kernels(model: onnx.ModelProto) -> dict[str, Any]:
        weights = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
        return {n.name: weights[n.input[1]] for n in model.graph.node if n.op_type == "Conv"}

    same = [name for name, kernel in kernels(after).items() if np.array_equal(kernel, kernels(before)[name])]
    assert same == left


def test_it_spares_small_channels_from_large_ones() -> None:
    """A channel a hundred times as large as the others leaves them no levels, but where they are equalized."""
    rng = np.random.default_rng(0)
    scales = np.array([100.0, 1.0, 1.0, 1.0], dtype=np.float32)
    shape = [1, 4, 16, 16]
    weights = {
        "first": np.diag(scales).reshape(4, 4, 1, 1).astype(np.float32),
        "middle": (rng.normal(0, 1, (4, 4, 3, 3)) / scales[:, None, None]).astype(np.float32),
        "last": np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1),
    }
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["a"], "one", pads=[0, 0, 0, 0]),
        helper.make_node("Conv", ["a", "middle"], ["b"], "two", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["b", "last"], ["y"], "three", pads=[0, 0, 0, 0]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    data = onnx.shape_inference.infer_shapes(model).SerializeToString()
    feeds = [{"x": rng.normal(0, 1, shape).astype(np.float32)} for _ in range(4)]
    expected = run_file(data, feeds)
    errors = [
        relative_error(np.stack(run_file(quantize(data, feeds, equalized=e), feeds)), np.stack(expected))
        for e in (False, True)
    ]
    assert errors[1] < 0.1 and errors[0] > 3 * errors[1]
