"""First phase: autoencoder and coarse estimator together, on pixels.

One encoder takes clean and degraded crops alike. The loss is L1 on ``decoder(coarse(encoder(degraded)))``, and a
share of the batch also goes through ``decoder(encoder(clean))``, so that the latent of a clean image is one that
decodes to it: the latent that the flow of the second phase leads to.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elir_trt.model.elir import Elir
from elir_trt.training.data import Crops
from elir_trt.training.degrade import camera


def to_tensor(images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Tensor:
    """``[N, H, W, 3]`` uint8 to ``[N, 3, H, W]`` in [0, 1], channels last in memory."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(255.0)


class Average:
    """Exponential moving average of a model's weights."""

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards ``model``; faster in the beginning, when the average is still of the random start."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        mine, theirs = list(self.model.parameters()), list(model.parameters())
        torch._foreach_lerp_(mine, theirs, 1 - decay)


def save_checkpoint(model: Elir, path: Path) -> None:
    """Write the published layout, whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    torch.save({key: value.contiguous() for key, value in model.state_dict().items()}, temporary)
    os.replace(temporary, path)


def pretrain(
    model: Elir,
    crops: Crops,
    out: Path,
    *,
    budget_s: float,
    batch: int = 16,
    size: int = 96,
    rate: float = 1e-3,
    clean_share: float = 0.25,
    every_s: float = 120.0,
) -> Elir:
    """Train for ``budget_s`` seconds; the learning rate follows a cosine over that time.

    Writes ``pretrained.pth`` and ``pretrain.jsonl`` into ``out`` every ``every_s`` seconds.

    Returns:
        The averaged model.
    """
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parts = [model.enc, model.mmse, model.dec]
    parameters = [p for part in parts for p in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.99), weight_decay=1e-4)
    average = Average(model)
    began = written = time.monotonic()
    sums, count, step = np.zeros(2), 0, 0
    clean_count = max(1, round(batch * clean_share))
    while (elapsed := time.monotonic() - began) < budget_s:
        progress = elapsed / budget_s
        warm = min(1.0, (step + 1) / 200)
        for group in optimizer.param_groups:
            group["lr"] = warm * (1e-6 + rate * 0.5 * (1 + math.cos(math.pi * progress)))
        clean = crops.batch(batch, size)
        degraded = np.stack([camera(image, crops.rng) for image in clean])
        x = to_tensor(clean).contiguous(memory_format=torch.channels_last)
        y = to_tensor(degraded).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            z = model.enc(torch.cat([y, x[:clean_count]]))
            restored = model.dec(torch.cat([model.mmse(z[:batch]), z[batch:]]))
        restored_loss = F.l1_loss(restored[:batch].float(), x)
        clean_loss = F.l1_loss(restored[batch:].float(), x[:clean_count])
        loss = restored_loss + 0.3 * clean_loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        average.update(model)
        step += 1
        sums += (float(restored_loss.detach()), float(clean_loss.detach()))
        count += 1
        if time.monotonic() - written > every_s:
            written = time.monotonic()
            save_checkpoint(average.model, out / "pretrained.pth")
            line = {"step": step, "seconds": round(elapsed, 1), "l1": sums[0] / count, "l1_clean": sums[1] / count}
            with (out / "pretrain.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            sums, count = np.zeros(2), 0
    save_checkpoint(average.model, out / "pretrained.pth")
    return average.model
