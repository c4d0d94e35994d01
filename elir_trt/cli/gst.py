"""``elir-trt gst``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from elir_trt.errors import ElirError

Folder = Annotated[
    Optional[Path],  # noqa: UP045  (Typer reads it at run time, on every Python)
    typer.Option(help="Of GStreamer's plugins; default: the user's own, which it looks into by itself."),
]

gst = typer.Typer(name="gst", help="The GStreamer element elirrestore.", no_args_is_help=True)


@gst.command()
def install(folder: Folder = None) -> None:
    """Make the element known to GStreamer, and see whether it finds it."""
    from elir_trt.live.gstreamer.install import checks, python_problem
    from elir_trt.live.gstreamer.install import install as write

    problem = python_problem()
    if problem:
        raise ElirError(problem)
    print(f"written: {write(folder)}")
    problems = []
    for check in checks(folder):
        print(f"{check.what}: {check.problem or 'found'}")
        problems += [check] if check.problem else []
    if problems:
        raise ElirError(f"GStreamer does not find the element yet: {problems[0].problem}")
    where = "" if folder is None else f"GST_PLUGIN_PATH={folder} "
    print(
        f"try: {where}gst-launch-1.0 videotestsrc ! videoconvert ! elirrestore ! videoconvert ! autovideosink"
    )


@gst.command()
def remove(folder: Folder = None) -> None:
    """Take it back."""
    from elir_trt.live.gstreamer.install import remove as take

    path = take(folder)
    print("there was nothing to remove" if path is None else f"removed: {path}")
