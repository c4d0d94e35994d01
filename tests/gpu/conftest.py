"""Everything in this folder needs a GPU. ELIR_TRT_REQUIRE_GPU=1 makes a missing one a failure."""

from __future__ import annotations

import os

import pytest

from elir_trt import _core


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/gpu/" in item.path.as_posix():
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session", autouse=True)
def gpu() -> None:
    problem = _core.cuda_problem()
    if problem and os.environ.get("ELIR_TRT_REQUIRE_GPU"):
        pytest.fail(f"a GPU is required, and there is none: {problem}")
    if problem:
        pytest.skip(f"no GPU: {problem}")
