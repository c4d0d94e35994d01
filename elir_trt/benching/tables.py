"""A report as tables, for the terminal and for the README alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from elir_trt.benching.devices import ELEMENT_BYTES, Device, PlanPrecision
from elir_trt.benching.floor import frame_floor
from elir_trt.benching.work import Work
from elir_trt.parts import PARTS


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        title: what it shows; one line.
        columns, rows: of text.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def markdown(grid: Grid) -> str:
    """The table as Markdown, without its title."""
    lines = [f"| {' | '.join(grid.columns)} |", "|---" * len(grid.columns) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in grid.rows)])


def machine_line(report: Mapping[str, Any]) -> str:
    """The machine and what ran, in one line."""
    machine, bundle, versions = report["machine"], report["bundle"], report["versions"]
    height, width = bundle["size"]
    device = (
        machine["gpu"] if bundle["device"] == "cuda" else f"{machine['cpu']}, {machine['threads']} threads"
    )
    engine = ", one engine without steps" if bundle["one_engine_without_steps"] else ""
    busy = machine["load_before"] > 0.5 * machine["threads"]
    load = f"; others ran there, too: a load of {machine['load_before']:.1f}" if busy else ""
    return (
        f"{bundle['task']} at {height}x{width} on {device}; {bundle['engines']} "
        f"{versions.get(bundle['engines'], '')}: {bundle['precision']}{engine}{load}"
    )


def contenders_grid(report: Mapping[str, Any]) -> Grid:
    """Everybody in turns, with each number of steps that all took part in."""
    counts = [steps for steps, rows in report["steps"].items() if len(rows) > 1 or len(report["steps"]) == 1]
    counts = counts or list(report["steps"])
    names = list(dict.fromkeys(name for steps in counts for name in report["steps"][steps]))
    columns = ["", *(head for steps in counts for head in (f"K = {steps}", "times ours", "PSNR"))]
    rows = []
    for name in names:
        row = [name]
        for steps in counts:
            found = report["steps"][steps].get(name)
            if found is None:
                row += ["", "", ""]
                continue
            ms, ratio = found["ms"], found["times_ours"]
            row.append(f"{ms['median']:.1f} ms ({ms['min']:.1f} to {ms['max']:.1f})")
            alone = name == names[0]
            row.append("" if alone else f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})")
            row.append(f"{found['psnr']:.2f} dB" if "psnr" in found else "")
        rows.append(row)
    weights = ", peers with random weights" if report["peers_have_random_weights"] else ""
    return Grid(f"in turns, medians and the whole spread{weights}", columns, rows)


def stream_grid(report: Mapping[str, Any]) -> Grid:
    """The stream alone."""
    stream, memory = report["stream"], report["memory"]
    latency = " / ".join(f"{name} {ms:.1f}" for name, ms in stream["latency_ms"].items())
    energy = stream["energy"]
    rows = [
        [f"latency of {stream['frames']} frames, ms", latency],
        ["jitter, ms", f"{stream['jitter_ms']:.2f}"],
        ["throughput", f"{stream['throughput_fps']:.2f} frames/s"],
        ["stages, median ms", _stages(stream["stages_ms"])],
        [
            "memory, MiB",
            f"{memory['before_mib']:.0f} before, {memory['streaming_mib']:.0f} while streaming, "
            f"{memory['peak_mib']:.0f} at the peak",
        ],
        ["energy", _energy(energy)],
    ]
    return Grid(f"the stream alone, K = {stream['steps']}", ["", ""], rows)


def _stages(stages: Mapping[str, Mapping[str, float]]) -> str:
    shown = {name: found["p50"] for name, found in stages.items() if found["p50"] >= 0.005}
    return ", ".join(f"{name} {ms:.2f}" for name, ms in shown.items())


def _energy(energy: Mapping[str, Any]) -> str:
    joules = [f"{joules:.2f} J a frame ({name})" for name, joules in energy["joules_per_frame"].items()]
    return "; ".join(joules) if joules else f"not readable here: {'; '.join(energy['unreadable'])}"


def floors(report: Mapping[str, Any]) -> dict[str, dict[PlanPrecision, float]]:
    """The floor of a frame by number of steps and precision, with this machine's measured peaks; empty: not known."""
    if report["peaks"] is None or report["work"] is None or report["work"]["tiles"] != 1:
        return {}
    device = measured_device(report)
    works = {part: _work(report["work"]["parts"][part]) for part in PARTS}
    found: dict[str, dict[PlanPrecision, float]] = {}
    for steps, core in enumerate(report["work"]["core"]):
        frame = {part: works[part].times(steps if part == "velocity" else 1) for part in PARTS}
        frame["core"] = _work(core)
        found[str(steps)] = {p: frame_floor(frame, device, p).ms for p in device.peaks}
    return found


def measured_device(report: Mapping[str, Any]) -> Device:
    """The machine of a report, with its measured peaks."""
    peaks = report["peaks"]
    tera: dict[PlanPrecision, float] = {
        precision: peaks["gflops"][precision] / 1e3
        for precision in ELEMENT_BYTES
        if precision in peaks["gflops"]
    }
    return Device("here", report["machine"]["cpu"], tera, peaks["gigabytes_per_s"], "measured", launch_us=0.0)


def floor_grid(report: Mapping[str, Any]) -> Grid | None:
    """Measured frames beside the floor that counting gives; None: it is not known."""
    known = floors(report)
    if not known:
        return None
    precisions = list(next(iter(known.values())))
    rows = []
    for steps, by_precision in known.items():
        ms = report["steps"][steps][_ours(report)]["ms"]["median"]
        best = min(by_precision.values())
        rows.append(
            [
                f"K = {steps}",
                f"{ms:.1f} ms",
                *(f"{by_precision[p]:.1f} ms" for p in precisions),
                f"{ms / best:.2f}",
            ]
        )
    peaks = ", ".join(f"{name} {gflops:.0f} GFLOP/s" for name, gflops in report["peaks"]["gflops"].items())
    title = f"measured peaks: {peaks}, {report['peaks']['gigabytes_per_s']:.1f} GB/s"
    heads = ["", "measured", *(f"floor in {precision}" for precision in precisions), "measured / least floor"]
    return Grid(title, heads, rows)


def grids(report: Mapping[str, Any]) -> list[Grid]:
    """All tables of a report."""
    floor = floor_grid(report)
    return [contenders_grid(report), stream_grid(report), *([] if floor is None else [floor])]


def _ours(report: Mapping[str, Any]) -> str:
    return str(next(iter(next(iter(report["steps"].values())))))


def _work(data: Mapping[str, Any]) -> Work:
    return Work(**{field.name: data[field.name] for field in fields(Work)})
