"""``elir-trt plan``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.console import Console

from elir_trt.cli.shared import plain_table, size_of, write_json

if TYPE_CHECKING:
    from elir_trt.benching.devices import Device
    from elir_trt.benching.floor import SizePlan
    from elir_trt.benching.work import Work


def plan(
    recipe: Annotated[str, typer.Argument(help="A task, or a recipe's file.")] = "camera",
    device: Annotated[
        list[str],
        typer.Option(help="Device, may be repeated: see --list; here measures the peaks of this CPU."),
    ] = ["orin-nano-super", "agx-orin", "thor", "rtx-4090"],  # noqa: B006
    size: Annotated[
        list[str],
        typer.Option(metavar="HEIGHTxWIDTH", help="Of frames, may be repeated. Default: usual ones."),
    ] = [],  # noqa: B006
    json: Annotated[Optional[Path], typer.Option(help="Write everything there, too.")] = None,  # noqa: UP045
    listed: Annotated[
        bool, typer.Option("--list", help="Show the devices and their peaks, and stop.")
    ] = False,
) -> None:
    """Count what frames cost, and tell the least time that they can take on devices that are not here."""
    from elir_trt.benching.devices import DEVICES, find_device
    from elir_trt.benching.floor import ASSUMPTIONS, SIZES, plan_sizes
    from elir_trt.benching.peaks import this_cpu
    from elir_trt.recipe import load_recipe

    console = Console(highlight=False)
    if listed:
        _show_devices(console, list(DEVICES.values()))
        return
    read = load_recipe(recipe)
    devices = [this_cpu() if name == "here" else find_device(name) for name in dict.fromkeys(device)]
    sizes = [size_of(text) for text in size] or list(SIZES)
    plans = plan_sizes(read, devices, [read.size, *(s for s in sizes if s != read.size)])
    own = plans[0]
    console.print(f"{read.task}, a frame of {own.size[0]}x{own.size[1]} (height x width), each part once:")
    _show_work(console, own.work[min(1, read.steps)], read.steps)
    for one in devices:
        _show_floors(console, one, plans)
    console.print("\nThese are floors. They assume:")
    for line in ASSUMPTIONS:
        console.print(f"  {line}", soft_wrap=True)
    if json is not None:
        write_json(json, _data(read.task, devices, plans))


def _show_devices(console: Console, devices: list[Device]) -> None:
    console.print("peaks in 10^12 operations a second, dense")
    for device in devices:
        peaks = ", ".join(f"{name} {peak:.4g}" for name, peak in device.peaks.items())
        where = f"{device.source}; {device.software}" if device.software else device.source
        text = f"{device.name}: {device.title}: {peaks}; {device.gigabytes_per_s:g} GB/s ({where})"
        console.print(text, soft_wrap=True, markup=False)


def _show_work(console: Console, works: dict[str, Work], steps: int) -> None:
    table = plain_table("part", "GFLOP", "MB in 16 bits", "kernels", "")
    for part, work in works.items():
        note = (
            f"K times, K up to {steps}" if part == "velocity" else "once" if part != "core" else "for K = 1"
        )
        mb = work.bytes(2) / 1e6
        table.add_row(part, f"{work.flop / 1e9:.1f}", f"{mb:.0f}", str(work.launches), note)
    console.print(table)


def _show_floors(console: Console, device: Device, plans: list[SizePlan]) -> None:
    from elir_trt.benching.floor import RATES, frame_floor, most_steps

    steps = len(plans[0].work) - 1
    where = f"{device.source}; {device.software}" if device.software else device.source
    console.print(f"\n{device.title} ({where})", soft_wrap=True)
    table = plain_table(
        "",
        "size",
        *(f"K={count} ms" for count in range(steps + 1)),
        *(f"{rate}/s" for rate in RATES),
        "bound by",
    )
    for precision in device.peaks:
        for one in plans:
            floors = one.floors_ms[device.name][precision]
            held = [most_steps(floors, rate) for rate in RATES]
            table.add_row(
                precision,
                f"{one.size[0]}x{one.size[1]}",
                *(f"{ms:.2f}" for ms in floors),
                *("no" if count is None else f"K <= {count}" for count in held),
                frame_floor(one.work[-1], device, precision).bound,
            )
    console.print(table)


def _data(task: str, devices: list[Device], plans: list[SizePlan]) -> dict[str, Any]:
    from dataclasses import asdict

    from elir_trt.benching.floor import ASSUMPTIONS

    return {
        "format": "elir_trt plan",
        "task": task,
        "assumptions": list(ASSUMPTIONS),
        "devices": [asdict(device) for device in devices],
        "sizes": [
            {
                "size": list(one.size),
                "engine": list(one.engine),
                "work": [{part: asdict(work) for part, work in works.items()} for works in one.work],
                "floors_ms": one.floors_ms,
            }
            for one in plans
        ],
    }
