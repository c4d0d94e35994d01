"""Training on procedural images: the loss falls, a stopped training goes on as if it had not stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch")

import elir_trt  # noqa: E402
from elir_trt.building.builder import build  # noqa: E402
from elir_trt.cli.train import progress_line  # noqa: E402
from elir_trt.errors import CheckpointError  # noqa: E402
from elir_trt.model.autoencoder import GATE_START  # noqa: E402
from elir_trt.model.checkpoint import load_model  # noqa: E402
from elir_trt.procedural import dead_leaves  # noqa: E402
from elir_trt.recipe import Recipe, parse_recipe  # noqa: E402
from elir_trt.training import trainer as trainer_module  # noqa: E402
from elir_trt.training.command import schedule, train  # noqa: E402
from elir_trt.training.data import Crops, detail  # noqa: E402
from elir_trt.training.start import principal_components, start_as_identity  # noqa: E402
from elir_trt.training.trainer import (  # noqa: E402
    Settings,
    Trainer,
    overparametrise,
    start_model,
    to_tensor,
)
from elir_trt.training.weights import write_weights  # noqa: E402

PHASES = (
    Settings("joint", batch=4, crop=32, warm_up=5, autocast=False),
    Settings("flow", batch=4, crop=32, warm_up=5, straight=0.5, autocast=False, teacher="coarse"),
)
PUBLISHED = (
    Settings("autoencoder", batch=4, crop=32, warm_up=5, autocast=False),
    Settings("flow", batch=4, crop=32, warm_up=5, autocast=False, overparametrised=True),
)


def small_recipe() -> Recipe:
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


@pytest.fixture
def recipe() -> Recipe:
    return small_recipe()


def _trainer(recipe: Recipe, out: Path, settings: Settings) -> Trainer:
    leaves = [dead_leaves(64, np.random.default_rng(0))]
    return Trainer(
        start_model(recipe, None, 0), recipe, Crops([], leaves, 1.0, 0), out, settings, seed=0, device="cpu"
    )


@pytest.mark.parametrize("loss", ["l1", "psnr"])
def test_loss_falls(recipe: Recipe, tmp_path: Path, loss: Literal["l1", "psnr"]) -> None:
    history = _trainer(recipe, tmp_path, replace(PHASES[0], loss=loss)).run(iterations=60)
    shares = {"restored": 0.9, "ceiling": 0.8, **({"loss": 0.8} if loss == "l1" else {})}
    for name, share in shares.items():
        first, last = (np.mean([entry[name] for entry in part]) for part in (history[:10], history[-10:]))
        assert last < share * first
    assert history[-1]["loss"] < history[0]["loss"]


def test_crops_vary_photos_by_the_seed_alone() -> None:
    rng = np.random.default_rng(0)
    photos = [dead_leaves(160, rng), np.full((160, 160, 3), 90, np.uint8)]
    batches = [Crops(photos, [], 0.0, seed).batch(60, 48) for seed in (1, 1, 2)]
    assert batches[0].shape == (60, 48, 48, 3) and batches[0].dtype == np.uint8
    assert np.array_equal(batches[0], batches[1])
    assert not np.array_equal(batches[0], batches[2])
    plain = Crops(photos, [], 0.0, 1, varied=False).batch(60, 48)
    assert set(plain[[detail(image) == 0 for image in plain]].ravel()) == {90}

    def flat(images: npt.NDArray[np.uint8]) -> int:
        return sum(detail(image) == 0 for image in images)

    # Of photos that are smooth by half, detailed places are seen more often, and smooth ones still.
    assert 0 < flat(batches[0]) < 0.8 * flat(plain)


def test_muon_moves_kernels_by_orthogonal_matrices_and_the_rest_as_adamw(
    recipe: Recipe, tmp_path: Path
) -> None:
    rate = 1e-3
    settings = replace(PHASES[0], optimizer="muon", rate=rate, warm_up=1)
    trainer = _trainer(recipe, tmp_path, settings)
    before = [p.detach().clone() for p in trainer.parameters]
    trainer.iterate(0.0)
    kernels = 0
    for old, new in zip(before, trainer.parameters, strict=True):
        moved = (new.detach() - old).flatten(1) if old.ndim == 4 else new.detach() - old
        if new.grad is None or not bool(new.grad.any()):
            continue
        if old.ndim == 4 and min(old.shape[:2]) >= 16:
            kernels += 1
            lengths = torch.linalg.svdvals(moved) / (0.2 * rate * max(moved.shape) ** 0.5)
            slopes = torch.linalg.svdvals(new.grad.flatten(1))
            # Five of Newton and Schulz's iterations bring the larger values to about 1.
            assert 0.7 < float(lengths.max()) < 1.3
            assert float(lengths.median() / lengths.max()) > 2 * float(slopes.median() / slopes.max())
        else:
            assert float(moved.abs().max()) == pytest.approx(rate, rel=0.1)
    assert kernels >= 4


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_learns(recipe: Recipe, tmp_path: Path, optimizer: Literal["adamw", "muon"]) -> None:
    trainer = _trainer(recipe, tmp_path, replace(PHASES[0], optimizer=optimizer, rate=2e-3))
    # Clean crops: how hard those of the last steps are decides nothing then.
    trainer.degrade = lambda image, rng: image
    restored = [entry["restored"] for entry in trainer.run(iterations=60)]
    # In tens: 0.35, 0.21, 0.18, 0.18, 0.16, 0.15 with either.
    assert np.mean(restored[-10:]) < 0.55 * np.mean(restored[:10])


@pytest.mark.parametrize(
    "settings",
    [*PHASES, *PUBLISHED, *(replace(settings, optimizer="muon") for settings in PHASES)],
    ids=lambda s: f"{s.phase}-{s.teacher}-{s.optimizer}",
)
def test_resumes_with_the_same_losses(recipe: Recipe, tmp_path: Path, settings: Settings) -> None:
    whole = _trainer(recipe, tmp_path / "whole", settings).run(iterations=12)
    first = _trainer(recipe, tmp_path / "parts", settings).run(iterations=12, stop_at=5)
    again = _trainer(recipe, tmp_path / "parts", settings)
    assert again.resume()
    torch.manual_seed(999)
    assert again.resume()
    assert first + again.run(iterations=12) == whole


def test_published_schedule_takes_the_autoencoder_from_weights(recipe: Recipe, tmp_path: Path) -> None:
    phases, flow_share = schedule(True, None)
    assert [settings.phase for settings in phases] == ["autoencoder", "flow"] and flow_share > 0.5
    assert all(settings.optimizer == "adamw" for settings in phases)
    assert [settings.phase for settings in schedule(False, None)[0]] == ["joint", "flow"]
    _trainer(recipe, tmp_path, PUBLISHED[0]).run(iterations=1)
    weights = tmp_path / "elir.ckpt"
    (flow,), share = schedule(True, weights)
    assert flow.phase == "flow"
    small = (replace(flow, batch=4, crop=32, autocast=False),)
    out = tmp_path / "out"
    checkpoint = train(
        recipe,
        None,
        out,
        iterations=2,
        procedural=2,
        weights=weights,
        phases=small,
        flow_share=share,
        device="cpu",
    )
    before, after = (load_model(path, recipe.architecture) for path in (weights, checkpoint))
    assert all(
        torch.equal(a, b) for a, b in zip(before.dec.parameters(), after.dec.parameters(), strict=True)
    )


def test_other_settings_do_not_resume(recipe: Recipe, tmp_path: Path) -> None:
    _trainer(recipe, tmp_path, PHASES[0]).run(iterations=1)
    with pytest.raises(CheckpointError, match="crop"):
        _trainer(recipe, tmp_path, Settings("joint", batch=4, crop=64, warm_up=5, autocast=False)).resume()


def test_train_writes_a_checkpoint_that_loads(recipe: Recipe, tmp_path: Path) -> None:
    told: list[dict[str, float]] = []

    def go() -> Path:
        return train(
            recipe,
            None,
            tmp_path,
            iterations=8,
            procedural=2,
            device="cpu",
            phases=PHASES,
            report=told.append,
        )

    checkpoint = go()
    # The last line of each phase; a slow machine says more of them.
    assert {line["phase"]: line["step"] for line in told} == {1: 6, 2: 2}
    lines = len(told)
    held_out = json.loads((tmp_path / "1-flow" / "held_out.json").read_text())
    assert told[-1]["psnr K=2"] == held_out["K=2"]["psnr"] and 0.0 < told[-1]["ssim K=0"] < 1.0
    progress = progress_line(told[-1])
    assert (
        re.match(r"phase 2  step 2  \d+:\d", progress) and f"psnr K=2 {told[-1]['psnr K=2']:.2f}" in progress
    )
    (tmp_path / "1-flow" / "samples.png").unlink()
    assert go() == checkpoint and len(told) == lines  # nothing left to train
    model = load_model(checkpoint, recipe.architecture)
    with torch.inference_mode():
        y = model.restore(torch.rand(1, 3, 64, 64), steps=2, sigma=0.1)
    assert y.shape == (1, 3, 64, 64) and bool(torch.isfinite(y).all())
    for name in ("samples.png", "losses.png", "held_out.json", "losses.jsonl", "state.pt"):
        assert (tmp_path / "1-flow" / name).stat().st_size > 0
    weights = tmp_path / "small.npz"
    assert write_weights(checkpoint, weights) == weights.stat().st_size
    load_model(weights, recipe.architecture)


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_trainer import PHASES, _trainer, small_recipe
_trainer(small_recipe(), Path(sys.argv[2]), PHASES[0]).run(iterations=400, every_s=0.0)
"""


def _losses(out: Path) -> list[tuple[int, float]]:
    """Of every step, as written while training; a line that the kill cut off is left out."""
    lines = (out / "losses.jsonl").read_text().splitlines(keepends=True)
    entries = [json.loads(line) for line in lines if line.endswith("\n")]
    return [(entry["step"], entry["loss"]) for entry in entries]


def test_a_killed_training_goes_on_with_the_same_losses(recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(out)],
        env=environment,
        cwd=tmp_path,  # Python looks in its own folder first, and the checkout's sources have no core.
    )
    until = time.monotonic() + 120
    while not (out / "state.pt").is_file() or len(_losses(out)) < 3:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        again = _trainer(recipe, out, PHASES[0])
        assert again.resume() and again.step >= 2
        stop = again.step + 3
        again.run(iterations=400, stop_at=stop, every_s=0.0)
        whole = _trainer(recipe, tmp_path / "whole", PHASES[0])
        whole.run(iterations=400, stop_at=stop, every_s=0.0)
    finally:
        torch.set_num_threads(before)
    expected = dict(_losses(tmp_path / "whole"))
    assert len(expected) == stop
    assert all(expected[step] == loss for step, loss in _losses(out) if step <= stop)


@pytest.mark.parametrize("phases", [PHASES, PUBLISHED], ids=["fast", "published"])
def test_a_trained_checkpoint_builds_and_runs(
    recipe: Recipe, tmp_path: Path, phases: tuple[Settings, ...]
) -> None:
    checkpoint = train(recipe, None, tmp_path / "t", iterations=8, procedural=2, device="cpu", phases=phases)
    folder = tmp_path / "bundle"
    build(recipe, checkpoint, output=folder, backends=["openvino"], precision="fp32")
    model = load_model(checkpoint, recipe.architecture)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    with elir_trt.open(folder) as restorer, restorer.stream(steps=0) as stream:
        stream.submit(image)
        restored = stream.result().frame
    with torch.inference_mode():
        expected = model.restore(to_tensor(image[None], torch.device("cpu")), steps=0, sigma=0.0)[0]
    assert np.abs(restored / 255.0 - expected.permute(1, 2, 0).numpy()).max() < 1.01 / 255.0


def test_a_fresh_model_starts_as_the_identity(recipe: Recipe) -> None:
    leaves = np.stack([dead_leaves(64, np.random.default_rng(i)) for i in range(4)])
    model = start_model(recipe, None, 0)
    start_as_identity(model, leaves)
    x = to_tensor(leaves, torch.device("cpu"))
    mean, components, deviations = principal_components(leaves, 2)
    assert torch.allclose(components @ components.T, torch.eye(12), atol=1e-4)
    assert bool((deviations[:-1] >= deviations[1:]).all()) and mean.shape == (12,)
    with torch.inference_mode():
        error = float(((model.restore(x, steps=0, sigma=0.0) - x) ** 2).mean())
    # 8 of 12 components are kept; the decoder's tanh bends a little more.
    assert error < 2.0 * float((deviations[8:] ** 2).sum()) / 12 + 1e-4


def test_the_identity_needs_room(recipe: Recipe) -> None:
    narrow = replace(recipe.architecture, latent_channels=16)
    model = start_model(replace(recipe, architecture=narrow), None, 0)
    with pytest.raises(ValueError, match="twice as wide"):
        start_as_identity(model, np.zeros((1, 64, 64, 3), np.uint8))


def test_a_shallower_checkpoint_starts_a_deeper_model_as_itself(recipe: Recipe, tmp_path: Path) -> None:
    trained = _trainer(recipe, tmp_path, PHASES[0])
    trained.run(iterations=3)
    small = trained.result()
    spec = replace(recipe.architecture.autoencoder, blocks=(3,))
    architecture = replace(recipe.architecture, autoencoder=spec)
    deeper = start_model(replace(recipe, architecture=architecture), tmp_path / "elir.ckpt", 0)
    assert len(deeper.enc.layers) == len(small.enc.layers) + 2
    x = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        expected, got = (model.restore(x, steps=0, sigma=0.0) for model in (small, deeper))
        assert torch.allclose(got, expected, atol=1e-5)
    with pytest.raises(CheckpointError, match=r"elir\.ckpt"):
        narrow = replace(spec, widths=(24,))
        architecture = replace(recipe.architecture, autoencoder=narrow)
        start_model(replace(recipe, architecture=architecture), tmp_path / "elir.ckpt", 0)


def test_overparametrising_changes_nothing_but_the_layout(recipe: Recipe) -> None:
    model = start_model(recipe, None, 0)
    wide = overparametrise(model)
    z, t = torch.randn(1, 8, 16, 16), torch.tensor([0.3])
    assert len(wide.state_dict()) > len(model.state_dict())
    with torch.inference_mode():
        assert torch.allclose(wide.mmse(z), model.mmse(z), atol=1e-5)
        assert torch.allclose(wide.fmir(z, t), model.fmir(z, t), atol=1e-5)


def _gated(recipe: Recipe) -> Recipe:
    architecture = replace(recipe.architecture, skip="gated")
    return replace(recipe, architecture=architecture)


def test_a_skip_is_added_to_a_checkpoint_without_one_and_learns(recipe: Recipe, tmp_path: Path) -> None:
    _trainer(recipe, tmp_path, PHASES[0]).run(iterations=1)
    plain = load_model(tmp_path / "elir.ckpt", recipe.architecture)
    model = start_model(_gated(recipe), tmp_path / "elir.ckpt", 0)
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        before = [m.restore(x, steps=2, sigma=0.1, noise=torch.ones(1, 8, 32, 32)) for m in (plain, model)]
    # All but closed at first: 0.7 % of the difference to the image.
    assert (before[0] - before[1]).abs().max() <= torch.sigmoid(torch.tensor(GATE_START))
    leaves = Crops([], [dead_leaves(64, np.random.default_rng(0))], 1.0, 0)
    settings = replace(PHASES[0], loss="psnr")
    trainer = Trainer(model, _gated(recipe), leaves, tmp_path / "gated", settings, seed=0, device="cpu")
    trainer.run(iterations=3)
    assert trainer.model.dec.gate is not None and trainer.model.dec.entry is not None
    assert all(bool(w.any()) for w in (trainer.model.dec.gate.weight, trainer.model.dec.entry.weight))
    saved = load_model(tmp_path / "gated" / "elir.ckpt")
    assert saved.architecture == _gated(recipe).architecture
    with pytest.raises(CheckpointError, match=r"dec\.entry\.weight"):
        load_model(tmp_path / "gated" / "elir.ckpt", recipe.architecture)


@pytest.mark.parametrize(
    "phase", [PHASES[1], PUBLISHED[0], PUBLISHED[1]], ids=["fast", "autoencoder", "flow"]
)
def test_every_phase_trains_with_a_skip(recipe: Recipe, tmp_path: Path, phase: Settings) -> None:
    history = _trainer(_gated(recipe), tmp_path, phase).run(iterations=2)
    assert all(np.isfinite(value) for entry in history for value in entry.values())


def test_the_rate_stays_and_then_falls(recipe: Recipe, tmp_path: Path) -> None:
    trainer = _trainer(recipe, tmp_path, replace(PHASES[0], rate=1e-3, cooling=0.25))
    trainer.step = 100
    rates = [trainer._rate(progress) for progress in (0.0, 0.5, 0.75, 0.875, 1.0)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-3, 5e-4, 0.0], abs=2e-6)


def test_crops_of_a_step_depend_on_the_seed_and_the_step_alone(recipe: Recipe, tmp_path: Path) -> None:
    first, second = (_trainer(recipe, tmp_path / name, PHASES[0]) for name in "ab")
    first._batch()
    first.step = second.step = 3
    for a, b in zip(first._batch(), second._batch(), strict=True):
        assert np.array_equal(a, b)
    second.step = 4
    assert not np.array_equal(first._make(3)[0], second._make(4)[0])


def test_each_piece_says_where_it_ran(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The type is measured where it is open, kept on the same CPU, and measured anew on another."""
    settings = replace(PHASES[0], autocast=None)
    took = {"bfloat16": 20.0, "float32": 10.0}
    monkeypatch.setattr(trainer_module, "measured_ms", lambda losses: dict(took))
    said: list[str] = []

    def piece(stop_at: int) -> list[dict[str, Any]]:
        trainer = _trainer(recipe, tmp_path, settings)
        trainer.say = said.append
        trainer.resume()
        trainer.run(iterations=6, stop_at=stop_at)
        return json.loads((tmp_path / "sessions.json").read_text())

    (first,) = piece(2)
    assert (first["dtype"], first["step"], first["steps"]) == ("float32", 0, 2)
    assert first["device"] and first["torch"] == torch.__version__ and first["minutes"] > 0.0
    assert "float32 on " in said[0] and "bfloat16 20 ms" in said[0]
    took.update(bfloat16=5.0)
    second = piece(3)[1]
    assert (second["dtype"], second["measured_ms"], second["step"]) == ("float32", None, 2)
    monkeypatch.setattr(trainer_module, "device_name", lambda device: "another CPU")
    assert [s["dtype"] for s in piece(6)] == ["float32", "float32", "bfloat16"]
    assert len(piece(6)) == 3 and len(said) == 3, "nothing was left to do"


def test_measuring_a_type_changes_nothing(recipe: Recipe, tmp_path: Path) -> None:
    """Neither weights nor what is drawn: the losses are those of a type that was given."""
    measured = _trainer(recipe, tmp_path / "a", replace(PHASES[1], autocast=None))
    losses = measured.run(iterations=3)
    session = measured.session()
    assert session.measured_ms is not None and set(session.measured_ms) == {"bfloat16", "float32"}
    given = replace(PHASES[1], autocast=session.dtype == "bfloat16")
    assert _trainer(recipe, tmp_path / "b", given).run(iterations=3) == losses


def test_a_higher_floor_gives_heavy_noise_more_of_the_gradient(recipe: Recipe, tmp_path: Path) -> None:
    """Squared errors far below the floor count for nearly nothing."""
    low, high = (
        _trainer(recipe, tmp_path / str(floor), replace(PHASES[0], loss="psnr", log_floor=floor))
        for floor in (3e-5, 1e-1)
    )
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    slopes = []
    for trainer in (low, high):
        losses = [trainer._pixels(x, x + shift)["loss"].item() for shift in (0.0, 0.2)]
        slopes.append(losses[1] - losses[0])
    assert 0.0 < slopes[1] < slopes[0]


def test_the_decoder_bears_noise_of_the_latent(recipe: Recipe, tmp_path: Path) -> None:
    plain, noisy = (
        _trainer(recipe, tmp_path / str(noise), replace(PHASES[0], latent_noise=noise))
        for noise in (0.0, 1.0)
    )
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert plain._pixels(x, x)["loss"].item() == plain._pixels(x, x)["loss"].item()
    assert noisy._pixels(x, x)["loss"].item() != noisy._pixels(x, x)["loss"].item()


def test_steps_are_trained_through_the_decoder(recipe: Recipe, tmp_path: Path) -> None:
    """The velocity field alone changes, and the pixels that it leads to get nearer."""
    settings = replace(PHASES[1], target="pixels", freeze_coarse=True, rate=2e-3)
    trainer = _trainer(_gated(recipe), tmp_path, settings)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    history = trainer.run(iterations=30)
    after = trainer.model.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"fmir"}
    losses = [line["loss"] for line in history]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
