"""A small recipe, its made-up checkpoint and its bundle, for tests of what is built and what runs."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from elir_trt.model.elir import Elir
from elir_trt.recipe import Recipe, parse_recipe
from elir_trt.training.trainer import start_model, training_checkpoint

DATA = Path(__file__).resolve().parent / "data"


def small_recipe(**changes: Any) -> Recipe:
    """The configuration of the reference vectors; frames keep their size."""
    data: dict[str, Any] = {
        "task": "small",
        "title": "Configuration of the reference vectors",
        "steps": 3,
        "sigma": 0.1,
        "size": [64, 128],
        "architecture": {"coarse": {"growth": 16, "blocks": 1}, "velocity": {"hidden": 32, "middle": 1}},
        "prepare": {"mode": "pad", "multiple": 32},
    }
    data.update(changes)
    return parse_recipe(data, "small")


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest of the bundle in ``folder`` in place."""
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def gated(recipe: Recipe) -> Recipe:
    """The recipe with a decoder that has a skip."""
    return replace(recipe, architecture=replace(recipe.architecture, skip="gated"))


def with_skip_that_shows(model: Elir) -> Elir:
    """Weights of the skip that let about half of the image through, more or less of it by the features."""
    torch.manual_seed(4)
    assert model.dec.entry is not None and model.dec.gate is not None and model.dec.gate.bias is not None
    with torch.no_grad():
        model.dec.entry.weight.normal_(0.0, 0.02)
        model.dec.gate.weight.normal_(0.0, 0.005)
        model.dec.gate.bias.fill_(0.3)
    return model.eval().requires_grad_(False)


def write_gated_checkpoint(path: Path, without: Path) -> Path:
    """The weights of a checkpoint, and a skip besides."""
    model = with_skip_that_shows(start_model(gated(small_recipe()), without, 0))
    torch.save(training_checkpoint(model), path)
    return path


def write_checkpoint(path: Path) -> Path:
    """Weights that are made from their names."""
    state = {}
    for key, shape in json.loads((DATA / "state_dict_layout.json").read_text())["small"].items():
        values = np.random.RandomState(zlib.crc32(key.encode())).randn(*shape)
        if len(shape) >= 2:
            values /= np.sqrt(np.prod(shape[1:]))
        else:
            values = 1 + 0.1 * values if key.endswith("weight") else 0.1 * values
        state[key] = torch.from_numpy(values.astype(np.float32))
    torch.save(state, path)
    return path
