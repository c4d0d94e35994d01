"""The model against vectors of the authors' implementation; needs nothing outside of the clone."""

from __future__ import annotations

import json
import pickle
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from elir_trt.errors import CheckpointError
from elir_trt.model import Elir, collapse, load_model, read_checkpoint, time_embedding
from elir_trt.model.autoencoder import GATE_START
from elir_trt.model.checkpoint import infer_architecture, load_state
from elir_trt.recipe import Architecture, CoarseSpec, VelocitySpec, load_recipe

DATA = Path(__file__).resolve().parents[1] / "data"
LAYOUT: dict[str, dict[str, list[int]]] = json.loads((DATA / "state_dict_layout.json").read_text())
SMALL = Architecture(coarse=CoarseSpec(growth=16, blocks=1), velocity=VelocitySpec(hidden=32, middle=1))
TOLERANCE = 1e-4


def made_state(layout: str) -> dict[str, Tensor]:
    """Weights that are made from their names, as those of the reference vectors are."""
    state = {}
    for key, shape in LAYOUT[layout].items():
        values = np.random.RandomState(zlib.crc32(key.encode())).randn(*shape)
        if len(shape) >= 2:
            values /= np.sqrt(np.prod(shape[1:]))
        elif key.endswith("weight"):
            values = 1 + 0.1 * values
        else:
            values = 0.1 * values
        state[key] = torch.from_numpy(values.astype(np.float32))
    return state


def test_every_vector_of_the_small_configuration() -> None:
    vectors = {
        key: torch.from_numpy(value) for key, value in np.load(DATA / "elir_small_vectors.npz").items()
    }
    model = load_state(made_state("small"), SMALL)

    def close(found: Tensor, name: str) -> None:
        torch.testing.assert_close(found, vectors[name], rtol=0, atol=TOLERANCE, msg=lambda m: f"{name}: {m}")

    with torch.no_grad():
        z = model.enc(vectors["x"])
        close(z, "latent")
        z = model.mmse(z)
        close(z, "coarse")
        z = z + vectors["noise"]
        for k in range(3):
            close(z, f"z_{k}")
            t = torch.tensor([k / 3])
            close(time_embedding(t, 160), f"t_emb_{k}")
            velocity = model.fmir(z, t)
            close(velocity, f"v_{k}")
            z = z + velocity / 3
        close(z, "z_3")
        close(model.dec(z), "decoded")
        restored = model.restore(vectors["x"], steps=3, sigma=0.1, noise=vectors["noise"] / 0.1)
        close(restored, "restored")


def test_collapsed_training_checkpoint(tmp_path: Path) -> None:
    vectors = np.load(DATA / "elir_small_overparametrised_vectors.npz")
    state = made_state("small_overparametrised")
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        prefix, name = key.split(".", 1)
        parts.setdefault(f"state_dict_{prefix}", {})[name] = value
    torch.save(parts, tmp_path / "last.ckpt")
    model = load_model(tmp_path / "last.ckpt", SMALL)
    with torch.no_grad():
        noise = torch.from_numpy(vectors["noise"]) / 0.1
        restored = model.restore(torch.from_numpy(vectors["x"]), steps=3, sigma=0.1, noise=noise)
    np.testing.assert_allclose(restored.numpy(), vectors["restored"], rtol=0, atol=TOLERANCE)
    assert {key: list(value.shape) for key, value in collapse(state).items()} == LAYOUT["small"]


@pytest.mark.parametrize(
    ("task", "parameters"),
    [
        ("bfr", 37_518_771),
        ("bsr", 19_083_923),
        ("sr", 26_893_747),
        ("denoising", 26_893_747),
        ("inpainting", 26_893_747),
    ],
)
def test_layout_and_size_of_the_published_tasks(task: str, parameters: int) -> None:
    architecture = load_recipe(task).architecture
    with torch.device("meta"):
        state = Elir(architecture).state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == LAYOUT[task]
    assert sum(value.numel() for value in state.values()) == parameters
    assert infer_architecture(state) == architecture


def test_widths_of_the_camera_restorer_are_inferred() -> None:
    architecture = load_recipe("camera").architecture
    with torch.device("meta"):
        assert infer_architecture(Elir(architecture).state_dict()) == architecture


def test_wrong_checkpoint_is_named_by_its_keys(tmp_path: Path) -> None:
    state = made_state("small")
    state["fmir.extra.weight"] = torch.zeros(1)
    del state["enc.layers.0.bias"]
    state["dec.layers.0.weight"] = torch.zeros(64, 8, 3, 3)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError) as caught:
        load_model(tmp_path / "odd.pth", SMALL)
    text = str(caught.value)
    for word in ("odd.pth", "enc.layers.0.bias", "fmir.extra.weight", "dec.layers.0.weight", "(64, 8, 3, 3)"):
        assert word in text


class Payload:
    """A pickle that would run a command."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        import os

        return os.system, (f"touch {self.path}",)


def test_checkpoint_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"enc.layers.0.weight": Payload(tmp_path / "ran")}, tmp_path / "evil.pth")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    for name in ("evil.pth", "evil.pkl"):
        with pytest.raises(CheckpointError, match=name):
            read_checkpoint(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken"])
def test_damaged_checkpoints(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"bad\.pth"):
        read_checkpoint(tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match="no such"):
        read_checkpoint(tmp_path / "none.pth")


def test_nan_is_refused(tmp_path: Path) -> None:
    state = made_state("small")
    state["enc.layers.0.bias"][3] = float("nan")
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(CheckpointError, match=r"enc\.layers\.0\.bias holds NaN"):
        read_checkpoint(tmp_path / "nan.pth")


def test_a_fresh_skip_is_all_but_closed_and_needs_the_image() -> None:
    architecture = replace(SMALL, skip="gated")
    state = made_state("small")
    gated = Elir(architecture)
    missing, unexpected = gated.load_state_dict(state, strict=False)
    assert sorted(missing) == ["dec.entry.weight", "dec.gate.bias", "dec.gate.weight"] and not unexpected
    plain = load_state(state, SMALL)
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        z = plain.enc(x)
        decoded = plain.dec(z)
        closed = torch.sigmoid(torch.tensor(GATE_START))
        torch.testing.assert_close(gated.dec(z, x), decoded + closed * (x - decoded))
        assert closed < 0.01
        with pytest.raises(ValueError, match="skip needs"):
            gated.dec(z)
        # An open gate is the image itself.
        assert gated.dec.gate is not None and gated.dec.gate.bias is not None
        gated.dec.gate.bias.fill_(2.0)
        torch.testing.assert_close(gated.dec(z, x), x, rtol=0, atol=1e-5)


def test_a_skip_is_inferred() -> None:
    architecture = replace(load_recipe("camera").architecture, skip="gated")
    with torch.device("meta"):
        state = Elir(architecture).state_dict()
    assert infer_architecture(state).skip == "gated"
    del state["dec.gate.weight"], state["dec.gate.bias"], state["dec.entry.weight"]
    assert infer_architecture(state).skip == "none"
