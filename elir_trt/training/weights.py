"""Weights for shipping: a checkpoint in float16, which numpy alone can read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from elir_trt.model.checkpoint import read_checkpoint


def write_weights(checkpoint: Path, path: Path) -> int:
    """Write a checkpoint (``.pth``, ``.ckpt`` or ``.npz``) as ``.npz`` in float16, its keys unchanged.

    Returns:
        the size of the file in bytes.

    Raises:
        CheckpointError: the checkpoint cannot be read.
    """
    arrays = {key: value.numpy().astype(np.float16) for key, value in read_checkpoint(checkpoint).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return path.stat().st_size
