"""The README's figures are those that are stored."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from elir_trt.benching.tables import floors

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def readme() -> ModuleType:
    spec = importlib.util.spec_from_file_location("readme_figures", ROOT / "benchmarks" / "readme.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_has_what_is_made_of_the_results(readme: ModuleType) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text == readme.with_block(text, readme.block()), "run: python benchmarks/readme.py"


def test_every_result_is_shown_with_its_machine(readme: ModuleType) -> None:
    made = readme.block()
    for report in (*readme.stored("bench_*.json"), *readme.stored("cpu_*.json")):
        assert report.get("cpu", report.get("machine", {}).get("cpu")) in made


def test_a_readme_without_markers_is_refused(readme: ModuleType) -> None:
    with pytest.raises(ValueError, match="no markers"):
        readme.with_block("# elir_trt", "figures")


def test_no_stored_frame_is_faster_than_its_floor(readme: ModuleType) -> None:
    """Measured peaks vary by some percent, and caches keep what the floor of bytes counts."""
    for report in readme.stored("bench_*.json"):
        for steps, by_precision in floors(report).items():
            measured = next(iter(report["steps"][steps].values()))["ms"]["median"]
            assert measured >= 0.8 * min(by_precision.values()), (report["bundle"]["task"], steps)
