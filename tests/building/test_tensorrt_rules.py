"""Which files which TensorRT takes: the parts' files for six versions, and what is refused with which words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from bundles import small_recipe
from onnx import TensorProto, helper, numpy_helper

from elir_trt.backends.narrow import narrow
from elir_trt.backends.tensorrt_api import Flavour
from elir_trt.backends.tensorrt_builder import build_engine
from elir_trt.backends.tensorrt_rewrite import for_tensorrt, for_tensorrt_rtx
from elir_trt.backends.tensorrt_rules import OnnxRules, refusals, rules_for
from elir_trt.building.calibration import part_inputs
from elir_trt.building.export import export_part
from elir_trt.building.quantize import quantize
from elir_trt.errors import BuildError
from elir_trt.model import load_model
from elir_trt.parts import PARTS
from elir_trt.samples import load_samples

VERSIONS: list[str] = json.loads((Path(__file__).parents[1] / "data" / "tensorrt_api.json").read_text())[
    "versions"
]
SIZE = (64, 128)


def rules(version: str) -> OnnxRules:
    flavour: Flavour = "tensorrt-rtx" if version.startswith("rtx-") else "tensorrt"
    return rules_for(flavour, version.removeprefix("rtx-"))


@pytest.fixture(scope="module")
def files(small_checkpoint: Path) -> dict[tuple[str, str], bytes]:
    """Every part in float32, INT8 and FP8, as exported."""
    model: Any = load_model(small_checkpoint).eval()
    recipe = small_recipe()
    fed = part_inputs(model, recipe, load_samples(recipe, SIZE, count=4).frames)
    found: dict[tuple[str, str], bytes] = {}
    for part in PARTS:
        data = found[part, "fp32"] = export_part(model, part, size=SIZE).data
        for scheme in ("int8", "fp8"):
            found[part, scheme] = quantize(data, fed[part], scheme, residuals=True)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_takes_what_it_gets(version: str, files: dict[tuple[str, str], bytes]) -> None:
    for data in files.values():
        typed = for_tensorrt(narrow(data, "fp16"))
        assert refusals(typed, rules(version)) == []
        assert refusals(for_tensorrt_rtx(typed), rules(version)) == []


def test_what_is_exported_is_not_for_the_versions_of_jetpack_6(files: dict[tuple[str, str], bytes]) -> None:
    found = refusals(files["velocity", "fp32"], rules("10.3.0"))
    assert found[0] == "the file's opset is 21; expected at most 20"
    assert all("with scales a channel; expected opset 18 to 20" in line for line in found[1:])
    assert len(found) > 10
    assert refusals(files["velocity", "fp32"], rules("10.16.1.11")) == []


@pytest.mark.parametrize("part", PARTS)
def test_rtx_builds_the_very_file_of_10_3(part: str, files: dict[tuple[str, str], bytes]) -> None:
    pytest.importorskip("tensorrt_rtx")
    data = for_tensorrt(narrow(files[part, "fp32"], "fp16"))
    assert refusals(data, rules("10.3.0")) == []
    assert len(build_engine(data, flavour="tensorrt-rtx", part=part).data) > 10_000


def test_versions_are_found() -> None:
    assert rules("10.3.0").largest_opset == 20
    assert not rules("10.13.3.9").channel_scales
    assert rules("10.15.1").channel_scales
    assert rules("12.1").largest_opset == rules("11.4.0.106").largest_opset == 25
    with pytest.raises(BuildError, match=r"tensorrt is 8\.6\.1; expected 10\.0 or later"):
        rules("8.6.1")
    with pytest.raises(BuildError, match=r"tensorrt-rtx is nonsense; expected 1\.0 or later"):
        rules_for("tensorrt-rtx", "nonsense")


def normalization(opset: int, groups: int, scales: int) -> bytes:
    weights = [numpy_helper.from_array(np.ones(scales, np.float32), name) for name in ("scale", "bias")]
    node = helper.make_node("GroupNormalization", ["x", "scale", "bias"], ["y"], "norm", num_groups=groups)
    return one_node(node, opset, weights)


def one_node(node: onnx.NodeProto, opset: int, weights: list[TensorProto]) -> bytes:
    graph = helper.make_graph(
        [node],
        "part",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        weights,
    )
    data: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]).SerializeToString()
    return data


def quantizer(zero: TensorProto | None, **attributes: int) -> bytes:
    weights = [numpy_helper.from_array(np.float32(0.1), "scale")]
    inputs = ["x", "scale"]
    if zero is not None:
        weights.append(zero)
        inputs.append(zero.name)
    return one_node(helper.make_node("QuantizeLinear", inputs, ["y"], "q", **attributes), 20, weights)


INT8_ZERO = numpy_helper.from_array(np.int8(0), "zero")
BAD: dict[str, tuple[bytes, str, str]] = {
    "channels": (
        normalization(18, 2, 8),
        "11.4.0",
        r"norm \(GroupNormalization\): has 8 scales; .* 2 groups",
    ),
    "one group": (
        normalization(20, 1, 1),
        "10.16.1",
        "has one group, and would be computed as if each channel",
    ),
    "opset": (normalization(21, 2, 8), "10.7.0", "opset is 21; expected at most 20"),
    "operator": (
        one_node(helper.make_node("Erf", ["x"], ["y"], "erf"), 20, []),
        "10.3.0",
        r"erf \(Erf\): is no operator",
    ),
    "attribute": (quantizer(INT8_ZERO, block_size=4), "10.3.0", "attribute block_size, which opset 20"),
    "unsigned": (
        quantizer(numpy_helper.from_array(np.uint8(0), "zero")),
        "rtx-1.7.1",
        "zero point of UINT8; expected INT8 or FLOAT8E4M3FN",
    ),
    "shifted": (quantizer(numpy_helper.from_array(np.int8(3), "zero")), "10.3.0", "other than 0"),
    "no zero point": (quantizer(None), "10.3.0", "no zero point, and so unsigned bits"),
    "bf16": (
        one_node(
            helper.make_node("ConvTranspose", ["x", "w"], ["y"], "up"),
            20,
            [helper.make_tensor("w", TensorProto.BFLOAT16, [8, 3, 1, 1], [1.0] * 24)],
        ),
        "rtx-1.7.1",
        r"up \(ConvTranspose\): is in BF16",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_refused_is_named(kind: str) -> None:
    data, version, message = BAD[kind]
    found = refusals(data, rules(version))
    assert re.search(message, "\n".join(found))
