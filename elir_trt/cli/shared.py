"""What several commands use: options, tables, checks."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.table import Table

from elir_trt.errors import ElirError
from elir_trt.files import write_whole

if TYPE_CHECKING:
    from elir_trt.manifest import SearchRow
    from elir_trt.tuning.store import Choice

# Typer reads these annotations at run time; Optional is what it understands on every Python.
BundleArgument = Annotated[str, typer.Argument(help="Bundle's folder, or a task.")]
BundleOption = Annotated[str, typer.Option(help="Bundle's folder, or a task.")]
Steps = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(help="Euler steps; 0 decodes the coarse estimate. Default: the recipe's."),
]


def complain(error: Exception) -> None:
    """One line on standard error."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)


def still_of(option: str, text: str) -> str | float:
    """What ``still`` of a stream is to be.

    Raises:
        ElirError: it is neither off nor exact nor a number of levels.
    """
    from elir_trt.still import still_levels

    try:
        value = text if text in ("off", "exact") else float(text)
        still_levels(value)
    except ValueError:
        raise ElirError(
            f"{option} is {text!r}; allowed: off, exact, or levels of more than 0, at most 64"
        ) from None
    return value


def one_of(option: str, found: str, allowed: Iterable[str]) -> None:
    """Check the value of an option.

    Raises:
        ElirError: it is none of those that are allowed.
    """
    allowed = tuple(allowed)
    if found not in allowed:
        raise ElirError(f"{option} is {found!r}; allowed: {', '.join(allowed)}")


def size_of(text: str) -> tuple[int, int]:
    """Read the option --size: height and width.

    Raises:
        ElirError: it is no such text.
    """
    try:
        height, width = (int(side) for side in text.lower().split("x"))
    except ValueError:
        raise ElirError(f"--size is {text!r}; expected HEIGHTxWIDTH, such as 512x512") from None
    return height, width


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write what was measured, in one step; folders that are not there are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(data, indent=1) + "\n").encode())


def plain_table(*columns: str, **options: Any) -> Table:
    """A table without lines."""
    table = Table(box=None, padding=(0, 2, 0, 0), **options)
    for column in columns:
        table.add_column(column)
    return table


def search_table(rows: Sequence[SearchRow]) -> Table:
    """What a search for the fastest precision tried."""
    table = plain_table("part alone", "precision", "ms", "PSNR dB", "relative error", "")
    for row in rows:
        table.add_row(
            row.part,
            row.precision,
            "-" if row.ms is None else f"{row.ms:.1f}",
            f"{row.psnr:.1f}",
            f"{row.relative_error:.1e}",
            "" if row.within_bounds else "beyond its bound",
        )
    return table


def choice_table(choice: Choice) -> Table:
    """What this machine measured of each part in each precision, all others in the safe one."""
    table = plain_table("part", "precision", "ms", "PSNR dB", "")
    for row in choice.rows:
        chosen = choice.precisions[row.part] == row.precision
        remark = "chosen" if chosen else "too far from float32" if row.fits is False else ""
        psnr = "" if row.psnr is None else f"{row.psnr:.1f}"
        table.add_row(row.part, row.precision, f"{row.ms:.1f}", psnr, remark)
    if choice.ms is not None and choice.base_ms is not None:
        gain = f"{choice.base_ms / choice.ms:.2f} times as fast"
        table.add_row("a frame", "as chosen", f"{choice.ms:.1f}", f"{choice.psnr:.1f}", gain)
        table.add_row("", "safe", f"{choice.base_ms:.1f}", "", "")
    if choice.apart_ms is not None and choice.direct_ms is not None:
        table.add_row("no steps", "an engine a part", f"{choice.apart_ms:.1f}", "", "")
        table.add_row("", "one engine", f"{choice.direct_ms:.1f}", "", "chosen" if choice.direct else "")
    if not choice.complete:
        table.caption = "not all was measured in the time that there was: elir-trt tune --full"
        table.caption_justify = "left"
    return table
