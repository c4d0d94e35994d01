"""The bundle that ships with the package: every TensorRT takes its files as they are, and it is small."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from elir_trt.backends.tensorrt_api import Flavour
from elir_trt.backends.tensorrt_builder import build_engine
from elir_trt.backends.tensorrt_prepare import prepare_part
from elir_trt.backends.tensorrt_rules import refusals, rules_for
from elir_trt.bundle import Bundle, find_bundle
from elir_trt.parts import PARTS

VERSIONS: list[str] = json.loads((Path(__file__).parents[1] / "data" / "tensorrt_api.json").read_text())[
    "versions"
]
LARGEST_BYTES = 14_000_000


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ELIR_TRT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Bundle(find_bundle("camera"))


@pytest.fixture
def without_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that only has TensorRT."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "onnx" else real(name, *more)
    )


def test_it_is_portable_and_small(shipped: Bundle) -> None:
    assert shipped.is_portable
    assert all({"fp16"} <= set(shipped.variants(part)) for part in PARTS)
    assert all("int8" in shipped.variants(part) for part in ("encoder", "coarse", "decoder"))
    files = [shipped.path / name for name in ("manifest.json", *shipped.manifest.files)]
    assert sum(file.stat().st_size for file in files) <= LARGEST_BYTES


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_tensorrt_takes_its_files_as_they_are(shipped: Bundle, version: str, part: str) -> None:
    flavour: Flavour = "tensorrt-rtx" if version.startswith("rtx-") else "tensorrt"
    data = shipped.read_variant(part, "fp16")
    assert refusals(data, rules_for(flavour, version.removeprefix("rtx-"))) == []
    model = onnx.load_model_from_string(data)
    assert model.opset_import[0].version <= 20
    weights = {initializer.name: initializer for initializer in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "GroupNormalization":
            groups = next(attribute.i for attribute in node.attribute if attribute.name == "num_groups")
            assert weights[node.input[1]].dims[0] == groups


@pytest.mark.usefixtures("without_onnx")
@pytest.mark.parametrize("part", PARTS)
def test_tensorrt_10_3_gets_the_shipped_file_where_onnx_is_not_installed(shipped: Bundle, part: str) -> None:
    data = shipped.read_variant(part, "fp16")
    assert prepare_part(data, part, "tensorrt", "10.3.0").data == data


@pytest.mark.parametrize("part", PARTS)
def test_rtx_builds_the_very_file_that_10_3_gets(shipped: Bundle, part: str) -> None:
    pytest.importorskip("tensorrt_rtx")
    built = build_engine(shipped.read_variant(part, "fp16"), flavour="tensorrt-rtx", part=part)
    assert len(built.data) > 10_000
