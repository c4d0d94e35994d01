"""The commands together, and what becomes of their errors."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated, TextIO

import typer

from elir_trt.cli.bench import bench
from elir_trt.cli.build import build
from elir_trt.cli.demo import demo
from elir_trt.cli.doctor import doctor
from elir_trt.cli.export import export
from elir_trt.cli.gst import gst
from elir_trt.cli.info import info
from elir_trt.cli.live import live
from elir_trt.cli.plan import plan
from elir_trt.cli.run import run
from elir_trt.cli.shared import complain
from elir_trt.cli.train import train
from elir_trt.cli.tune import tune
from elir_trt.cli.verify import verify
from elir_trt.errors import ElirError, ElirWarning

#: Exit status after Ctrl-C, as shells give it.
INTERRUPTED = 130

app = typer.Typer(
    name="elir-trt",
    help="Latent flow image restoration as engines: build bundles, restore images and videos.",
    no_args_is_help=True,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        from elir_trt import __version__

        print(f"elir-trt {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version and stop.")
    ] = False,
) -> None:
    """Latent flow image restoration as engines: build bundles, restore images and videos."""


for command in (build, tune, run, live, info, verify, bench, plan, doctor, demo, train):
    app.command()(command)
app.add_typer(export, name="export")
app.add_typer(gst)


def run_app() -> None:
    """Run the command that the arguments name; every expected failure is one line and a non-zero status."""
    warnings.showwarning = _show_warning
    try:
        app(prog_name="elir-trt")
    except ElirError as error:
        complain(error)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not try to flush to them again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        print(f"error: {error.filename or 'output'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if issubclass(category, ElirWarning):
        print(f"warning: {message}", file=sys.stderr)
