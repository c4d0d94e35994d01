"""The losses against the numbers of the authors' implementation: values and gradient norms."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from elir_trt.model.elir import Elir  # noqa: E402
from elir_trt.recipe import Architecture, CoarseSpec, VelocitySpec  # noqa: E402
from elir_trt.training.losses import (  # noqa: E402
    FlowSettings,
    Teacher,
    flow_matching_loss,
    lcfm_loss,
)

DATA = Path(__file__).resolve().parents[1] / "data"
VECTORS = json.loads((DATA / "lcfm_loss_vectors.json").read_text())
SMALL = Architecture(coarse=CoarseSpec(growth=16, blocks=1), velocity=VelocitySpec(hidden=32, middle=1))
LOSSES = {
    "l2_fm_loss": (flow_matching_loss, 0.0),
    "l2_fm_mse_loss": (flow_matching_loss, VECTORS["config"]["beta"]),
    "l2_cfm_loss": (lcfm_loss, 0.0),
    "l2_cfm_mse_loss": (lcfm_loss, VECTORS["config"]["beta"]),
}


def _fill(module: torch.nn.Module, prefix: str = "") -> None:
    """Every tensor made from its key's name, so that another implementation can make the same."""
    for key, tensor in module.state_dict().items():
        values = np.random.RandomState(zlib.crc32((prefix + key).encode())).randn(*tensor.shape)
        if tensor.ndim >= 2:
            values /= np.sqrt(np.prod(tensor.shape[1:]))
        else:
            values = 1 + 0.1 * values if key.endswith("weight") else 0.1 * values
        tensor.copy_(torch.from_numpy(values.astype(np.float32)))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_loss_and_gradients_match_the_reference(name: str) -> None:
    model, frozen = Elir(SMALL), Elir(SMALL)
    teacher = Teacher(frozen.enc, frozen.dec)
    _fill(model)
    _fill(teacher, "teacher.")
    config, expected = VECTORS["config"], VECTORS["values"][name]
    arrays = np.load(DATA / "lcfm_loss_vectors.npz")
    x_lq, x_hq, u, eps = (torch.from_numpy(arrays[key]) for key in ("x_lq", "x_hq", "u", "eps"))
    function, beta = LOSSES[name]
    settings = FlowSettings(
        segments=config["k_steps"],
        noise=config["sigma_s"],
        alpha=config["alpha"],
        beta=beta,
        dt=config["dt"],
        sigma_min=config["sigma_min"],
    )
    losses = function(model, teacher, x_lq, x_hq, settings, uniform=u, normal=eps)
    losses.total.backward()
    assert losses.total.item() == pytest.approx(expected["loss"], rel=1e-4)
    for part, norm in expected["grad_norm"].items():
        gradients = [p.grad for p in getattr(model, part).parameters() if p.grad is not None]
        found = (
            float(torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))) if gradients else 0.0
        )
        assert found == pytest.approx(norm, rel=1e-4), part
    assert all(p.grad is None for p in teacher.parameters())
