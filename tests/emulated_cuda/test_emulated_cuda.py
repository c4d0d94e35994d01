"""The CUDA device proven without a GPU: its sources over an emulated one, under AddressSanitizer.

Each run is a process of its own, because the module takes the place of the package's own core.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

import elir_trt
from emulated_cuda import build, mutants

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("emulated_cuda")


@pytest.fixture(scope="session")
def core(folder: Path) -> Path:
    """The core over the emulated GPU."""
    return build.build(folder / "whole")


@pytest.fixture(scope="session")
def mutant(folder: Path) -> Path:
    """The same, of which dependencies can be taken away."""
    sources = folder / "mutant" / "csrc"
    build.write_sources(sources)
    mutants.mutate(sources / "cuda")
    return build.compile_module(folder / "mutant")


@dataclass(frozen=True)
class Done:
    """How a process ended: its status, what pytest printed, and what AddressSanitizer found."""

    status: int
    output: str
    report: str

    def __str__(self) -> str:
        return f"status {self.status}\n{self.output[-6000:]}\n{self.report[:6000]}"


def run(core: Path, *arguments: str, **environment: str) -> Done:
    """pytest in a process that has this core."""
    with tempfile.TemporaryDirectory() as reports:
        options = build.sanitizer_environment(Path(reports) / "report")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", *arguments],
            cwd=ROOT,
            env={**os.environ, **options, "ELIR_TRT_EMULATED_CORE": str(core), **environment},
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        report = "".join(path.read_text() for path in Path(reports).glob("report.*"))
    return Done(done.returncode, done.stdout + done.stderr, report)


def assert_passed(done: Done, least: int) -> None:
    assert done.status == 0 and not done.report, str(done)
    passed = re.search(r"(\d+) passed", done.output)
    assert passed is not None and int(passed[1]) >= least, str(done)


def test_tests_of_the_gpu(core: Path) -> None:
    """tests/gpu, but for what says that it needs a real one."""
    assert_passed(run(core, "tests/gpu", ELIR_TRT_REQUIRE_GPU="1"), 90)


@pytest.mark.parametrize(
    ("cases", "least"),
    [("counts", 4), ("runtime", 19), ("faults", 50), ("schedules", 120), ("dlpack", 14), ("tuning", 11)],
)
def test_cases(core: Path, cases: str, least: int) -> None:
    assert_passed(run(core, f"{HERE}/cases/{cases}.py"), least)


def test_bytes_of_the_kernels(folder: Path) -> None:
    """Counted by a core without AddressSanitizer: the compiler instruments for one of them."""
    core = build.build(folder / "traffic", counts_traffic=True)
    assert_passed(run(core, f"{HERE}/cases/traffic.py"), 7)


@pytest.mark.parametrize("dependency", mutants.DEPENDENCIES, ids=lambda dependency: dependency.name)
def test_no_dependency_is_there_for_nothing(mutant: Path, dependency: mutants.Dependency) -> None:
    """Without it, some schedule gives wrong pixels or touches memory that it must not."""
    cases = f"{HERE}/cases/{dependency.cases}"
    done = run(mutant, cases, ELIR_TRT_SEEDS="2", ELIR_TRT_WITHOUT=dependency.name)
    assert done.status != 0 and (" failed" in done.output or "AddressSanitizer" in done.report), str(done)


def test_the_package_has_nothing_of_it() -> None:
    package = Path(elir_trt.__file__).parent
    files = [path for path in package.rglob("*") if path.is_file()]
    assert any(path.name.startswith("_core") for path in files)
    assert not [path for path in files if "emulated" in str(path.relative_to(package))]
    for module in package.glob("_core*.so"):
        assert b"emulated_" not in module.read_bytes()
