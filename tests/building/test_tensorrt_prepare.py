"""What a version gets of a part's ONNX file, and what it is told where that cannot be."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from bundles import small_recipe
from onnx import TensorProto
from tensorrt_stand_ins import FULL, VERSIONS, install

from elir_trt.backends import CompileOptions, get, tensorrt
from elir_trt.backends.tensorrt_api import Flavour
from elir_trt.backends.tensorrt_builder import build_engine
from elir_trt.backends.tensorrt_form import has_form
from elir_trt.backends.tensorrt_prepare import prepare_part
from elir_trt.building import build
from elir_trt.building.export import export_part, relative_error, with_batch
from elir_trt.building.quantize import run_file
from elir_trt.building.sources import ModelPart
from elir_trt.bundle import Bundle
from elir_trt.errors import BuildError
from elir_trt.model import load_model
from elir_trt.parts import PARTS
from elir_trt.tuning.rebuild import rebuild_engines

SIZE = (64, 128)


@pytest.fixture(scope="module")
def model(small_checkpoint: Path) -> Any:
    return load_model(small_checkpoint).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def velocity(model: Any) -> bytes:
    return export_part(model, "velocity", size=SIZE, precision="fp16").data


@pytest.fixture(scope="module")
def wide(model: Any) -> bytes:
    return export_part(model, "velocity", size=SIZE, precision="bf16").data


def opset(data: bytes) -> int:
    return int(onnx.load_model_from_string(data).opset_import[0].version)


def kinds(data: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_model_from_string(data).graph.node}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_parses_the_form_that_it_takes(
    monkeypatch: pytest.MonkeyPatch, version: str, model: Any, velocity: bytes, tmp_path: Path
) -> None:
    flavour: Flavour = "tensorrt-rtx" if version.startswith("rtx") else "tensorrt"
    stand_in = install(monkeypatch, version)
    source = ModelPart("velocity", model, SIZE, 1, velocity)
    backend = tensorrt.TensorRtFamily(flavour, "TensorRT")
    options = CompileOptions("fp16", workspace_bytes=1 << 20, builder_optimization_level=1, max_aux_streams=1)
    compiled = backend.compile(source, [tmp_path / "velocity.engine"], options)
    (parsed,) = stand_in.parsed
    assert opset(velocity) == 21 and opset(parsed) == 20
    assert ("LayerNormalization" in kinds(parsed)) == (flavour == "tensorrt-rtx")
    assert (tmp_path / "velocity.engine").read_bytes() == b"engine"
    # What a portable bundle keeps is of no flavour.
    assert compiled.portable is not None and has_form(compiled.portable) and has_form(parsed)
    assert kinds(compiled.portable) == kinds(velocity)
    (config,) = stand_in.configs
    assert (config.builder_optimization_level, config.max_aux_streams) == (1, 1)
    assert config._limits == ((0, 1 << 20),)


@pytest.mark.parametrize("version", FULL[:3])
def test_older_versions_would_not_take_what_is_exported(
    monkeypatch: pytest.MonkeyPatch, version: str, velocity: bytes
) -> None:
    install(monkeypatch, version)
    with pytest.raises(BuildError, match=r"velocity: .* refuses the ONNX file: .*scales of \d+ groups"):
        build_engine(velocity, flavour="tensorrt", part="velocity")


def test_rtx_gets_bfloat16_without_transposed_convolutions_in_it(wide: bytes) -> None:
    ready = prepare_part(wide, "velocity", "tensorrt-rtx", "1.7.1")
    for data, has_casts in ((ready.data, True), (ready.portable, False)):
        graph = onnx.load_model_from_string(data).graph
        casts = [node for node in graph.node if node.op_type == "Cast"]
        assert bool(casts) == has_casts
    assert {i.data_type for i in graph.initializer} >= {TensorProto.BFLOAT16}
    full = prepare_part(wide, "velocity", "tensorrt", "10.3.0")
    assert full.data == full.portable == ready.portable


@pytest.mark.parametrize(("flavour", "version"), [("tensorrt", "10.3.0"), ("tensorrt-rtx", "1.7.1")])
def test_a_batch_is_so_many_single_images(flavour: Flavour, version: str, velocity: bytes) -> None:
    """Shapes that TensorRT-RTX's form states are those of the batch."""
    single, double = (
        prepare_part(with_batch(velocity, count), "velocity", flavour, version).data for count in (1, 2)
    )
    inputs = {i.name: i.type.tensor_type.shape.dim for i in onnx.load_model_from_string(double).graph.input}
    rng = np.random.default_rng(5)
    feed = {
        name: rng.normal(size=[dimension.dim_value for dimension in dimensions]).astype(np.float32)
        for name, dimensions in inputs.items()
    }
    (both,) = run_file(double, [feed])
    assert both.shape[0] == feed["latent"].shape[0] == 2
    for index in range(2):
        (alone,) = run_file(single, [{**feed, "latent": feed["latent"][index : index + 1]}])
        assert relative_error(both[index : index + 1], alone) <= 2e-3


def test_what_a_version_does_not_take_is_one_error(velocity: bytes) -> None:
    model = onnx.load_model_from_string(velocity)
    for node in model.graph.node:
        if node.op_type == "Sigmoid":
            node.op_type = "Erf"
    with pytest.raises(BuildError) as caught:
        prepare_part(model.SerializeToString(), "velocity", "tensorrt", "10.3.0")
    message = str(caught.value)
    assert message.startswith(
        "velocity: tensorrt 10.3.0 would refuse the ONNX file or compute something else: "
    )
    assert message.count("(Erf): is no operator that a part may have") == 3
    assert message.endswith("with another --backend") and " more; build the bundle again" in message
    with pytest.raises(BuildError, match=r"tensorrt is 8\.6\.1; expected 10\.0 or later"):
        prepare_part(velocity, "velocity", "tensorrt", "8.6.1")


def test_without_onnx_only_what_was_prepared_is_compiled(
    monkeypatch: pytest.MonkeyPatch, velocity: bytes
) -> None:
    """On a Jetson that builds a portable bundle's engines again there may be no onnx."""
    prepared = prepare_part(velocity, "velocity", "tensorrt", "11.4.0").portable
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "onnx" else find(name, *rest)
    )
    again = prepare_part(prepared, "velocity", "tensorrt", "10.3.0")
    assert again.data is prepared is again.portable
    with pytest.raises(BuildError, match=r"velocity: the ONNX file is not in the form .*pip install onnx"):
        prepare_part(velocity, "velocity", "tensorrt", "10.3.0")


@pytest.mark.parametrize("version", [FULL[0], FULL[-1]])
def test_a_portable_bundle_is_built_again_by_any_version(
    monkeypatch: pytest.MonkeyPatch, small_checkpoint: Path, tmp_path: Path, version: str
) -> None:
    monkeypatch.setenv("ELIR_TRT_CACHE", str(tmp_path / "cache"))
    first = install(monkeypatch, FULL[1])
    monkeypatch.setattr(type(get("tensorrt")), "installed", lambda self: True)
    options = {"workspace_bytes": 1 << 28, "builder_optimization_level": 2}
    report = build(
        small_recipe(),
        small_checkpoint,
        output=tmp_path / "b",
        backends=["tensorrt"],
        portable=True,
        **options,  # type: ignore[arg-type]
    )
    specification = report.manifest.specification
    assert (specification.workspace_bytes, specification.builder_optimization_level) == (1 << 28, 2)
    assert {config._limits for config in first.configs} == {((0, 1 << 28),)}
    for change in ({"workspace_bytes": None}, {"builder_optimization_level": 3}, {"max_aux_streams": 1}):
        assert replace(specification, **change).key() != specification.key()
    second = install(monkeypatch, version)
    path = rebuild_engines(Bundle(tmp_path / "b"), "tensorrt")
    assert second.parsed == first.parsed and len(second.parsed) == len(PARTS)
    assert {config._limits for config in second.configs} == {((0, 1 << 28),)}
    assert Bundle(path).manifest.specification.tensorrt == f"tensorrt-{version}"
