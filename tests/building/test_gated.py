"""Engines of a decoder with a skip: it takes the image, which the core has kept since it was encoded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from bundles import gated, small_recipe, with_skip_that_shows, write_gated_checkpoint
from test_stream import frame_of, psnr, torch_restored

import elir_trt
from elir_trt.backends.eight_bits import count_quantized
from elir_trt.backends.openvino import OPENVINO
from elir_trt.backends.tensorrt_rewrite import for_tensorrt
from elir_trt.building import build
from elir_trt.building.export import export_part, relative_error
from elir_trt.building.quantize import quantize, run_file
from elir_trt.model import load_model
from elir_trt.model.elir import Elir
from elir_trt.model.engine_parts import part_module
from elir_trt.parts import part_shapes
from elir_trt.recipe import load_recipe
from elir_trt.verify import verify

SIZE = (64, 128)


@pytest.fixture(scope="module")
def gated_checkpoint(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gated") / "gated.ckpt"
    return write_gated_checkpoint(path, small_checkpoint)


@pytest.fixture(scope="module")
def gated_bundle(gated_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gated") / "bundle"
    return build(gated(small_recipe(default_steps=0)), gated_checkpoint, output=path, min_psnr=20.0).path


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELIR_TRT_CACHE", str(tmp_path / "cache"))


def decoder_of(task: str) -> tuple[Elir, Mapping[str, np.ndarray]]:
    """A decoder, with pixels in its last channels ("camera") or not, and something to decode."""
    recipe = gated(small_recipe() if task == "small" else load_recipe(task))
    torch.manual_seed(1)
    model = with_skip_that_shows(Elir(recipe.architecture))
    shapes = part_shapes(recipe.architecture, SIZE, model.fmir.condition_width)
    rng = np.random.default_rng(2)
    feed = {
        "latent": rng.normal(size=shapes["latent"]).astype(np.float32),
        "image": rng.random(shapes["image"], dtype=np.float32),
    }
    return model, feed


@pytest.mark.parametrize("task", ["small", "camera"])
def test_the_part_is_the_decoder(task: str) -> None:
    model, feed = decoder_of(task)
    arguments = [torch.from_numpy(value) for value in feed.values()]
    expected = model.dec(*arguments).numpy()
    assert relative_error(part_module(model, "decoder")(*arguments).detach().numpy(), expected) <= 1e-6
    without = arguments[0], torch.zeros_like(arguments[1])
    assert relative_error(model.dec(*without).numpy(), expected) > 0.1, "the image counts"
    (found,) = run_file(for_tensorrt(export_part(model, "decoder", size=SIZE).data), [feed])
    assert relative_error(found, expected) <= 1e-4


def test_what_touches_pixels_or_the_latent_stays_in_floats() -> None:
    """Both entries, the head and the gate; all else is in 8 bits."""
    model, feed = decoder_of("camera")
    data = export_part(model, "decoder", size=SIZE).data
    convolutions = [n.name for n in onnx.load_model_from_string(data).graph.node if n.op_type == "Conv"]
    found = quantize(data, [feed])
    assert count_quantized(onnx.load_model_from_string(found)) == len(convolutions) - 4
    assert relative_error(run_file(found, [feed])[0], run_file(data, [feed])[0]) <= 0.05


@pytest.mark.parametrize("size", [SIZE, (96, 64)])
def test_frames_are_those_of_torch(
    gated_bundle: Path, gated_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    """With one engine for frames without steps, and part by part."""
    monkeypatch.setattr(OPENVINO, "tuned_precisions", lambda: ("fp32",))
    frame = frame_of(*size)
    with elir_trt.open(gated_bundle, device="cpu") as restorer, restorer.stream(depth=1, size=size) as stream:
        for steps in (0, 3, 0, 1):
            stream.submit(frame, steps=steps)
            result = stream.result()
            assert psnr(result.frame, torch_restored(gated_checkpoint, frame, steps)) >= 50.0
        assert load_model(gated_checkpoint).architecture.skip == "gated"


def test_verified_with_every_backend(
    gated_bundle: Path, gated_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert verify(gated_bundle, backend="openvino", device="cpu").passed
    recipe = gated(small_recipe(default_steps=0))
    own = build(recipe, gated_checkpoint, output=tmp_path / "own", backends=["openvino", "torch"]).path
    frame = frame_of(*SIZE)
    for backend in ("openvino", "torch"):
        with elir_trt.open(own, backend=backend, device="cpu") as restorer:
            for steps in (0, 2):
                expected = torch_restored(gated_checkpoint, frame, steps)
                assert psnr(restorer(frame, steps=steps), expected) >= 35.0
