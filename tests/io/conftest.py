from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The helpers are a module, not fixtures: parametrization needs them before any fixture exists.
sys.path.insert(0, str(Path(__file__).parent))

from media_files import FakeRestorer


@pytest.fixture
def restorer() -> FakeRestorer:
    """Inverts its frames."""
    return FakeRestorer()
