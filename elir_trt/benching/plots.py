"""A report as plots: how long frames take, what time buys, and how near the parts come to the machine's peaks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from elir_trt.benching.devices import ELEMENT_BYTES
from elir_trt.benching.tables import machine_line
from elir_trt.extras import needs
from elir_trt.files import written_whole


def write_plots(report: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write every plot that the report has figures for, as SVG.

    Returns:
        the files: latency, quality and, where peaks were measured and work counted, roofline.

    Raises:
        MissingPackageError: Matplotlib is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plots = {"latency": _latency, "quality": _quality}
    if report["peaks"] is not None and report["work"] is not None:
        plots["roofline"] = _roofline
    found = []
    for name, draw in plots.items():
        path = folder / f"{report['bundle']['task']}_{name}.svg"
        with _axes(path, machine_line(report)) as axes:
            draw(axes, report)
        found.append(path)
    return found


@contextmanager
def _axes(path: Path, title: str) -> Iterator[Any]:
    """Axes that are written to ``path`` at the end; equal figures give equal files."""
    with needs("matplotlib", extra="bench", what="drawing plots"):
        import matplotlib
        from matplotlib.figure import Figure
    with matplotlib.rc_context({"svg.hashsalt": "elir_trt", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(7.0, 4.0), layout="constrained")
        axes = figure.subplots()
        axes.set_title(title, fontsize=8)
        yield axes
        with written_whole(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})


def _latency(axes: Any, report: Mapping[str, Any]) -> None:
    stream = report["stream"]
    counts, edges = stream["histogram"]["counts"], stream["histogram"]["edges_ms"]
    axes.stairs(counts, edges, fill=True, alpha=0.6)
    for name, ms in stream["latency_ms"].items():
        if name != "max":
            axes.axvline(ms, color="black", linewidth=0.8, linestyle=":")
            axes.text(ms, max(counts), f" {name} {ms:.1f}", rotation=90, va="top", fontsize=7)
    axes.set_xlabel(f"ms from submit to result, K = {stream['steps']}, {stream['frames']} frames")
    axes.set_ylabel("frames")


def _quality(axes: Any, report: Mapping[str, Any]) -> None:
    marks = iter("os^Dv*P")
    by_name: dict[str, list[tuple[float, float, str]]] = {}
    for steps, rows in report["steps"].items():
        for name, row in rows.items():
            if "psnr" in row:
                by_name.setdefault(name, []).append((row["ms"]["median"], row["psnr"], steps))
    for name, points in by_name.items():
        axes.plot(
            [x for x, _, _ in points], [y for _, y, _ in points], next(marks, "."), label=name, linestyle=":"
        )
        for x, y, steps in points:
            axes.annotate(f"K={steps}", (x, y), textcoords="offset points", xytext=(4, 4), fontsize=7)
    axes.set_xscale("log")
    axes.set_xlabel("ms a frame, median")
    axes.set_ylabel(f"PSNR to clean pictures, dB ({report['bundle']['pictures'].rsplit('/', 1)[-1]})")
    axes.legend(fontsize=7)


def _roofline(axes: Any, report: Mapping[str, Any]) -> None:
    peaks = report["peaks"]
    intensities = [2.0**power for power in range(-2, 12)]
    for precision, gflops in peaks["gflops"].items():
        roof = [min(gflops, peaks["gigabytes_per_s"] * intensity) for intensity in intensities]
        axes.plot(intensities, roof, linewidth=1, label=f"{precision} peak, measured: {gflops:.0f} GFLOP/s")
    ends = list(report["steps"])
    for steps in dict.fromkeys((ends[0], ends[-1])):
        rows = report["steps"][steps]
        stages = next(iter(rows.values()))["stages_ms"]
        for part, data in report["work"]["parts"].items():
            ms = stages.get(part, 0.0)
            calls = int(steps) if part == "velocity" else 1
            if ms <= 0.0:
                continue
            flop = data["flop"] * calls
            moved = (
                (data["activations"] + data["weights"]) * ELEMENT_BYTES["bf16"] + data["fixed_bytes"]
            ) * calls
            x, y = flop / moved, flop / ms / 1e6
            axes.plot([x], [y], "k.")
            axes.annotate(
                f"{part}, K={steps}", (x, y), textcoords="offset points", xytext=(4, -2), fontsize=7
            )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel(f"FLOP a byte, 16-bit numbers ({peaks['gigabytes_per_s']:.1f} GB/s, measured)")
    axes.set_ylabel("GFLOP/s")
    axes.legend(fontsize=7)
