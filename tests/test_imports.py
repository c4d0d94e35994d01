"""Who may import whom: what runs needs neither what builds nor its packages, and no module needs itself."""

from __future__ import annotations

import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

#: What builds and trains. Nothing else may import it, inside of functions or not.
BUILD_TIME = ("elir_trt.building", "elir_trt.model", "elir_trt.training")
PACKAGES = ("torch", "onnx", "nncf", "onnxruntime", "ml_dtypes")
#: What is outside of the rule: the backend that runs the model itself, and rewrites of ONNX files that compiling for
#: TensorRT needs, with what says which files it takes.
EXCEPTIONS = {
    "elir_trt.backends.torch": ("elir_trt.model", "torch"),
    "elir_trt.backends.tensorrt_builder": ("onnx",),
    "elir_trt.backends.tensorrt_rewrite": ("onnx",),
    "elir_trt.backends.tensorrt_rules": ("onnx",),
    "elir_trt.backends.widen": ("onnx",),
    "elir_trt.backends.narrow": ("onnx", "ml_dtypes"),
    "elir_trt.backends.eight_bits": ("onnx", "ml_dtypes"),
}
#: Commands start everything, and a benchmark runs everything side by side.
COMMANDS = ("elir_trt.cli", "elir_trt.__main__", "elir_trt.doctor", "elir_trt.benching")


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def build_graph(*, types: bool) -> grimp.ImportGraph:
    """Who imports whom; ``types``: for type checkers alone, too."""
    return grimp.build_graph(
        "elir_trt", include_external_packages=True, exclude_type_checking_imports=not types, cache_dir=None
    )


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return build_graph(types=False)


def test_what_runs_imports_nothing_that_builds(graph: grimp.ImportGraph) -> None:
    found = []
    run_time = [name for name in graph.modules if within(name, ("elir_trt",))]
    for name in run_time:
        if within(name, BUILD_TIME + COMMANDS):
            continue
        for imported in graph.find_modules_directly_imported_by(name):
            allowed = EXCEPTIONS.get(name, ())
            if within(imported, BUILD_TIME + PACKAGES) and not within(imported, allowed):
                found.append(f"{name} imports {imported}")
    assert len(run_time) > 50 and found == []


def test_every_exception_is_needed(graph: grimp.ImportGraph) -> None:
    for name, packages in EXCEPTIONS.items():
        imported = graph.find_modules_directly_imported_by(name)
        assert all(any(within(other, (package,)) for other in imported) for package in packages), name


@pytest.mark.parametrize("types", [False, True])
def test_no_module_needs_itself(types: bool) -> None:
    """Not even for the sake of types: the package alone names, for type checkers, what its modules hold."""
    graph = build_graph(types=types)
    modules = {name for name in graph.modules if within(name, ("elir_trt",))}
    if types:
        modules -= {"elir_trt"}
    needs = {name: graph.find_modules_directly_imported_by(name) & modules for name in modules}
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
    assert len(order) == len(modules)


def test_rooms_lie_above_each_other(graph: grimp.ImportGraph) -> None:
    """Backends know no bundle and nothing that chooses; tuning is above them, and restorers above it and faces."""
    for below, above in (
        ("elir_trt.backends", ("elir_trt.bundle", "elir_trt.tuning", "elir_trt.restorer", "elir_trt.stream")),
        ("elir_trt.bundle", ("elir_trt.tuning", "elir_trt.restorer", "elir_trt.stream")),
        ("elir_trt.tuning", ("elir_trt.restorer", "elir_trt.stream", "elir_trt.io")),
        ("elir_trt.faces", ("elir_trt.restorer", "elir_trt.io", "elir_trt.live")),
    ):
        for name in graph.find_descendants(below) | {below}:
            for imported in graph.find_modules_directly_imported_by(name):
                assert not within(imported, above), f"{name} imports {imported}"


def test_opening_a_restorer_imports_no_package_that_builds(tmp_path: Path) -> None:
    code = (
        "import sys, elir_trt\n"
        "with elir_trt.open('camera', device='cpu') as restorer: assert restorer.engines.device == 'cpu'\n"
        f"print([name for name in {PACKAGES!r} if name in sys.modules])\n"
    )
    # Away from the checkout, whose sources have no core.
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (run.stdout.strip(), run.returncode) == ("[]", 0), run.stderr
