"""The command line. One file for each command; it needs the packages of the extra "cli"."""

from __future__ import annotations

import sys

from elir_trt.errors import MissingPackageError
from elir_trt.extras import needs


def main() -> None:
    """Run the command line; every expected failure is one line on standard error and a non-zero status."""
    try:
        for package in ("typer", "rich"):
            with needs(package, extra="cli", what="the command line"):
                __import__(package)
    except MissingPackageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    from elir_trt.cli.app import run_app

    run_app()
