"""Training on procedural images: the loss falls, a stopped training goes on as if it had not stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from elir_trt.errors import CheckpointError, RecipeError  # noqa: E402
from elir_trt.model.checkpoint import load_model  # noqa: E402
from elir_trt.recipe import Recipe, parse_recipe  # noqa: E402
from elir_trt.training.command import train  # noqa: E402
from elir_trt.training.data import Crops, dead_leaves  # noqa: E402
from elir_trt.training.degrade import TASKS, degradation  # noqa: E402
from elir_trt.training.trainer import Settings, Trainer, start_model  # noqa: E402
from elir_trt.training.weights import write_weights  # noqa: E402

PHASES = (
    Settings("autoencoder", batch=4, crop=32, warm_up=5, autocast=False),
    Settings("flow", batch=4, crop=32, warm_up=5, straight=0.5, autocast=False),
)


@pytest.fixture
def recipe() -> Recipe:
    return parse_recipe(
        {
            "task": "camera",
            "title": "a small one",
            "steps": 2,
            "sigma": 0.1,
            "size": [64, 64],
            "architecture": {
                "latent_channels": 8,
                "autoencoder": {"unshuffle": 2, "widths": [16], "blocks": [1]},
                "coarse": {"growth": 8, "blocks": 1},
                "velocity": {"hidden": 32, "middle": 0},
            },
            "prepare": {"mode": "pad"},
        },
        "test",
    )


def _trainer(recipe: Recipe, out: Path, settings: Settings) -> Trainer:
    leaves = [dead_leaves(64, np.random.default_rng(0))]
    return Trainer(
        start_model(recipe, None, 0), recipe, Crops([], leaves, 1.0, 0), out, settings, seed=0, device="cpu"
    )


def test_loss_falls(recipe: Recipe, tmp_path: Path) -> None:
    history = _trainer(recipe, tmp_path, PHASES[0]).run(iterations=60)
    first, last = (np.mean([entry["loss"] for entry in part]) for part in (history[:10], history[-10:]))
    assert last < 0.8 * first


@pytest.mark.parametrize("settings", PHASES, ids=lambda s: s.phase)
def test_resumes_with_the_same_losses(recipe: Recipe, tmp_path: Path, settings: Settings) -> None:
    whole = _trainer(recipe, tmp_path / "whole", settings).run(iterations=12)
    first = _trainer(recipe, tmp_path / "parts", settings).run(iterations=12, stop_at=5)
    again = _trainer(recipe, tmp_path / "parts", settings)
    assert again.resume()
    torch.manual_seed(999)
    assert again.resume()
    assert first + again.run(iterations=12) == whole


def test_other_settings_do_not_resume(recipe: Recipe, tmp_path: Path) -> None:
    _trainer(recipe, tmp_path, PHASES[0]).run(iterations=1)
    with pytest.raises(CheckpointError, match="crop"):
        _trainer(
            recipe, tmp_path, Settings("autoencoder", batch=4, crop=64, warm_up=5, autocast=False)
        ).resume()


def test_train_writes_a_checkpoint_that_loads(recipe: Recipe, tmp_path: Path) -> None:
    checkpoint = train(recipe, None, tmp_path, iterations=8, procedural=2, device="cpu", phases=PHASES)
    model = load_model(checkpoint, recipe.architecture)
    with torch.inference_mode():
        y = model.restore(torch.rand(1, 3, 64, 64), steps=2, sigma=0.1)
    assert y.shape == (1, 3, 64, 64) and bool(torch.isfinite(y).all())
    for name in ("samples.png", "losses.png", "held_out.json", "losses.jsonl", "state.pt"):
        assert (tmp_path / "1-flow" / name).stat().st_size > 0
    weights = tmp_path / "small.npz"
    assert write_weights(checkpoint, weights) == weights.stat().st_size
    load_model(weights, recipe.architecture)


@pytest.mark.parametrize("task", sorted(TASKS))
def test_degradations_keep_shape_and_depend_on_the_generator_alone(task: str) -> None:
    image = dead_leaves(64, np.random.default_rng(0))
    results = [degradation(task)(image, np.random.default_rng(1)) for _ in range(2)]
    assert results[0].shape == image.shape and results[0].dtype == np.uint8
    assert np.array_equal(*results)
    assert not np.array_equal(results[0], image)


def test_unknown_task_is_refused() -> None:
    with pytest.raises(RecipeError, match="denoising"):
        degradation("nothing")
