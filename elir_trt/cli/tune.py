"""``elir-trt tune``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from elir_trt.cli.shared import BundleArgument, choice_table


def tune(
    bundle: BundleArgument,
    backend: Annotated[str, typer.Option(help="auto, or a backend (doctor lists them).")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    full: Annotated[
        bool, typer.Option("--full", help="Measure longer than when a bundle is opened.")
    ] = False,
) -> None:
    """Make the engines of a portable bundle for this machine, and choose the fastest that are near float32."""
    make_engines(bundle, backend, device, full)


def make_engines(bundle: str, backend: str = "auto", device: str = "auto", full: bool = False) -> None:
    """Open a bundle, so that its engines are made and kept, and say what was chosen."""
    import elir_trt

    with elir_trt.open(
        bundle, backend=backend, device=device, on_engine_error="raise", tune="full" if full else "auto"
    ) as restorer:
        engines, choice = restorer.engines, restorer.choice
        # The engines of the bundle's own size are made, or found, when a stream opens.
        with restorer.stream(depth=1, size=restorer.bundle.manifest.specification.size):
            pass
        path = restorer.bundle.path
    if choice is not None:
        Console(highlight=False).print(choice_table(choice))
    print(f"{path}: {engines.name} on {engines.device}, {engines.precision}")
