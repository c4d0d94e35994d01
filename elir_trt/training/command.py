"""What ``elir-trt train`` does: data, both phases, sample sheets, the checkpoint."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from elir_trt.degradations import degradation, to_uint8
from elir_trt.metrics import psnr, ssim
from elir_trt.procedural import dead_leaves
from elir_trt.recipe import Recipe
from elir_trt.training.data import Crops, Image, load_photos
from elir_trt.training.sheets import loss_plot, sample_sheet
from elir_trt.training.trainer import Progress, Settings, Trainer, start_model, to_tensor

#: What each phase learns with, unless told otherwise: a small restorer from nothing.
PHASES = (
    Settings(
        "joint",
        batch=12,
        crop=128,
        loss="psnr",
        log_floor=4e-4,
        latent_noise=0.01,
        optimizer="muon",
        rate=5e-4,
        cooling=0.5,
    ),
    Settings(
        "flow",
        batch=12,
        rate=5e-4,
        log_floor=4e-4,
        freeze_coarse=True,
        teacher="coarse",
        target="pixels",
        optimizer="muon",
    ),
)
#: As published: an autoencoder (unless a checkpoint has one), then everything but the decoder by consistency.
PUBLISHED = (Settings("autoencoder"), Settings("flow", rate=1e-4, overparametrised=True))
#: Part of the budget for the velocity field, where there is another phase.
FLOW_SHARE, PUBLISHED_FLOW_SHARE = 0.2, 0.75
#: Crops that are never trained on, to measure with.
HELD_OUT = 4


def schedule(published: bool, weights: Path | None) -> tuple[tuple[Settings, ...], float]:
    """The phases of a training and the last one's share of the budget.

    The published schedule takes the autoencoder from ``weights`` where there are some.
    """
    if not published:
        return PHASES, FLOW_SHARE
    return PUBLISHED if weights is None else PUBLISHED[1:], PUBLISHED_FLOW_SHARE


def train(
    recipe: Recipe,
    data: Path | None,
    out: Path,
    *,
    budget_s: float | None = None,
    iterations: int | None = None,
    seed: int = 0,
    device: str = "auto",
    weights: Path | None = None,
    procedural: int = 150,
    procedural_share: float = 0.1,
    flow_share: float = FLOW_SHARE,
    phases: tuple[Settings, ...] = PHASES,
    report: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Train a recipe's model, or go on with a training that was stopped.

    Args:
        recipe: what to train; its task names the degradation.
        data: folder of photos; None: procedural images only.
        out: folder for the checkpoint ``elir.ckpt``, the state of each phase, losses, sheets.
        budget_s: wall-clock seconds of all phases together.
        iterations: optimizer steps of all phases together, instead of a budget; the same seed then gives the
            same losses, whether or not the training was interrupted.
        seed: of weights, crops, degradations and noise.
        device: "cpu", "cuda" or "auto".
        weights: checkpoint to start from.
        procedural: how many procedural images to make.
        procedural_share: part of the crops that comes from them.
        flow_share: part of the budget for the last phase, where there are two.
        phases: how each phase trains.
        report: is called about once a minute with the phase (from 1), the mean losses since the last call, and PSNR
            (dB) and SSIM on held-out crops without a step and with all of them.
        say: is called with the machine and the type that a phase computes in, when it begins or goes on.

    Returns:
        the checkpoint's path.

    Raises:
        RecipeError: no degradation is known for the task.
        MediaError: the folder has no usable photos.
        CheckpointError: ``weights`` or a state in ``out`` does not fit.
    """
    degrade = degradation(recipe.task)  # An unknown task is refused before the photos are read.
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    largest = max(settings.crop for settings in phases)
    photos = load_photos(data, largest) if data is not None else []
    rng = np.random.default_rng([seed, 1])
    leaves = [dead_leaves(max(256, largest), rng) for _ in range(procedural)]
    aside, photos = set_aside(photos)
    unseen = [] if aside else [dead_leaves(max(256, largest), rng)]
    clean = Crops(aside, unseen, 0.0, seed + 1, varied=False).batch(HELD_OUT, largest)
    rng = np.random.default_rng([seed, 2])
    fed = np.stack([degrade(image, rng) for image in clean])
    model = start_model(recipe, weights, seed, Crops(photos, leaves, procedural_share, seed))
    out.mkdir(parents=True, exist_ok=True)
    shares = (1.0 - flow_share, flow_share) if len(phases) == 2 else (1.0 / len(phases),) * len(phases)
    for index, (settings, share) in enumerate(zip(phases, shares, strict=True)):
        crops = Crops(photos, leaves, procedural_share, seed + 100 * index)
        trainer = Trainer(
            model,
            recipe,
            crops,
            out / f"{index}-{settings.phase}",
            replace(settings),
            seed=seed + index,
            device=chosen,
            say=say,
        )
        trainer.resume()

        def measured(line: dict[str, float], trainer: Trainer = trainer, phase: int = index + 1) -> None:
            figures = _show(recipe, fed, clean, trainer, seed)
            if report is not None:
                report({"phase": phase, **line, **figures})

        if iterations is not None:
            history = trainer.run(iterations=max(1, round(iterations * share)), report=measured)
        else:
            history = trainer.run(budget_s=(budget_s or 600.0) * share, report=measured)
        if not history:  # The phase was over before.
            _show(recipe, fed, clean, trainer, seed)
        model = trainer.result().to(trainer.device)
    final = out / "elir.ckpt"
    temporary = out / "elir.ckpt.tmp"
    temporary.write_bytes((trainer.out / "elir.ckpt").read_bytes())
    os.replace(temporary, final)
    return final


def set_aside(photos: list[Image]) -> tuple[list[Image], list[Image]]:
    """Split photos into those to measure with, a twelfth, and those to train on."""
    count = len(photos) // 12
    return photos[len(photos) - count :], photos[: len(photos) - count]


def _show(recipe: Recipe, fed: Image, clean: Image, trainer: Trainer, seed: int) -> dict[str, float]:
    """Write the sample sheet, the loss plot and the held-out figures of a phase; return the figures."""
    model = trainer.result().to(trainer.device)
    outputs: dict[int, Image] = {}
    with torch.inference_mode():
        x = to_tensor(fed, trainer.device)
        for steps in (0, recipe.steps):
            noise = torch.Generator().manual_seed(seed)
            shape = (
                len(x),
                recipe.architecture.latent_channels,
                *(n // recipe.architecture.downscale for n in x.shape[2:]),
            )
            start = torch.randn(shape, generator=noise).to(x.device)
            y = model.restore(x, steps=steps, sigma=recipe.sigma, noise=start)
            outputs[steps] = to_uint8(
                np.asarray(255.0 * y.permute(0, 2, 3, 1).float().cpu().numpy(), dtype=np.float32)
            )
    sample_sheet(list(zip(fed, *outputs.values(), clean, strict=True)), trainer.out / "samples.png")
    figures = {
        f"K={steps}": {
            "psnr": float(np.mean([psnr(a, b) for a, b in zip(clean, images, strict=True)])),
            "ssim": float(np.mean([ssim(a, b) for a, b in zip(clean, images, strict=True)])),
        }
        for steps, images in outputs.items()
    }
    (trainer.out / "held_out.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    lines = [json.loads(line) for line in (trainer.out / "losses.jsonl").read_text().splitlines()]
    if lines:
        loss_plot(
            lines,
            [key for key in lines[-1] if key not in ("phase", "step", "seconds")],
            trainer.out / "losses.png",
        )
    return {
        f"{name} {steps}": value for steps, of_steps in figures.items() for name, value in of_steps.items()
    }
