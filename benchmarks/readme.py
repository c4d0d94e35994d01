"""The figures in the README, made from what is stored in benchmarks/results.

    python benchmarks/readme.py [--check]

What `elir-trt bench --json benchmarks/results/bench_NAME.json --plot docs/plots`, benchmarks/engines.py and
benchmarks/cpu.py measured, a section a file, between two markers in the README; `--check` only says whether it is so.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from elir_trt.benching.tables import Grid, grids, machine_line, markdown
from elir_trt.files import write_whole

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PLOTS = "docs/plots"
BEGIN, END = "<!-- measured: made by benchmarks/readme.py -->", "<!-- end of measured -->"


def bench_section(report: dict[str, Any]) -> str:
    """What ``elir-trt bench`` measured."""
    task = report["bundle"]["task"]
    lines = [f"`elir-trt bench {task}`, {report['created'][:10]}: {machine_line(report)}.", ""]
    for grid in grids(report):
        lines += [f"{grid.title[0].upper()}{grid.title[1:]}:", "", markdown(grid), ""]
    for name, reason in report["absent"].items():
        lines += [f"{name}: not measured: {reason}.", ""]
    plots = [path for path in sorted((ROOT / PLOTS).glob(f"{task}_*.svg"))]
    if plots:
        links = [f"[{path.stem.partition('_')[2]}]({PLOTS}/{path.name})" for path in plots]
        lines += [f"Plots: {', '.join(links)}.", ""]
    return "\n".join(lines)


def cpu_section(reports: list[dict[str, Any]]) -> str:
    """What benchmarks/cpu.py measured."""
    first = reports[0]
    size = f"{first['size'][0]}x{first['size'][1]}"
    rows = [
        [
            f"{report['cpu']}, {report['threads']} threads",
            precision.upper(),
            f"{row['eager_ms']:.0f} ms",
            f"{row['stream_ms']:.0f} ms",
            f"{row['ratio']:.2f} ({row['ratio_min']:.2f} to {row['ratio_max']:.2f})",
            f"{row['core_percent']:.2f} %",
            f"{row['psnr_against_torch']:.1f} dB",
        ]
        for report in reports
        for precision in ("fp32", "bf16")
        for row in (report[precision],)
    ]
    heads = [
        "machine",
        "OpenVINO",
        "eager float32 PyTorch",
        "stream",
        "ratio",
        "core, beside the engines",
        "PSNR against PyTorch",
    ]
    title = (
        f"`python benchmarks/cpu.py`, `{first['task']}` at full size ({size}, {first['steps']} steps, random "
        "weights), medians; the ratio's spread is that of the rounds:"
    )
    return f"{title}\n\n{markdown(Grid('', heads, rows))}\n"


def engines_section(report: dict[str, Any]) -> str:
    """What benchmarks/engines.py measured."""
    counts = report["steps"]
    trained = report["task"] == "camera"
    rows = []
    for name in dict.fromkeys(name for found in counts.values() for name in found):
        measured = [found.get(name, {}) for found in counts.values()]
        first = next(found for found in measured if found)
        near, good = first.get("db_to_float32", 120.0), first.get("db_to_photos")
        rows.append(
            [
                name,
                *(f"{found['ms']:.1f} ms" if found else "" for found in measured),
                f"{near:.1f} dB" if near < 120.0 else "",
                f"{good:.2f} dB" if trained and good is not None else "",
            ]
        )
    heads = ["engines", *(f"K = {count}" for count in counts), "against float32", "against the photos"]
    joined = ", one engine without steps," if report.get("one_engine_without_steps") else ""
    title = (
        f"`python benchmarks/engines.py`, `{report['task']}` at 512x512{'' if trained else ', random weights'}, "
        f"photos with noise of sigma 25, all in turns, medians, on {report['cpu']}, {report['threads']} threads. "
        f"It chose {report['chosen']}{joined} in {report['seconds_of_the_choice']:.0f} s:"
    )
    return f"{title}\n\n{markdown(Grid('', heads, rows))}\n"


def stored(pattern: str) -> list[dict[str, Any]]:
    """The results of that name."""
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob(pattern))]


def block() -> str:
    """All that stands between the markers."""
    sections = [bench_section(report) for report in stored("bench_*.json")]
    sections += [engines_section(report) for report in stored("*_engines.json")]
    sections.append(cpu_section(stored("cpu_*.json")))
    return "\n".join(sections)


def with_block(text: str, made: str) -> str:
    """A README with ``made`` between its markers.

    Raises:
        ValueError: it has no such markers.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md: has no markers {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{made}\n{END}{after}"


def main() -> None:
    """Write the README, or say whether it is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    wanted = with_block(text, block())
    if arguments.check:
        sys.exit(0 if text == wanted else "README.md: is not what benchmarks/readme.py makes of the results")
    write_whole(readme, wanted.encode())


if __name__ == "__main__":
    main()
