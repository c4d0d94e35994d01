"""Memory: what a process has, may have, and was told to stay below."""

from __future__ import annotations

import os
import re
from pathlib import Path

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", re.IGNORECASE)


def parse_bytes(text: str | int, name: str = "max_memory") -> int:
    """Bytes of a number or of a text such as "2GB", "1.5 GiB" or "800M".

    Args:
        text: what was given; K, M, G and T are powers of 1000, with an i of 1024.
        name: of the argument, for messages.

    Raises:
        ValueError: it is neither, or less than one byte.
    """
    found = None if isinstance(text, bool) or not isinstance(text, (int, str)) else _SIZE.fullmatch(str(text))
    if found is not None:
        unit = _UNITS[found[2].upper()]
        if found[3]:
            unit = 1024 ** "KMGT".index(found[2].upper()) * 1024 if found[2] else 0
        amount = int(float(found[1]) * unit)
        if amount > 0:
            return amount
    raise ValueError(f'{name} is {text!r}; expected bytes, such as "2GB" or 2000000000')


def resident_bytes() -> int:
    """Memory that this process has now; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def available_bytes() -> int | None:
    """Memory that processes can still take here, containers' limits included; None: the system does not tell."""
    found = []
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        kilobytes = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
        if kilobytes:
            found.append(int(kilobytes[1]) * 1024)
    except OSError:
        pass
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        folder = Path("/sys/fs/cgroup")
        try:
            found.append(int((folder / limit).read_text()) - int((folder / used).read_text()))
        except (OSError, ValueError):
            continue  # Not there, or "max".
    return max(0, min(found)) if found else None
