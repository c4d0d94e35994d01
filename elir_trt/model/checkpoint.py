"""Reading checkpoints: the published ``.pth`` and training's ``.ckpt``, with weights only.

A checkpoint is data. torch's weights-only unpickler reads it, so that a file that carries code is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from elir_trt.errors import CheckpointError
from elir_trt.model.convolution import merge_pointwise
from elir_trt.model.elir import Elir
from elir_trt.recipe import Architecture, AutoencoderSpec, CoarseSpec, VelocitySpec
from elir_trt.schema import SchemaError

#: The parts of a training checkpoint and the prefixes they have in a published one.
TRAINING_PARTS = {
    "state_dict_fmir": "fmir",
    "state_dict_mmse": "mmse",
    "state_dict_enc": "enc",
    "state_dict_dec": "dec",
}
PREFIXES = tuple(f"{name}." for name in TRAINING_PARTS.values())

_PAIR = re.compile(r"^(?P<stem>.*\.block)\.(?P<index>\d+)\.weight$")


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read a checkpoint as a flat float32 state dict with the prefixes fmir, mmse, enc and dec.

    Takes the published ``.pth``, training's ``.ckpt`` (over-parametrised convolutions are collapsed), and this
    package's ``.npz``.

    Raises:
        CheckpointError: the file is missing, damaged, carries code, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    content = _read_npz(path) if path.suffix == ".npz" else _read_torch(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}; a checkpoint holds a state dict")
    if any(key in content for key in TRAINING_PARTS):
        missing = [key for key in TRAINING_PARTS if not isinstance(content.get(key), Mapping)]
        if missing:
            raise CheckpointError(f"{path}: a training checkpoint without {missing[0]}")
        parts: Any = content
        content = {
            f"{prefix}.{name}": value
            for key, prefix in TRAINING_PARTS.items()
            for name, value in parts[key].items()
        }
    state: dict[str, Tensor] = {}
    for key, value in content.items():
        if not isinstance(key, str) or not key.startswith(PREFIXES):
            raise CheckpointError(
                f"{path}: unexpected key {str(key)!r}; keys begin with {', '.join(PREFIXES)} "
                "(a checkpoint of ELIR, published or from training)"
            )
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{path}: {key} is a {type(value).__name__}; expected a tensor")
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{path}: {key} holds NaN or infinity")
        state[key] = value.detach().to(device="cpu", dtype=torch.float32).contiguous()
    if not state:
        raise CheckpointError(f"{path}: holds no tensors")
    return collapse(state)


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (
        Exception
    ) as error:  # torch raises a dozen types here; all mean that the file is not what it should be
        text = str(error)
        if "weights_only" in text or "Unsupported" in text or "GLOBAL" in text:
            match = re.search(r"GLOBAL (\S+)", text)
            found = f" ({match.group(1)})" if match else ""
            raise CheckpointError(
                f"{path}: refused: it holds more than tensors{found}; a checkpoint must never run code. "
                "Save it again as a state dict of tensors"
            ) from error
        first = text.splitlines()[0] if text else type(error).__name__
        raise CheckpointError(f"{path}: not a readable checkpoint: {first}") from error


def _read_npz(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    except Exception as error:
        raise CheckpointError(f"{path}: not a readable .npz checkpoint: {error}") from error


def collapse(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Merge each over-parametrised pair (3x3, then 1x1, nothing between) into its 3x3 convolution.

    See :func:`elir_trt.model.convolution.merge_pointwise`.
    """
    result = dict(state)
    for key in state:
        match = _PAIR.match(key)
        if match is None or state[key].ndim != 4 or state[key].shape[2:] != (3, 3):
            continue
        stem, index = match["stem"], int(match["index"])
        first, second = f"{stem}.{index}", f"{stem}.{index + 1}"
        wide = state.get(f"{second}.weight")
        if wide is None or wide.ndim != 4 or wide.shape[2:] != (1, 1):
            continue
        result[f"{first}.weight"], result[f"{first}.bias"] = merge_pointwise(
            state[f"{first}.weight"], state[f"{first}.bias"], wide, state[f"{second}.bias"]
        )
        del result[f"{second}.weight"], result[f"{second}.bias"]
    return result


def check_layout(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str) -> None:
    """Raise one CheckpointError that names the first missing, unexpected and misshapen keys."""
    problems = []
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    misshapen = [key for key in expected if key in state and state[key].shape != expected[key].shape]
    if missing:
        problems.append(f"{len(missing)} missing, first {missing[0]}")
    if unexpected:
        problems.append(f"{len(unexpected)} unexpected, first {unexpected[0]}")
    if misshapen:
        key = misshapen[0]
        problems.append(
            f"{len(misshapen)} of another shape, first {key}: "
            f"found {tuple(state[key].shape)}, expected {tuple(expected[key].shape)}"
        )
    if problems:
        raise CheckpointError(
            f"{where}: not a checkpoint of this architecture: {'; '.join(problems)}. "
            "Is it the checkpoint of another task?"
        )


def infer_architecture(state: Mapping[str, Tensor], where: str = "checkpoint") -> Architecture:
    """Read widths and depths off the shapes of a collapsed state dict.

    Raises:
        CheckpointError: a tensor that says so is missing; the message names it.
    """

    def shape(key: str) -> tuple[int, ...]:
        if key not in state:
            raise CheckpointError(f"{where}: not a checkpoint of ELIR: {key} is missing")
        return tuple(state[key].shape)

    def count(pattern: str) -> int:
        return len({match[1] for key in state if (match := re.match(pattern, key))})

    first = shape("enc.layers.0.weight")
    unshuffle = math.isqrt(first[1] // 3)
    widths, blocks = [first[0]], [0]
    last = 1 + max((int(m[1]) for key in state if (m := re.match(r"enc\.layers\.(\d+)\.", key))), default=0)
    for index in range(1, last - 1):
        if f"enc.layers.{index}.weight" in state:
            widths.append(shape(f"enc.layers.{index}.weight")[0])
            blocks.append(0)
        else:
            blocks[-1] += 1
    try:
        return Architecture(
            latent_channels=shape(f"enc.layers.{last - 1}.weight")[0],
            autoencoder=AutoencoderSpec.from_data(
                {"unshuffle": unshuffle, "widths": widths, "blocks": blocks}
            ),
            coarse=CoarseSpec(
                growth=shape("mmse.lrm.0.RDB1.conv1.block.0.weight")[0], blocks=count(r"mmse\.lrm\.(\d+)\.")
            ),
            velocity=VelocitySpec(
                hidden=shape("fmir.first_proj.weight")[0],
                middle=count(r"fmir\.mid_blocks\.(\d+)\."),
                time_features=shape("fmir.time_mlp.linear1.weight")[1],
            ),
            skip="gated" if "dec.gate.weight" in state else "none",
        )
    except SchemaError as error:
        raise CheckpointError(f"{where}: its shapes make no architecture: {error}") from None


def load_state(state: Mapping[str, Tensor], architecture: Architecture, where: str = "checkpoint") -> Elir:
    """Make the model of an architecture from a state dict, checked key by key."""
    with torch.device("meta"):
        model = Elir(architecture)
    check_layout(state, model.state_dict(), where)
    model.load_state_dict(dict(state), assign=True)
    return model.eval().requires_grad_(False)


def load_model(path: str | Path, architecture: Architecture | None = None) -> Elir:
    """Read a checkpoint and make its model, in evaluation mode, float32, on the CPU.

    Widths and depths come from the tensors' shapes; an ``architecture`` that is given must agree with them.
    """
    state = read_checkpoint(path)
    return load_state(state, architecture or infer_architecture(state, str(path)), str(path))
