"""The parts as engines run them: folded for speed, equal up to rounding."""

from __future__ import annotations

import copy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elir_trt.model.autoencoder import (
    GATE_SLOPE,
    GATE_START,
    LATENT_RANGE,
    Decoder,
    UpsampleConv,
    fold_unshuffle,
)
from elir_trt.model.elir import Elir
from elir_trt.model.velocity import Velocity
from elir_trt.parts import PARTS


class _VelocityPart(nn.Module):
    def __init__(self, velocity: Velocity) -> None:
        super().__init__()
        self.velocity = velocity

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        return self.velocity.forward_conditioned(latent, condition)


class _GatedDecoderPart(nn.Module):
    """A decoder with a skip: the projection of patches is a strided convolution, and the gate has its constants."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        assert decoder.entry is not None and decoder.gate is not None
        self.first, *middle, self.head = decoder.layers
        self.middle = nn.Sequential(*middle)
        self.unshuffle = decoder.unshuffle
        self.entry = _patch_projection(decoder.entry, decoder.downscale)
        self.gate = decoder.gate
        assert self.gate.bias is not None
        with torch.no_grad():
            self.gate.weight.mul_(GATE_SLOPE)
            self.gate.bias.mul_(GATE_SLOPE).add_(GATE_START)

    def forward(self, latent: Tensor, image: Tensor) -> Tensor:
        latent = LATENT_RANGE * torch.tanh(latent / LATENT_RANGE)
        features = self.middle(self.first(latent) + self.entry(image))
        decoded, gate = self.head(features), torch.sigmoid(self.gate(features))
        if self.unshuffle > 1:
            # Each by itself: no backend splits what came out of one shuffle for nothing.
            decoded, gate = (F.pixel_shuffle(written, self.unshuffle) for written in (decoded, gate))
        blended: Tensor = decoded + gate * (image - decoded)
        return blended


def _patch_projection(projection: nn.Conv2d, size: int) -> nn.Conv2d:
    """The strided convolution on pixels that equals a 1x1 convolution on patches of ``size`` x ``size`` pixels."""
    channels = projection.in_channels // size**2
    result = nn.Conv2d(channels, projection.out_channels, size, stride=size, bias=False)
    with torch.no_grad():
        result.weight.copy_(projection.weight.reshape(result.weight.shape))
    return result


def part_module(model: Elir, part: str) -> nn.Module:
    """The module that an engine of ``part`` runs, as a copy.

    Folded for speed, equal up to rounding: the encoder's unshuffling into its first convolution, the decoder's
    upsampling into transposed convolutions and what its skip takes of patches into a strided one, the velocity's last
    projection into the convolution before it.
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
        return decoder if decoder.entry is None else _GatedDecoderPart(decoder)
    raise ValueError(f"part is {part!r}; expected one of {', '.join(PARTS)}")
