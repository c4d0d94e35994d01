from __future__ import annotations

import sys
from pathlib import Path

# The helpers are a module, not fixtures: tests name its classes.
sys.path.insert(0, str(Path(__file__).parent))
