"""``elir-trt tune``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from rich.console import Console

from elir_trt.cli.shared import BundleArgument, choice_table, size_of


def tune(
    bundle: BundleArgument,
    backend: Annotated[str, typer.Option(help="auto, or a backend (doctor lists them).")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    full: Annotated[
        bool, typer.Option("--full", help="Measure longer than when a bundle is opened.")
    ] = False,
    size: Annotated[
        str,
        typer.Option(
            metavar="HEIGHTxWIDTH",
            help="Of frames: choose for them by themselves, such as for a camera's. Default: the bundle's size, "
            "whose choice serves all others.",
        ),
    ] = "",
) -> None:
    """Make the engines of a portable bundle for this machine, and choose the fastest that are near float32."""
    make_engines(bundle, backend, device, full, size_of(size) if size else None)


def make_engines(
    bundle: str,
    backend: str = "auto",
    device: str = "auto",
    full: bool = False,
    size: tuple[int, int] | None = None,
) -> None:
    """Open a bundle, so that its engines are made and kept, and say what was chosen."""
    import elir_trt
    from elir_trt.bundle import Bundle
    from elir_trt.tuning.candidates import describe
    from elir_trt.tuning.choice import choose_for

    tune: Literal["full", "auto"] = "full" if full else "auto"
    with elir_trt.open(
        bundle, backend=backend, device=device, on_engine_error="raise", tune=tune
    ) as restorer:
        engines, choice = restorer.engines, restorer.choice
        own = restorer.bundle.manifest.specification.size
        path = restorer.bundle.path
        engine = own if size is None else restorer.geometry(size).engine
        if engine != own:
            with Console(stderr=True).status(f"{engine[0]}x{engine[1]}") as status:
                choice = choose_for(Bundle(path), engines, engine, tune, status.update)
        # The engines are made, or found, when a stream opens.
        with restorer.stream(depth=1, size=size or own):
            pass
    if choice is not None:
        Console(highlight=False).print(choice_table(choice))
    where = f"{path} at {engine[0]}x{engine[1]}" if engine != own else f"{path}"
    precision = engines.precision if choice is None else describe(choice.precisions)
    print(f"{where}: {engines.name} on {engines.device}, {precision}")
