"""Which elir_trt is tested: the installed one, unless there is none or the core is among the sources."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def _prefer_installed() -> None:
    # "python -m pytest" puts the working directory first on the path, and with it the sources without a core.
    if any((ROOT / "elir_trt").glob("_core*.so")):
        return
    before = list(sys.path)
    sys.path[:] = [entry for entry in before if Path(entry or ".").resolve() != ROOT]
    if importlib.util.find_spec("elir_trt") is None:
        sys.path[:] = before


_prefer_installed()
