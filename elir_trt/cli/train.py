"""``elir-trt train``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from elir_trt.errors import ElirError


def train(
    recipe: Annotated[str, typer.Argument(help="Task or the path of a recipe.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, losses and sample sheets.")],
    data: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Folder of photos. Default: procedural images only."),
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.01, help="Time budget.")] = 60.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    weights: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Checkpoint to start from."),
    ] = None,
    iterations: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Optimizer steps instead of a time budget: the same every time."),
    ] = None,
    published: Annotated[
        bool,
        typer.Option(
            "--published",
            help="The published losses and schedule, instead of the fast one; the autoencoder that it needs is "
            "trained first, or comes from --weights.",
        ),
    ] = False,
) -> None:
    """Train a recipe's model, or go on with a training that was stopped."""
    from elir_trt.recipe import load_recipe

    chosen = load_recipe(recipe)
    try:
        from elir_trt.training.command import schedule
        from elir_trt.training.command import train as train_model
    except ImportError as error:
        raise ElirError(f"training needs more packages ({error}): pip install 'elir_trt[train]'") from error
    phases, flow_share = schedule(published, weights)
    path = train_model(
        chosen,
        data,
        out,
        budget_s=60.0 * minutes if iterations is None else None,
        iterations=iterations,
        flow_share=flow_share,
        phases=phases,
        seed=seed,
        device=device,
        weights=weights,
        report=lambda figures: print(progress_line(figures), file=sys.stderr, flush=True),
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    print(f"trained: {path}; make a bundle with: elir-trt build {recipe} --weights {path}")


def progress_line(figures: dict[str, float]) -> str:
    """One line of a training: the phase, the step, the time, losses, and figures on held-out crops."""
    units = {"psnr": ".2f", "ssim": ".3f"}
    seconds = round(figures["seconds"])
    cells = [
        f"phase {figures['phase']:.0f}",
        f"step {figures['step']:.0f}",
        f"{seconds // 60}:{seconds % 60:02d}",
    ]
    for name, value in figures.items():
        if name not in ("phase", "step", "seconds"):
            cells.append(f"{name} {format(value, units.get(name.split()[0], '.4g'))}")
    return "  ".join(cells)
