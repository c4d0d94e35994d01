"""A task is one TOML file: built, opened by its name and run, without a line of code that knows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import elir_trt
from elir_trt.cli.app import app

RECIPE = """
task = "watermarks"
title = "Watermarks, of a file that the package does not have"
steps = 3
default_steps = 2
sigma = 0.1
size = [64, 64]

[architecture.coarse]
growth = 16
blocks = 1

[architecture.velocity]
hidden = 32
middle = 1

[prepare]
mode = "pad"
multiple = 32
"""


def test_a_task_is_one_file(small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELIR_TRT_CACHE", str(tmp_path / "cache"))
    recipe = tmp_path / "watermarks.toml"
    recipe.write_text(RECIPE)
    done = CliRunner().invoke(app, ["build", str(recipe), "--weights", str(small_checkpoint)])
    assert done.exit_code == 0, done.output
    frame = np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    with elir_trt.open("watermarks") as restorer:
        assert restorer.recipe.title.startswith("Watermarks")
        assert restorer(frame).shape == frame.shape
