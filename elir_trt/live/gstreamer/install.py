"""Telling GStreamer where the element is: a file in the folder that its Python plugin looks into."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import elir_trt
from elir_trt.errors import ElirError
from elir_trt.files import write_whole

NAME = "elirrestore"

_LOADER = '''"""Written by "elir-trt gst install" for GStreamer's Python plugin: the element elirrestore."""

import sys

# Behind all others: what the system has of its own stays what it uses.
for folder in {folders!r}:
    if folder not in sys.path:
        sys.path.append(folder)

from gi.repository import GObject, Gst

from elir_trt.live.gstreamer.element import ElirRestore

GObject.type_register(ElirRestore)
__gstelementfactory__ = ("elirrestore", Gst.Rank.NONE, ElirRestore)
'''


@dataclass(frozen=True)
class Check:
    """A thing that the element needs.

    Attributes:
        what: it is.
        problem: and what is to be done; empty: it is there.
    """

    what: str
    problem: str = ""


def plugin_folder() -> Path:
    """Of this user's plugins, where GStreamer looks without being told."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "gstreamer-1.0" / "plugins"


def install(folder: Path | None = None) -> Path:
    """Write the file; gives its path.

    Args:
        folder: of GStreamer's plugins; None: the user's.

    Raises:
        ElirError: it cannot be written.
    """
    target = (folder or plugin_folder()) / "python" / f"{NAME}.py"
    own = str(Path(elir_trt.__file__).parent.parent)
    folders = [own, *(entry for entry in sys.path if entry.endswith("-packages") and entry != own)]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, _LOADER.format(folders=folders).encode())
    except OSError as error:
        raise ElirError(f"{target}: cannot be written: {error.strerror or error}") from None
    return target


def remove(folder: Path | None = None) -> Path | None:
    """Remove the file; gives its path, or None if there was none.

    Raises:
        ElirError: it cannot be removed.
    """
    target = (folder or plugin_folder()) / "python" / f"{NAME}.py"
    try:
        target.unlink()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ElirError(f"{target}: cannot be removed: {error.strerror or error}") from None
    return target


def checks(folder: Path | None = None) -> Iterator[Check]:
    """What the element needs, and whether GStreamer finds it now.

    Args:
        folder: that it was installed to; None: the user's.
    """
    inspect = shutil.which("gst-inspect-1.0")
    if inspect is None:
        yield Check("GStreamer's tools", "gst-inspect-1.0 is not here: apt install gstreamer1.0-tools")
        return
    environment = dict(os.environ)
    if folder is not None:
        paths = [str(folder), *filter(None, [environment.get("GST_PLUGIN_PATH")])]
        environment["GST_PLUGIN_PATH"] = os.pathsep.join(paths)
    for name, problem in (
        ("python", "apt install gstreamer1.0-python3-plugin-loader python3-gst-1.0"),
        (NAME, "elir-trt gst install, and look at the end of: GST_DEBUG=python:6 gst-inspect-1.0 " + NAME),
    ):
        plugin = ["--plugin"] if name == "python" else []
        done = subprocess.run([inspect, *plugin, name], capture_output=True, env=environment, check=False)
        yield Check(
            f"GStreamer's {'plugin' if plugin else 'element'} {name}", "" if done.returncode == 0 else problem
        )


def python_problem() -> str:
    """Why the system's Python, which GStreamer runs, cannot use this package; empty: it can."""
    system = shutil.which("python3", path="/usr/bin:/bin")
    if system is None:
        return "there is no python3 of the system"
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    found = subprocess.run([system, "-c", code], capture_output=True, text=True, check=False).stdout.strip()
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if found == own:
        return ""
    return (
        f"GStreamer runs Python {found}, and this package is installed for {own}: "
        f"install it for {found}, such as in: {system} -m venv --system-site-packages .venv"
    )
