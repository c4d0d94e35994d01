"""``elir-trt bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.console import Console

from elir_trt.cli.shared import plain_table, size_of, write_json
from elir_trt.errors import ElirError

if TYPE_CHECKING:
    from elir_trt.benching.tables import Grid


def bench(
    bundle: Annotated[str, typer.Argument(help="Bundle's folder, or a task.")] = "camera",
    weights: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="The bundle's checkpoint, for the peers. Default: random weights; times are the same."
        ),
    ] = None,
    data: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Clean pictures, which are degraded as the task's are. Default: procedural ones."),
    ] = None,
    size: Annotated[str, typer.Option(metavar="HEIGHTxWIDTH", help="Of frames. Default: the bundle's.")] = "",
    rounds: Annotated[int, typer.Option(min=3, help="Of all contenders in turns.")] = 7,
    seconds: Annotated[float, typer.Option(min=0.5, help="Of the stream's latency alone.")] = 30.0,
    peers: Annotated[bool, typer.Option(help="Measure PyTorch, ONNX Runtime and OpenVINO too.")] = True,
    backend: Annotated[str, typer.Option(help="auto, or a backend (doctor lists them).")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    json: Annotated[Optional[Path], typer.Option(help="Write everything there, too.")] = None,  # noqa: UP045
    plot: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="FOLDER", help="Write a latency histogram, quality against time and a roofline there."
        ),
    ] = None,
) -> None:
    """Measure a bundle on this machine, alone and in turns with others that run the same model."""
    from elir_trt.benching.plots import write_plots
    from elir_trt.benching.run import Request, run_bench
    from elir_trt.benching.tables import grids, machine_line

    if weights is not None and not weights.is_file():
        raise ElirError(f"--weights {weights}: no such checkpoint file")
    request = Request(
        bundle=bundle,
        weights=weights,
        data=data,
        size=size_of(size) if size else None,
        rounds=rounds,
        seconds=seconds,
        peers=peers,
        device=device,
        backend=backend,
    )
    with Console(stderr=True).status("") as status:
        report = run_bench(request, status.update)
    console = Console(highlight=False)
    console.print(machine_line(report), soft_wrap=True, markup=False)
    for grid in grids(report):
        _show(console, grid)
    for name, reason in report["absent"].items():
        console.print(f"{name}: not measured: {reason}", soft_wrap=True, markup=False)
    if json is not None:
        write_json(json, report)
    if plot is not None:
        for path in write_plots(report, plot):
            print(path)


def _show(console: Console, grid: Grid) -> None:
    table = plain_table(*grid.columns)
    for row in grid.rows:
        table.add_row(*row)
    console.print(f"\n{grid.title}", markup=False)
    console.print(table)
