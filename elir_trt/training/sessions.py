"""Where a training ran, piece by piece: the machine, the type that it computed in, and for how long."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from elir_trt.cpu import cpu_model

#: Times that a step is measured in each type, after one that is not counted.
_ROUNDS = 2


@dataclass
class Session:
    """One piece of a training, from its start or a resume to its end or the next one.

    Attributes:
        device: name of the CPU or the GPU.
        dtype: what convolutions compute in: "bfloat16" or "float32".
        torch: version of PyTorch.
        threads: of PyTorch on the CPU.
        step: that it began with.
        steps: that it took.
        minutes: of wall-clock time.
        measured_ms: what a step on a few crops took in either type, where this decided.
    """

    device: str
    dtype: str
    torch: str
    threads: int
    step: int
    steps: int = 0
    minutes: float = 0.0
    measured_ms: dict[str, float] | None = None

    def told(self) -> str:
        """In one line."""
        text = f"{self.dtype} on {self.device}, {self.threads} threads, from step {self.step}"
        if self.measured_ms:
            times = ", ".join(f"{dtype} {ms:.0f} ms" for dtype, ms in self.measured_ms.items())
            text += f" (measured on a few crops: {times})"
        return text


def device_name(device: torch.device) -> str:
    """Name of a CPU or a GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_model()


def measured_ms(losses: Callable[[bool], Tensor]) -> dict[str, float]:
    """Milliseconds of a step's losses and gradients in each type, in turns; the least of two.

    Some CPUs report bfloat16 that they compute twice as slowly as float32. Random numbers that are drawn meanwhile
    are drawn again afterwards.

    Args:
        losses: makes the loss, with (True) or without (False) bfloat16.
    """
    found: dict[str, float] = {}
    with torch.random.fork_rng(devices=[]):
        for turn in range(_ROUNDS + 1):
            for autocast in (True, False):
                began = time.perf_counter()
                losses(autocast).backward()  # type: ignore[no-untyped-call]
                ms = 1e3 * (time.perf_counter() - began)
                name = dtype_name(autocast)
                if turn:
                    found[name] = min(found.get(name, ms), ms)
    return found


def dtype_name(autocast: bool) -> str:
    """What convolutions compute in."""
    return "bfloat16" if autocast else "float32"
