"""The weights that a training gives: averages over its steps."""

from __future__ import annotations

import copy

import torch

from elir_trt.model.elir import Elir


class Average:
    """Exponential moving average of a model's weights."""

    def __init__(self, model: Elir, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: Elir) -> None:
        """Move towards ``model``; faster in the beginning, when the average is still of the random start."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
