"""Inputs that are no files: addresses on the network, named pipes, standard input."""

from __future__ import annotations

import os
import re
import stat

STDIN = STDOUT = "-"
"""The name that stands for standard input, and for standard output."""

_ADDRESS = re.compile(r"(https?|rtsps?)://", re.IGNORECASE)


def is_address(name: str | os.PathLike[str]) -> bool:
    """Whether a name is an address on the network, which PyAV opens: http, https, rtsp or rtsps."""
    return bool(_ADDRESS.match(os.fspath(name)))


def is_live(name: str | os.PathLike[str]) -> bool:
    """Whether frames come when they come, as from a camera on the network."""
    return os.fspath(name).lower().startswith(("rtsp://", "rtsps://"))


def comes_once(name: str | os.PathLike[str]) -> bool:
    """Whether a name is an address, a named pipe or standard input: to be opened once, and not looked into before."""
    if is_address(name) or os.fspath(name) == STDIN:
        return True
    try:
        return stat.S_ISFIFO(os.stat(name).st_mode)
    except OSError:
        return False


def is_file(name: str | os.PathLike[str]) -> bool:
    """Whether a name is that of a file which can be read more than once: no address, pipe or standard input."""
    if is_address(name) or os.fspath(name) == STDIN:
        return False
    try:
        return stat.S_ISREG(os.stat(name).st_mode)
    except OSError:
        return False
