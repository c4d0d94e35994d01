from __future__ import annotations

import sys
from pathlib import Path

# The helpers are a module, not fixtures: parametrization needs them before any fixture exists.
sys.path.insert(0, str(Path(__file__).parent))
