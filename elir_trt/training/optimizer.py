"""The optimizer of the restorer's training: Muon for the kernels of convolutions, AdamW for all else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

#: Kernels with fewer inputs or outputs than this stay with AdamW: first and last layers.
NARROWEST = 16
#: Of every parameter.
WEIGHT_DECAY = 1e-4


def adamw(parameters: Iterable[nn.Parameter], rate: float) -> torch.optim.AdamW:
    """AdamW as all trainings use it."""
    return torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.99), weight_decay=WEIGHT_DECAY)


class MuonWithAdamW:
    """Muon (Jordan et al., 2024) on kernels as matrices, one row per output; AdamW on the other parameters.

    Both follow the learning rate of ``param_groups``: updates are scaled to be about as long as AdamW's (Liu et al.,
    "Muon is Scalable for LLM Training", 2025).
    """

    def __init__(self, parameters: Sequence[nn.Parameter], rate: float) -> None:
        self.kernels = [p for p in parameters if _is_kernel(p)]
        self.adamw = adamw([p for p in parameters if not _is_kernel(p)], rate)
        # torch's takes matrices alone: it has copies of the kernels, which go back after each step.
        self.matrices = [nn.Parameter(p.detach().flatten(1).clone()) for p in self.kernels]
        self.muon = torch.optim.Muon(
            self.matrices, lr=rate, weight_decay=WEIGHT_DECAY, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        )

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of both."""
        return [*self.adamw.param_groups, *self.muon.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for kernel in self.kernels:
            kernel.grad = None
        self.adamw.zero_grad(set_to_none)

    @torch.no_grad()
    def step(self) -> None:
        """Take one step with the gradients that the parameters have."""
        for kernel, matrix in zip(self.kernels, self.matrices, strict=True):
            matrix.copy_(kernel.flatten(1))
            matrix.grad = None if kernel.grad is None else kernel.grad.flatten(1)
        self.muon.step()  # type: ignore[no-untyped-call]
        for kernel, matrix in zip(self.kernels, self.matrices, strict=True):
            kernel.copy_(matrix.view(kernel.shape))
        self.adamw.step()

    def state_dict(self) -> dict[str, Any]:
        """The state of both."""
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.muon.load_state_dict(state["muon"])
        self.adamw.load_state_dict(state["adamw"])


def _is_kernel(parameter: nn.Parameter) -> bool:
    return parameter.ndim == 4 and min(parameter.shape[:2]) >= NARROWEST
