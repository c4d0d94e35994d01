"""Everything in this folder needs a GPU. ELIR_TRT_REQUIRE_GPU=1 makes a missing one a failure.

tests/emulated_cuda runs what it can of it without one: ELIR_TRT_EMULATED_CORE is then the core over an emulated GPU.
"""

from __future__ import annotations

import os
import zlib

import pytest
from libraries import Library, library

from elir_trt import _core


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/gpu/" in item.path.as_posix():
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session", autouse=True)
def gpu() -> Library:
    problem = _core.cuda_problem()
    if problem and os.environ.get("ELIR_TRT_REQUIRE_GPU"):
        pytest.fail(f"a GPU is required, and there is none: {problem}")
    if problem:
        pytest.skip(f"no GPU: {problem}")
    return library()


@pytest.fixture(autouse=True)
def schedule(gpu: Library, request: pytest.FixtureRequest) -> None:
    """On the emulated GPU every test has an order of operations of its own; it is in the test's output."""
    if gpu.emulated:
        seed = zlib.crc32(request.node.nodeid.encode())
        print(f"schedule: random, seed {seed}")
        gpu.emulated.reset("random", seed)


@pytest.fixture(scope="session")
def real_gpu(gpu: Library) -> None:
    if gpu.emulated:
        pytest.skip("needs a real GPU: this one is emulated, and torch does not know it")
