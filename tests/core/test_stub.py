"""What is said of the core is what it has: its stub by stubtest and pybind11's signatures, and its docstrings."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from elir_trt import _core

ALLOWED = Path(__file__).resolve().parents[1] / "data" / "stub_allowlist.txt"
STUB = Path(_core.__file__).with_name("_core.pyi")


def named(body: list[ast.stmt], owner: Any, prefix: str = "") -> dict[str, tuple[ast.stmt, Any]]:
    """The classes, functions and properties of a stub, and what the module has by each name."""
    found: dict[str, tuple[ast.stmt, Any]] = {}
    for node in body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        value = inspect.getattr_static(owner, node.name, None)
        found[prefix + node.name] = node, value
        if isinstance(node, ast.ClassDef):
            found |= named(node.body, value, f"{prefix}{node.name}.")
    return found


NAMED = named(ast.parse(STUB.read_text()).body, _core)
FUNCTIONS = [
    name for name, (node, value) in NAMED.items() if isinstance(node, ast.FunctionDef) and callable(value)
]


def test_stubtest_finds_no_difference(tmp_path: Path) -> None:
    # Not in the checkout, whose sources have no module.
    command = [sys.executable, "-m", "mypy.stubtest", "elir_trt._core", "--allowlist", str(ALLOWED)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no issues found" in done.stdout


def arguments(signature: ast.arguments) -> tuple[list[str], list[str], list[Any]]:
    """Names of arguments, of those by keyword alone, and defaults."""
    assert not signature.posonlyargs and signature.vararg is None and signature.kwarg is None
    defaults = [
        None if value is None else (ast.literal_eval(value),)
        for value in [*signature.defaults, *signature.kw_defaults]
    ]
    return [each.arg for each in signature.args], [each.arg for each in signature.kwonlyargs], defaults


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_are_those_of_the_stub(name: str) -> None:
    """stubtest sees no arguments of compiled functions; the first line of their docstrings has them."""
    node, value = NAMED[name]
    (compiled,) = ast.parse(f"def {value.__doc__.splitlines()[0]}: ...").body
    assert isinstance(node, ast.FunctionDef) and isinstance(compiled, ast.FunctionDef)
    assert arguments(compiled.args) == arguments(node.args)


@pytest.mark.parametrize("name", NAMED)
def test_everything_has_a_docstring(name: str) -> None:
    text = inspect.getdoc(NAMED[name][1]) or ""
    if name in FUNCTIONS:
        text = text.partition("\n")[2]  # after the signature
    assert text.strip(), f"{name} has no docstring"


def test_the_stub_has_everything() -> None:
    assert _core.__doc__
    public = {name for name in vars(_core) if not name.startswith("_")}
    assert public == {name for name in NAMED if "." not in name} | {"MAX_DEPTH", "MAX_DEADLINE_MS"}
    assert len(FUNCTIONS) > 20 and len(NAMED) > 60
