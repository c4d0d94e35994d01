"""Measurements; ``python -m benchmarks.gpu`` in a checkout measures the installed package, not the sources there."""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != _ROOT]
