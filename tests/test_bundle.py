"""Building, the cache, and refusing bundles that are not what their manifest says."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import small_recipe

from elir_trt.building import build
from elir_trt.building.builder import file_digest
from elir_trt.building.export import BOUNDS, export_part
from elir_trt.bundle import Bundle
from elir_trt.errors import BuildError, BundleError, CheckpointError, RecipeError
from elir_trt.manifest import BuildSpecification
from elir_trt.model import load_model
from elir_trt.parts import PARTS
from elir_trt.recipe import load_recipe, parse_recipe, recipe_names


@pytest.fixture
def copy(small_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_bundle, tmp_path / "copy"))


def edit(folder: Path, **changes: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest.update(changes)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_second_build_is_a_cache_hit(
    small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELIR_TRT_CACHE", str(tmp_path / "cache"))
    seen: list[tuple[int, int]] = []
    first = build(
        small_recipe(),
        small_checkpoint,
        backends=["openvino"],
        progress=lambda what, done, total: seen.append((done, total)),
    )
    assert not first.cached and first.path.parent == tmp_path / "cache" / "bundles"
    assert seen == sorted(seen) and seen[-1][0] == seen[-1][1]
    began = time.perf_counter()
    second = build(small_recipe(), small_checkpoint, backends=["openvino"])
    assert second.cached and second.path == first.path
    assert time.perf_counter() - began < 1.0
    (first.path / "conditioning.npy").write_bytes(b"cut")
    third = build(small_recipe(), small_checkpoint, backends=["openvino"])
    assert not third.cached and Bundle(third.path)
    assert not [path for path in first.path.parent.iterdir() if path.is_dir() and path != first.path]


def test_key_depends_on_every_field() -> None:
    base = BuildSpecification(
        recipe=small_recipe(), checkpoint="0" * 64, backends=("openvino",), precision=None, size=(64, 64)
    )
    changes: dict[str, Any] = {
        "recipe": small_recipe(steps=2),
        "checkpoint": "1" * 64,
        "backends": ("openvino", "tensorrt"),
        "precision": "fp16",
        "size": (64, 128),
        "batch": 2,
        "portable": True,
        "quantized": True,
        "parts": {"velocity": "int8"},
        "search_floor": 40.0,
        "calibration": "2" * 64,
        "half_weights": True,
        "workspace_bytes": 1 << 30,
        "builder_optimization_level": 4,
        "max_aux_streams": 1,
        "tensorrt": "tensorrt-10.3",
        "gpu": "Orin sm_87",
        "exporter": 99,
    }
    assert set(changes) == set(BuildSpecification.__dataclass_fields__)
    keys = {base.key()} | {replace(base, **{name: value}).key() for name, value in changes.items()}
    assert len(keys) == 1 + len(changes)


def test_refuses_another_bundle_in_the_way(small_checkpoint: Path, copy: Path) -> None:
    with pytest.raises(BuildError, match="holds another bundle; use --force"):
        build(small_recipe(steps=2), small_checkpoint, output=copy, backends=["openvino"])
    assert Bundle(copy).recipe.steps == 3


def test_failed_build_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.pth").write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError):
        build(small_recipe(), tmp_path / "bad.pth", output=tmp_path / "out" / "b", backends=["openvino"])
    assert [path.name for path in (tmp_path / "out").iterdir() if not path.name.endswith(".lock")] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workspace_bytes": 0}, "workspace_bytes is 0; expected a positive number"),
        ({"builder_optimization_level": 6}, "builder_optimization_level is 6; expected 0 to 5"),
        ({"max_aux_streams": -1}, "max_aux_streams is -1; expected 0 or more"),
    ],
)
def test_build_refuses_options(small_checkpoint: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(BuildError, match=message):
        build(small_recipe(), small_checkpoint, backends=["openvino"], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(100, 64), (64, 0)])
def test_build_refuses_sizes(small_checkpoint: Path, size: tuple[int, int]) -> None:
    with pytest.raises(BuildError, match="multiple of 64"):
        build(small_recipe(), small_checkpoint, size=size, backends=["openvino"])


def test_changed_byte_in_an_engine(copy: Path) -> None:
    weights = copy / "openvino" / "decoder.bin"
    content = bytearray(weights.read_bytes())
    content[1000] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BundleError, match=r"openvino/decoder\.bin was changed or cut"):
        Bundle(copy)


def test_missing_and_cut_files(copy: Path) -> None:
    xml = copy / "openvino" / "encoder.xml"
    xml.write_bytes(xml.read_bytes()[:-10])
    with pytest.raises(BundleError, match=r"openvino/encoder\.xml was changed or cut"):
        Bundle(copy)
    xml.unlink()
    with pytest.raises(BundleError, match=r"openvino/encoder\.xml is missing"):
        Bundle(copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "foreign: field format is 'other'"),
        ({"schema_version": 99}, "newer than this package: field schema_version is 99"),
        ({"condition_width": "many"}, "field condition_width"),
        ({"files": {"../x": "0" * 64}}, "points outside"),
        ({"files": {}}, "not listed"),
        ({"unknown": 1}, "field unknown"),
    ],
)
def test_manifests_that_are_refused(copy: Path, changes: dict[str, Any], message: str) -> None:
    edit(copy, **changes)
    with pytest.raises(BundleError, match=message):
        Bundle(copy)


def test_not_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such bundle"):
        Bundle(tmp_path / "none")
    with pytest.raises(BundleError, match="not a bundle"):
        Bundle(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(BundleError, match="not a manifest"):
        Bundle(tmp_path)


def test_condition_rows_are_those_of_the_model(small_bundle: Path, small_checkpoint: Path) -> None:
    import torch

    bundle, model = Bundle(small_bundle), load_model(small_checkpoint)
    for steps in (1, 2, 3):
        with torch.no_grad():
            expected = model.fmir.condition(torch.arange(steps) / steps).numpy()
        np.testing.assert_allclose(bundle.condition_rows(steps), expected, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("part", PARTS)
def test_exported_parts_are_strongly_typed_and_right(
    small_checkpoint: Path, part: str, precision: str
) -> None:
    import onnx

    exported = export_part(load_model(small_checkpoint), part, size=(64, 64), precision=precision)
    assert exported.relative_error <= BOUNDS[precision]
    model = onnx.load_from_string(exported.data)
    wanted = {"fp32": "FLOAT", "fp16": "FLOAT16", "bf16": "BFLOAT16"}[precision]
    for value in (*model.graph.input, *model.graph.output):
        assert onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type) == wanted
    kinds = {node.op_type for node in model.graph.node}
    assert ("GroupNormalization" in kinds) == (part == "velocity")
    assert "Cast" not in kinds
    assert all(not node.doc_string and not node.metadata_props for node in model.graph.node)


def test_tensorrt_rtx_bundle(small_checkpoint: Path, tmp_path: Path) -> None:
    """TensorRT-RTX builds without a GPU: a bundle with real engines of it, in FP16."""
    path = tmp_path / "both"
    report = build(
        small_recipe(), small_checkpoint, output=path, backends=["openvino", "tensorrt-rtx"], precision="fp16"
    )
    bundle = Bundle(report.path)
    for part in PARTS:
        (engine,) = bundle.read_engine("tensorrt-rtx", part)
        assert len(engine) > 10_000
        assert report.manifest.parts["tensorrt-rtx"][part].layers


def test_recipes_that_ship() -> None:
    assert {"bfr", "bsr", "camera", "denoising", "inpainting", "sr"} <= set(recipe_names())
    for name in recipe_names():
        assert load_recipe(name).task == name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": [100, 128]}, "height is 100; it must be a multiple of 64"),
        ({"colour": 1}, "colour: no such key; known are"),
        ({"steps": 0}, "steps: must be at least 1 .found 0"),
        ({"sigma": "much"}, "sigma: must be a number .found .much"),
        ({"prepare": {"mode": "pad", "multiple": 8}}, "needs a multiple of 32"),
    ],
)
def test_recipes_are_strict(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        small_recipe(**changes)
    with pytest.raises(RecipeError, match="no recipe is named 'bfx'; there are bfr"):
        load_recipe("bfx")
    with pytest.raises(RecipeError, match="where"):
        parse_recipe({}, "where")


def test_bundle_that_ships_is_of_the_recipe_and_the_weights_in_the_tree() -> None:
    root = Path(__file__).resolve().parents[1]
    bundle = Bundle(root / "elir_trt" / "bundles" / "camera")
    specification = bundle.manifest.specification
    assert specification.recipe == load_recipe(root / "engines" / "camera.toml")
    assert specification.checkpoint == file_digest(root / "elir_trt" / "weights" / "camera.npz")
    size = sum((bundle.path / name).stat().st_size for name in bundle.manifest.files)
    assert size < 14_000_000
