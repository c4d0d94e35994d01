"""``elir-trt export``: bundles for what others run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from elir_trt.cli.shared import BundleArgument

export = typer.Typer(help="Write a bundle as others serve it.", no_args_is_help=True)


@export.command()
def triton(
    bundle: BundleArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="The model repository.")],
    batch: Annotated[
        int, typer.Option(help="Frames of one size that Triton hands over together at most.")
    ] = 8,
    delay_us: Annotated[int, typer.Option(help="Microseconds that it waits for more of them.")] = 2000,
    instances: Annotated[int, typer.Option(help="Restorers, each in a process of its own.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    steps: Annotated[Optional[int], typer.Option(help="Euler steps. Default: the bundle's.")] = None,  # noqa: UP045
    packages: Annotated[
        list[Path],
        typer.Option(help="Folder with this package, where the server's Python lacks it; may be repeated."),
    ] = [],  # noqa: B006
    force: Annotated[bool, typer.Option("--force", help="Replace a model that is there.")] = False,
) -> None:
    """Write a model repository for Triton Inference Server (docs/scale.md)."""
    from elir_trt.serving.repository import Options, write_repository

    options = Options(
        batch=batch,
        delay_us=delay_us,
        instances=instances,
        device=device,
        steps=steps,
        packages=tuple(str(path.absolute()) for path in packages),
    )
    print(write_repository(bundle, output, options, force=force))


@export.callback()
def _export() -> None:
    """Write a bundle as others serve it."""
