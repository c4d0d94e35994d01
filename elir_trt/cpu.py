"""What CPU is here, as the kernel tells it."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path


@functools.cache
def cpu_flags() -> tuple[str, frozenset[str]]:
    """Vendor and feature flags of the first CPU; of other systems and architectures what they tell."""
    fields = _first_cpu()
    vendor = fields.get("vendor_id") or fields.get("CPU implementer") or platform.machine()
    return vendor, frozenset((fields.get("flags") or fields.get("Features") or "").split())


@functools.cache
def cpu_model() -> str:
    """Name of the first CPU, or of its architecture where the system does not tell more."""
    return _first_cpu().get("model name") or platform.processor() or platform.machine()


def _first_cpu() -> dict[str, str]:
    fields: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    except OSError:
        pass
    return fields


def available_cpus() -> int:
    """CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
