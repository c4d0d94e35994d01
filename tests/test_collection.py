"""Every test file runs: a folder whose name a tool skips would be passed over silently."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")


@pytest.mark.parametrize("setting", ["", 'norecursedirs = [".*"]'])
def test_a_file_that_is_passed_over_is_an_error(tmp_path: Path, setting: str) -> None:
    tests = tmp_path / "tests"
    (tests / "build").mkdir(parents=True)  # pytest skips this name unless it is told otherwise
    (tests / "conftest.py").write_text(CONFTEST.read_text())
    (tests / "test_a.py").write_text("def test_a(): pass\n")
    (tests / "build" / "test_b.py").write_text("def test_b(): pass\n")
    (tmp_path / "pyproject.toml").write_text(f'[tool.pytest.ini_options]\ntestpaths = ["tests"]\n{setting}\n')

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    done = run()
    if setting:
        assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout
    else:
        assert done.returncode != 0
        assert "tests/build/test_b.py" in done.stdout + done.stderr
    # A part of the tests is a part of the tests.
    assert "1 passed" in run("tests/test_a.py").stdout
