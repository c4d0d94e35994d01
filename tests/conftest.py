"""Which elir_trt is tested: the installed one, unless there is none or the core is among the sources."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

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
for folder in ("tests", "tests/gpu"):
    sys.path.insert(0, str(ROOT / folder))
if emulated_core := os.environ.get("ELIR_TRT_EMULATED_CORE"):  # tests/emulated_cuda runs tests/gpu so
    from emulated_cuda.emulated import load_core

    load_core(emulated_core)


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in its background so, and processes of tests would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

_seen: set[Path] = set()


def pytest_collect_file(file_path: Path) -> None:
    """Note each file that pytest looks at."""
    _seen.add(file_path)


def pytest_report_collectionfinish() -> str:
    """The number of files, beside pytest's of tests."""
    return f"from {len(_seen)} files"


def pytest_collection_finish(session: pytest.Session) -> None:
    """When all tests are to run, no file of tests may have been passed over, whatever its folder is called."""
    asked = [Path(str(argument).partition("::")[0]) for argument in session.config.args]
    if not any(
        (session.config.invocation_params.dir / path).resolve() in (ROOT, ROOT / "tests") for path in asked
    ):
        return
    missed = sorted({*(ROOT / "tests").rglob("test_*.py")} - _seen)
    if missed:
        names = ", ".join(str(path.relative_to(ROOT)) for path in missed)
        raise pytest.UsageError(f"not collected: {names}; see norecursedirs in pyproject.toml")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of the tests' own: bundles that are open in the user's must not change, nor decide what is tested."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("cache")
        patch.setenv("ELIR_TRT_CACHE", str(path))
        yield path


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the small configuration, with weights made from their names."""
    from bundles import write_checkpoint

    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "small.pth")


@pytest.fixture(scope="session")
def small_bundle(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of that checkpoint, with CPU engines."""
    from bundles import small_recipe

    from elir_trt.building import build

    path = tmp_path_factory.mktemp("bundles") / "small"
    return build(small_recipe(), small_checkpoint, output=path, backends=["openvino"]).path


@pytest.fixture(scope="session")
def portable_bundle(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The portable bundle of that checkpoint, in float and INT8."""
    from bundles import small_recipe

    from elir_trt.building import build

    path = tmp_path_factory.mktemp("bundles") / "portable"
    # Weights that are made up have no accuracy to lose.
    return build(small_recipe(default_steps=1), small_checkpoint, output=path, min_psnr=20.0).path
