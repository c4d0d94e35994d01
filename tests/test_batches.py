"""Tiles that go through the engines together come out as they do one by one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import edit_manifest, gated, small_recipe, write_gated_checkpoint

import elir_trt
from elir_trt.building import build
from elir_trt.building.export import export_part, relative_error, with_batch
from elir_trt.building.quantize import run_file
from elir_trt.errors import BuildError
from elir_trt.model import load_model
from elir_trt.parts import PARTS, part_shapes, part_tensors

#: Tiles of 64x64 over 100x150: 2 x 3 of them, so that batches of 4 leave a remainder.
FRAME, TILES = (100, 150), 6
TILED = {"size": [64, 64], "prepare": {"mode": "tile", "multiple": 32, "overlap": 16}}


@pytest.fixture(scope="module", params=["none", "gated"])
def bundle(
    small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    """With a skip, each tile's decoder has to find the image of its own tile."""
    path = tmp_path_factory.mktemp("batches") / "b"
    options: dict[str, Any] = {"backends": ["openvino", "torch"], "precision": "fp32", "batch": 2}
    recipe, checkpoint = small_recipe(**TILED), small_checkpoint
    if request.param == "gated":
        recipe = gated(recipe)
        checkpoint = write_gated_checkpoint(path.with_name("gated.ckpt"), small_checkpoint)
    return build(recipe, checkpoint, output=path, **options).path


def with_built_batch(bundle: Path, folder: Path, batch: int) -> Path:
    """The bundle, as if it had been built for another batch: both backends' engines are those of any."""
    changed = Path(shutil.copytree(bundle, folder / f"of-{batch}"))
    edit_manifest(changed, lambda manifest: manifest["specification"].update(batch=batch))
    return changed


@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_batches_restore_the_same_frame(bundle: Path, tmp_path: Path, backend: str) -> None:
    frame = np.random.default_rng(8).integers(0, 256, (*FRAME, 3), dtype=np.uint8)
    found: dict[int, Any] = {}
    for batch in (1, 2, 4, 9):
        path = with_built_batch(bundle, tmp_path, batch)
        with elir_trt.open(path, backend=backend, device="cpu") as restorer:
            geometry = restorer.geometry(FRAME)
            assert len(geometry.tiles) == TILES
            # No more tiles are computed than there are.
            assert restorer.batch(geometry) == min(batch, TILES)
            with restorer.stream(depth=2, steps=2, size=FRAME) as stream:
                stream.submit(frame)
                stream.submit(frame[::-1])
                found[batch] = [stream.result().frame.astype(int) for _ in range(2)]
                assert stream.read_tensor("decoded").shape == (min(batch, TILES), 3, 64, 64)
    for batch in (2, 4, 9):
        for restored, expected in zip(found[batch], found[1], strict=True):
            # Rounding to a level falls to the other side where sums were added in another order.
            assert np.abs(restored - expected).max() <= 1
            assert np.mean(restored != expected) < 1e-3


def test_a_frame_of_one_tile_takes_no_more(bundle: Path) -> None:
    frame = np.random.default_rng(8).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    with elir_trt.open(bundle, device="cpu") as restorer, restorer.stream(size=(64, 64)) as stream:
        stream.submit(frame)
        stream.result()
        assert stream.read_tensor("decoded").shape[0] == 1


def test_engines_of_a_fixed_batch_always_take_it(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with elir_trt.open(bundle, device="cpu") as restorer:
        monkeypatch.setattr(restorer.engines, "batch", 4, raising=False)
        assert restorer.batch(restorer.geometry((64, 64))) == 4


@pytest.mark.parametrize("part", PARTS)
def test_a_file_for_a_batch_computes_each_image_as_alone(small_checkpoint: Path, part: str) -> None:
    model = load_model(small_checkpoint)
    single = export_part(model, part, size=(64, 64)).data
    inputs, output = part_tensors(part, model.architecture)
    shapes = part_shapes(model.architecture, (64, 64), model.fmir.condition_width, 3)
    rng = np.random.default_rng(2)
    feed = {name: rng.standard_normal(shapes[name]).astype(np.float32) for name in inputs}
    (found,) = run_file(with_batch(single, 3), [feed])
    assert found.shape == shapes[output]
    alone = [
        {name: value if name == "condition" else value[i : i + 1] for name, value in feed.items()}
        for i in range(3)
    ]
    assert relative_error(found, np.concatenate(run_file(single, alone))) < 1e-6


def test_a_batch_that_the_core_does_not_take_is_refused(small_checkpoint: Path, tmp_path: Path) -> None:
    for batch in (0, 65):
        with pytest.raises(BuildError, match=f"batch is {batch}; expected 1 to 64"):
            build(small_recipe(), small_checkpoint, output=tmp_path / "b", batch=batch)
