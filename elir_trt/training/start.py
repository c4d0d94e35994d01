"""Where a training starts: weights with which the untrained model already returns its input.

A restorer learns faster from the identity than from noise. The encoder's first convolution projects each patch of
``unshuffle`` x ``unshuffle`` pixels on its leading principal components, of which there are as many as the latent has
channels; every component goes through the ReLUs twice, as itself and negated (Shang et al., "Understanding and
Improving Convolutional Neural Networks via Concatenated Rectified Linear Units", ICML 2016); residual branches begin
at zero; the decoder's last convolution is the projection's transpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from elir_trt.model.autoencoder import Block, Decoder, Encoder
from elir_trt.model.coarse import RESIDUAL_SCALE, DenseBlock
from elir_trt.model.elir import Elir
from elir_trt.recipe import Architecture

#: Standard deviation of the strongest component of the latent: the decoder's tanh is nearly linear there.
LATENT_DEVIATION = 0.5


def principal_components(crops: npt.NDArray[np.uint8], unshuffle: int) -> tuple[Tensor, Tensor, Tensor]:
    """Principal components of the patches of crops ``[N, H, W, 3]``.

    Returns:
        the mean ``[3 r r]``, the orthonormal components ``[3 r r, 3 r r]`` as rows, the most important one first, and
        the standard deviations along them, for pixels in [0, 1] in the channel order of ``pixel_unshuffle``.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(crops)).permute(0, 3, 1, 2).float() / 255.0
    patches = nn.functional.pixel_unshuffle(pixels, unshuffle).permute(0, 2, 3, 1).flatten(0, 2).double()
    mean = patches.mean(dim=0)
    values, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    return mean.float(), vectors.T.flip(0).float(), values.flip(0).clamp(min=0.0).sqrt().float()


def can_start_as_identity(model: Elir) -> bool:
    """Whether the architecture can: one level, and room for every component and its negative."""
    spec = model.architecture.autoencoder
    channels = model.architecture.latent_channels
    return len(spec.widths) == 1 and channels <= 3 * spec.unshuffle**2 and spec.widths[0] >= 2 * channels


@torch.no_grad()
def start_as_identity(model: Elir, crops: npt.NDArray[np.uint8]) -> None:
    """Set a fresh model's encoder and decoder so that it returns its input, but for what the latent cannot hold.

    Args:
        model: with one level, see :func:`can_start_as_identity`.
        crops: clean images ``[N, H, W, 3]`` uint8 to take the components from.

    Raises:
        ValueError: the architecture has no room for that.
    """
    if not can_start_as_identity(model):
        raise ValueError("starting as the identity takes one level, at least twice as wide as the latent")
    channels = model.architecture.latent_channels
    mean, components, deviations = principal_components(crops, model.architecture.autoencoder.unshuffle)
    basis = components[:channels]
    scale = LATENT_DEVIATION / deviations[0]
    stem, last = _convolution(model.enc.layers[0]), _convolution(model.enc.layers[-1])
    first, head = _convolution(model.dec.layers[0]), _convolution(model.dec.layers[-1])
    stem_bias, head_bias = _zero_bias(stem), _zero_bias(head)
    _zero_bias(last)
    _zero_bias(first)
    both = slice(0, channels), slice(channels, 2 * channels)
    # With branches at zero, each residual-in-residual block multiplies by 1 + 0.2, and the coarse estimator adds
    # its input once more.
    eye = torch.eye(channels) / ((1.0 + RESIDUAL_SCALE) ** model.architecture.coarse.blocks + 1.0)
    used = 2 * channels
    stem.weight[:used] = 0.0
    first.weight[:used] = 0.0
    last.weight.zero_()
    head.weight.zero_()
    for sign, rows in zip((1.0, -1.0), both, strict=True):
        stem.weight[rows, :, 1, 1] += sign * scale * basis
        stem_bias[rows] -= sign * scale * (basis @ mean)
        last.weight[:, rows, 1, 1] += sign * eye
        first.weight[rows, :, 1, 1] += sign * torch.eye(channels)
        head.weight[:, rows, 1, 1] += sign * basis.T / scale
    head_bias += mean
    for module in model.modules():
        if isinstance(module, Block):
            _silence(module)
        elif isinstance(module, DenseBlock):
            for parameter in cast(nn.Module, module.conv5).parameters():
                parameter.zero_()


@torch.no_grad()
def deepened(state: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """Weights with the skip and as many blocks in encoder and decoder as an architecture of one level has.

    Further blocks come after the others, with a last convolution of zero: they return what they get, which is not
    negative, so that the weights still say the same.

    Args:
        state: weights by name. With another number of levels, or as many blocks or more, the blocks stay as they
            are. A skip that they lack is added with weights of zero.
        architecture: with at least one block, as ``state`` must have.
    """
    result = dict(state)
    spec = architecture.autoencoder
    if architecture.skip == "gated" and "dec.gate.weight" not in state:
        fresh_decoder = Decoder(spec, architecture.latent_channels, skip=True).state_dict()
        result.update({f"dec.{k}": v for k, v in fresh_decoder.items() if not k.startswith("layers.")})
    if len(spec.widths) != 1:
        return result
    for part, cls, before in (("enc", Encoder, 1), ("dec", Decoder, 2)):
        indices = {int(key.split(".")[2]) for key in state if key.startswith(f"{part}.layers.")}
        last = max(indices, default=0)
        present, wanted = last - before, spec.blocks[0]
        if not 0 < present < wanted:
            continue
        for name in ("weight", "bias"):
            result[f"{part}.layers.{before + wanted}.{name}"] = result.pop(f"{part}.layers.{last}.{name}")
        fresh = cls(spec, architecture.latent_channels).layers
        for index in range(last, before + wanted):
            block = fresh[index]
            assert isinstance(block, Block)
            _silence(block)
            result.update({f"{part}.layers.{index}.{name}": v for name, v in block.state_dict().items()})
    return result


def _silence(block: Block) -> None:
    branch = _convolution(block.conv[-1])
    branch.weight.zero_()
    _zero_bias(branch)


def _convolution(layer: nn.Module) -> nn.Conv2d:
    assert isinstance(layer, nn.Conv2d)
    return layer


def _zero_bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias.zero_()
