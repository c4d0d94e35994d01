"""Cases for the core over the emulated GPU; ../test_emulated_cuda.py runs each file in a process of its own."""

from __future__ import annotations

import os

import pytest
from emulated_cuda.emulated import Gpu
from libraries import EmulatedLibrary


@pytest.fixture(scope="session")
def library() -> EmulatedLibrary:
    return EmulatedLibrary(os.environ["ELIR_TRT_EMULATED_CORE"])


@pytest.fixture
def gpu(library: EmulatedLibrary) -> Gpu:
    """The GPU, all forgotten that was ordered before."""
    found: Gpu = library.emulated
    found.reset()
    return found
