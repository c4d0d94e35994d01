"""``elir-trt demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elir_trt.cli.shared import BundleOption
from elir_trt.errors import ElirError


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")] = Path("demo"),
    bundle: BundleOption = "camera",
    seconds: Annotated[float, typer.Option(help="Length of the clip.")] = 4.0,
    sigma: Annotated[float, typer.Option(help="Noise at middle grey, in levels of 255.")] = 25.0,
) -> None:
    """Restore a noisy clip made of real photos; needs no file and no network."""
    import elir_trt
    from elir_trt.demo import run_demo
    from elir_trt.io.progress import RichProgress

    try:
        with elir_trt.open(bundle) as restorer, RichProgress("demo") as progress:
            report = run_demo(restorer, output, seconds=seconds, sigma=sigma, progress=progress)
    except ValueError as error:
        raise ElirError(str(error)) from error
    print(report)
