"""``elir-trt run``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional, get_args

import typer

from elir_trt.cli.shared import BundleOption, Steps, complain, one_of
from elir_trt.errors import ElirError


def run(
    input: Annotated[Path, typer.Argument(help="An image, a folder of images, or a video.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file, or for a folder the folder, to write.")
    ],
    bundle: BundleOption = "camera",
    steps: Steps = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0,
    noise: Annotated[str, typer.Option(help="fixed, per-frame or off.")] = "fixed",
    temporal: Annotated[
        str, typer.Option(help="Of videos: auto averages still places over time against flicker; or off.")
    ] = "off",
    compare: Annotated[bool, typer.Option("--compare", help="Write before and after side by side.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    max_memory: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="That this process stays below, such as 2GB: smaller tiles. Default: what is free."
        ),
    ] = None,
    damaged: Annotated[
        str, typer.Option(help="Damaged videos: error, or warn and keep what can be decoded.")
    ] = "error",
) -> None:
    """Restore an image, a folder of images, or a video (other streams copied, timestamps kept)."""
    import elir_trt
    from elir_trt.io.paths import media_kind
    from elir_trt.io.progress import RichProgress
    from elir_trt.io.restore import Damage, restore_path
    from elir_trt.stream import Noise, Temporal

    one_of("--noise", noise, get_args(Noise))
    one_of("--temporal", temporal, get_args(Temporal))
    one_of("--damaged", damaged, get_args(Damage))
    media_kind(input)  # before the engines are loaded
    with elir_trt.open(bundle, max_memory=_bytes(max_memory)) as restorer:
        if steps is not None and not 0 <= steps <= restorer.recipe.steps:
            raise ElirError(f"--steps is {steps}; this bundle allows 0 to {restorer.recipe.steps}")
        with RichProgress(input.name) as progress:
            report = restore_path(
                restorer,
                input,
                output,
                compare=compare,
                steps=steps,
                seed=seed,
                noise=noise,  # type: ignore[arg-type]
                temporal=temporal,  # type: ignore[arg-type]
                overwrite=overwrite,
                damaged=damaged,  # type: ignore[arg-type]
                progress=progress,
                on_error=(lambda _, error: complain(error)) if input.is_dir() else None,
            )
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    what = str(report.outputs[0]) if len(report.outputs) == 1 else f"{len(report.outputs)} files in {output}"
    if report.skipped:
        print(
            f"{len(report.skipped)} done before and skipped; --overwrite restores them again", file=sys.stderr
        )
    print(f"{report.frames} frames at {report.fps:.2f} frames/s: {what}")
    if report.failed:
        raise ElirError(
            f"{report.failed} of {report.failed + len(report.outputs)} inputs could not be restored"
        )


def _bytes(text: str | None) -> int | None:
    """Bytes of ``--max-memory``."""
    from elir_trt.memory import parse_bytes

    try:
        return None if text is None else parse_bytes(text, "--max-memory")
    except ValueError as error:
        raise ElirError(str(error)) from None
