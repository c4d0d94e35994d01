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
    """A decoder with a skip: patches are projected by a strided convolution, and one head writes pixels and gates."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        assert decoder.entry is not None and decoder.gate is not None
        first, *middle, head = decoder.layers
        self.unshuffle = decoder.unshuffle
        self.first, self.middle = first, nn.Sequential(*middle)
        self.entry = _patch_projection(decoder.entry, decoder.downscale)
        self.head = _joined_heads(cast(nn.Conv2d, head), decoder.gate)

    def forward(self, latent: Tensor, image: Tensor) -> Tensor:
        latent = LATENT_RANGE * torch.tanh(latent / LATENT_RANGE)
        written = self.head(self.middle(self.first(latent) + self.entry(image)))
        if self.unshuffle > 1:
            written = F.pixel_shuffle(written, self.unshuffle)
        decoded, gate = written.chunk(2, dim=1)
        blended: Tensor = decoded + torch.sigmoid(gate) * (image - decoded)
        return blended


def _patch_projection(projection: nn.Conv2d, size: int) -> nn.Conv2d:
    """The strided convolution on pixels that equals a 1x1 convolution on patches of ``size`` x ``size`` pixels."""
    channels = projection.in_channels // size**2
    result = nn.Conv2d(channels, projection.out_channels, size, stride=size, bias=False)
    with torch.no_grad():
        result.weight.copy_(projection.weight.reshape(result.weight.shape))
    return result


def _joined_heads(head: nn.Conv2d, gate: nn.Conv2d) -> nn.Conv2d:
    """One 3x3 convolution that gives what ``head`` (3x3) gives, and then what the gate's sigmoid is given."""
    result = nn.Conv2d(head.in_channels, head.out_channels + gate.out_channels, 3, padding=1)
    assert head.bias is not None and gate.bias is not None and result.bias is not None
    with torch.no_grad():
        result.weight.copy_(torch.cat([head.weight, GATE_SLOPE * F.pad(gate.weight, (1, 1, 1, 1))]))
        result.bias.copy_(torch.cat([head.bias, GATE_SLOPE * gate.bias + GATE_START]))
    return result


def part_module(model: Elir, part: str) -> nn.Module:
    """The module that an engine of ``part`` runs, as a copy.

    Folded for speed, equal up to rounding: the encoder's unshuffling into its first convolution, the decoder's
    upsampling into transposed convolutions and its skip into two convolutions, the velocity's last projection into
    the convolution before it.
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
