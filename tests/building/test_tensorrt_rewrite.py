"""The files that TensorRT gets: that every version takes them, and that they compute what torch computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from bundles import small_recipe
from onnx import TensorProto, helper, numpy_helper

from elir_trt.backends.narrow import narrow
from elir_trt.backends.tensorrt_rewrite import (
    for_tensorrt,
    for_tensorrt_rtx,
    infer_shapes,
    lower_group_normalization,
    nest_concatenations,
    normalize_small_groups,
)
from elir_trt.building.export import export_part, relative_error
from elir_trt.model import load_model
from elir_trt.model.engine_parts import part_module
from elir_trt.parts import PARTS, part_shapes, part_tensors

SIZE = (64, 128)


@pytest.fixture(scope="module")
def model(small_checkpoint: Path) -> Any:
    return load_model(small_checkpoint).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def floats(model: Any) -> dict[str, bytes]:
    return {part: export_part(model, part, size=SIZE).data for part in PARTS}


@pytest.fixture(scope="module")
def feeds(model: Any) -> dict[str, dict[str, np.ndarray]]:
    shapes = part_shapes(small_recipe().architecture, SIZE, model.fmir.condition_width)
    rng = np.random.default_rng(3)
    return {
        part: {
            name: rng.normal(size=shapes[name]).astype(np.float32)
            for name in part_tensors(part, model.architecture)[0]
        }
        for part in PARTS
    }


def run(data: bytes, feed: dict[str, np.ndarray]) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    types = {i.name: np.float16 if "float16" in i.type else np.float32 for i in session.get_inputs()}
    (output,) = session.run(None, {name: value.astype(types[name]) for name, value in feed.items()})
    return np.asarray(output, np.float32)


def kinds(data: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_model_from_string(data).graph.node]


@pytest.mark.parametrize("part", PARTS)
def test_what_tensorrt_gets_is_the_torch_part(
    part: str, model: Any, floats: dict[str, bytes], feeds: dict[str, dict[str, np.ndarray]]
) -> None:
    """Against torch itself, folded as engines are and not."""
    arguments = [torch.from_numpy(feeds[part][name]) for name in part_tensors(part, model.architecture)[0]]
    with torch.no_grad():
        expected = part_module(model, part)(*arguments).numpy()
        plain = model.fmir.forward_conditioned(*arguments).numpy() if part == "velocity" else expected
    assert relative_error(expected, plain) <= 2e-6
    for data in (for_tensorrt(floats[part]), for_tensorrt_rtx(for_tensorrt(floats[part]))):
        assert relative_error(run(data, feeds[part]), expected) <= 5e-6


@pytest.mark.parametrize("part", PARTS)
def test_lowering_and_nesting_do_not_change_a_bit(
    part: str, floats: dict[str, bytes], feeds: dict[str, dict[str, np.ndarray]]
) -> None:
    rewritten = for_tensorrt(floats[part])
    assert onnx.load_model_from_string(rewritten).opset_import[0].version == 20
    # ONNX Runtime expands both forms of the operator into the same arithmetic.
    assert np.array_equal(run(rewritten, feeds[part]), run(floats[part], feeds[part]))
    assert for_tensorrt(rewritten) == rewritten


def test_normalizations_have_a_scale_a_group(floats: dict[str, bytes]) -> None:
    before, after = floats["velocity"], for_tensorrt(floats["velocity"])
    assert kinds(before).count("GroupNormalization") == kinds(after).count("GroupNormalization") > 10
    graph = onnx.load_model_from_string(after).graph
    weights = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    for node in graph.node:
        if node.op_type == "GroupNormalization":
            groups = next(a.i for a in node.attribute if a.name == "num_groups")
            assert weights[node.input[1]].shape == weights[node.input[2]].shape == (groups,)
            assert next(a.f for a in node.attribute if a.name == "epsilon") == pytest.approx(1e-5)
    names = [node.name for node in graph.node]
    assert len(names) == len(set(names))
    initializers = [i.name for i in graph.initializer]
    assert len(initializers) == len(set(initializers))


def test_the_rewrites_work_on_half_precision(
    floats: dict[str, bytes], feeds: dict[str, dict[str, np.ndarray]]
) -> None:
    """Before or after :func:`narrow`: same types everywhere, same results."""
    narrowed = narrow(floats["velocity"], "fp16")
    first = narrow(for_tensorrt_rtx(for_tensorrt(floats["velocity"])), "fp16")
    last = for_tensorrt_rtx(for_tensorrt(narrowed))
    expected = run(floats["velocity"], feeds["velocity"])
    for data in (first, last):
        types = {i.data_type for i in onnx.load_model_from_string(data).graph.initializer}
        assert types == {TensorProto.FLOAT16, TensorProto.INT64}
        assert kinds(data).count("LayerNormalization") == kinds(floats["velocity"]).count(
            "GroupNormalization"
        )
        assert relative_error(run(data, feeds["velocity"]), expected) <= 1e-2
    bf16 = for_tensorrt_rtx(for_tensorrt(narrow(floats["velocity"], "bf16")))
    types = {i.data_type for i in onnx.load_model_from_string(bf16).graph.initializer}
    assert types == {TensorProto.BFLOAT16, TensorProto.INT64}


def test_only_small_groups_become_layers(floats: dict[str, bytes]) -> None:
    lowered = for_tensorrt(floats["velocity"])
    total = kinds(lowered).count("GroupNormalization")
    # A group of this part has from 16 * 1 to 64 / 8 * 128 / 8 * 2 values.
    for largest, expected in ((0, 0), (10**9, total)):
        model = onnx.load_model_from_string(lowered)
        assert normalize_small_groups(model, largest) == expected
    model = onnx.load_model_from_string(lowered)
    some = normalize_small_groups(model, 64)
    assert 0 < some < total
    found = [node.op_type for node in model.graph.node]
    assert (found.count("LayerNormalization"), found.count("GroupNormalization")) == (some, total - some)
    found_types = {v.type.tensor_type.elem_type for v in infer_shapes(model).graph.value_info}
    assert found_types <= {TensorProto.FLOAT, TensorProto.INT64}


def test_scales_that_are_not_ones_stay(floats: dict[str, bytes]) -> None:
    """Of a file that was not lowered the scales a channel are not the layer's."""
    model = onnx.load_model_from_string(floats["velocity"])
    assert normalize_small_groups(model, 10**9) == 0
    assert for_tensorrt_rtx(floats["velocity"]) == floats["velocity"]


def test_dense_blocks_join_each_tensor_once(floats: dict[str, bytes]) -> None:
    def joined(data: bytes) -> list[int]:
        nodes = onnx.load_model_from_string(data).graph.node
        return sorted({len(node.input) for node in nodes if node.op_type == "Concat"})

    assert joined(floats["coarse"]) == [2, 3, 4, 5]
    assert joined(for_tensorrt(floats["coarse"])) == [2]


def concatenations(*rows: tuple[list[str], int, str]) -> onnx.ModelProto:
    names = sorted({name for inputs, _, _ in rows for name in inputs} - {output for _, _, output in rows})
    return helper.make_model(
        helper.make_graph(
            [helper.make_node("Concat", inputs, [out], f"n_{out}", axis=axis) for inputs, axis, out in rows],
            "joined",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 2, 2]) for name in names],
            [helper.make_tensor_value_info(out, TensorProto.FLOAT, None) for _, _, out in rows],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
    )


def test_concatenations_are_nested_only_where_one_goes_on_from_another() -> None:
    model = concatenations(
        (["a", "b"], 1, "ab"),
        (["b", "a", "c"], 1, "other order"),
        (["a", "b", "c"], 2, "other axis"),
        (["a", "b"], 1, "the same"),
        (["a", "b", "c"], 1, "abc"),
        (["a", "b", "c", "b"], 1, "abcb"),
    )
    assert nest_concatenations(model) == 2
    inputs = {node.output[0]: list(node.input) for node in model.graph.node}
    assert inputs["abc"] in (["ab", "c"], ["the same", "c"])
    assert inputs["abcb"] == ["abc", "b"]
    assert inputs["other order"] == ["b", "a", "c"]
    assert inputs["other axis"] == ["a", "b", "c"]


def test_a_file_of_an_older_opset_is_left_alone() -> None:
    model = concatenations((["a", "b"], 1, "ab"))
    model.opset_import[0].version = 18
    assert lower_group_normalization(model) == 0
    assert model.opset_import[0].version == 18
