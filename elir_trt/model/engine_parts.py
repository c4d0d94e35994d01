"""The parts as engines run them: folded for speed, equal up to rounding."""

from __future__ import annotations

import copy
from typing import cast

from torch import Tensor, nn

from elir_trt.model.autoencoder import UpsampleConv, fold_unshuffle
from elir_trt.model.elir import Elir
from elir_trt.model.velocity import Velocity
from elir_trt.parts import PARTS


class _VelocityPart(nn.Module):
    def __init__(self, velocity: Velocity) -> None:
        super().__init__()
        self.velocity = velocity

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        return self.velocity.forward_conditioned(latent, condition)


def part_module(model: Elir, part: str) -> nn.Module:
    """The module that an engine of ``part`` runs, as a copy.

    Folded for speed, equal up to rounding: the encoder's unshuffling into its first convolution, the decoder's
    upsampling into transposed convolutions, the velocity's last projection into the convolution before it.
    """
    if part == "encoder":
        encoder = copy.deepcopy(model.enc)
        if encoder.unshuffle > 1:
            encoder.layers[0] = fold_unshuffle(cast(nn.Conv2d, encoder.layers[0]), encoder.unshuffle)
            encoder.unshuffle = 1
        return encoder
    if part == "coarse":
        return copy.deepcopy(model.mmse)
    if part == "velocity":
        velocity = copy.deepcopy(model.fmir)
        velocity.merge_projection()
        return _VelocityPart(velocity)
    if part == "decoder":
        decoder = copy.deepcopy(model.dec)
        for index, layer in enumerate(decoder.layers):
            if isinstance(layer, UpsampleConv):
                decoder.layers[index] = layer.as_transposed()
        return decoder
    raise ValueError(f"part is {part!r}; expected one of {', '.join(PARTS)}")
