"""The velocity field: a convolutional U-Net on the latent, conditioned on time.

All that depends on time alone (its embedding, the time MLP, each block's projection) takes only as many values
as there are steps. :meth:`Velocity.condition` computes it once, as one row of numbers per time;
:meth:`Velocity.forward_conditioned` is what an engine runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elir_trt.model.convolution import conv_layers, merged
from elir_trt.recipe import VelocitySpec

#: Channel multiplier of each level; a multiplier other than 1 also halves the resolution.
MULTIPLIERS = (1, 2, 1, 2)
GROUPS = 32
TIME_WIDTH = 640


def time_embedding(t: Tensor, features: int) -> Tensor:
    """Sinusoidal embedding of times in [0, 1]: ``[N]`` to ``[N, features]``, cosines first.

    Frequencies are ``exp(-i * ln(10000) / (half - 1))`` on ``1000 * t`` (Ho et al., "DDPM", 2020).
    """
    half = features // 2
    index = torch.arange(half, dtype=torch.float32, device=t.device)
    angle = 1000.0 * t.float()[:, None] * torch.exp(index * (-math.log(10000.0) / (half - 1)))[None, :]
    return torch.cat([torch.cos(angle), torch.sin(angle)], dim=1)


class _TimeMlp(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(features, TIME_WIDTH)
        self.linear2 = nn.Linear(TIME_WIDTH, TIME_WIDTH)

    def forward(self, embedding: Tensor) -> Tensor:
        embedding = embedding.to(self.linear1.weight.dtype)
        return self.linear2(F.silu(self.linear1(embedding)))  # type: ignore[no-any-return]


class _Normed(nn.Module):
    """GroupNorm, SiLU, 3x3 convolution."""

    def __init__(self, inputs: int, outputs: int, overparametrised: bool) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.GroupNorm(GROUPS, inputs), nn.SiLU(), *conv_layers(inputs, outputs, overparametrised)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)  # type: ignore[no-any-return]


class ResidualBlock(nn.Module):
    """Two normed convolutions with the time's projection between them, and a 1x1 shortcut."""

    def __init__(self, inputs: int, outputs: int, overparametrised: bool) -> None:
        super().__init__()
        self.outputs = outputs
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(TIME_WIDTH, outputs))
        self.block1 = _Normed(inputs, outputs, overparametrised)
        self.block2 = _Normed(outputs, outputs, overparametrised)
        self.conv2d = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, projection: Tensor) -> Tensor:
        """Map ``[N, inputs, h, w]`` and the projected time ``[N or 1, outputs, 1, 1]`` to ``[N, outputs, h, w]``."""
        h = self.block1(x) + projection
        return self.block2(h) + self.conv2d(x)  # type: ignore[no-any-return]


class _Downsample(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)  # type: ignore[no-any-return]


class _Upsample(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convtr = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.convtr(x)  # type: ignore[no-any-return]


class Velocity(nn.Module):
    """Latent ``[N, C, h, w]`` at time t to its velocity, same shape; h and w must be multiples of 4."""

    def __init__(self, latent_channels: int, spec: VelocitySpec, overparametrised: bool = False) -> None:
        super().__init__()
        self.time_features = spec.time_features
        self.time_mlp = _TimeMlp(spec.time_features)
        self.first_proj = nn.Conv2d(latent_channels, spec.hidden, 1)
        self.down_blocks = nn.ModuleList()
        self.mid_blocks = nn.ModuleList()
        self.up_blocks = nn.ModuleList()
        channels = spec.hidden
        for multiplier in MULTIPLIERS:
            level = [ResidualBlock(channels, channels, overparametrised)]
            narrow, channels = channels, channels * multiplier
            resample = _Downsample(narrow, channels) if multiplier != 1 else nn.Identity()
            self.down_blocks.append(nn.ModuleList([*level, resample]))
        for _ in range(spec.middle):
            self.mid_blocks.append(ResidualBlock(channels, channels, overparametrised))
        for multiplier in reversed(MULTIPLIERS):
            wide, channels = channels, channels // multiplier
            up = _Upsample(wide, channels) if multiplier != 1 else nn.Identity()
            block = ResidualBlock(2 * channels, channels, overparametrised)
            self.up_blocks.append(nn.ModuleList([up, block]))
        self.final_block = _Normed(spec.hidden, spec.hidden, overparametrised)
        self.final_proj = nn.Conv2d(spec.hidden, latent_channels, 1)

    def residual_blocks(self) -> Iterator[ResidualBlock]:
        """Yield the time-conditioned blocks in the order in which they run."""
        for level in self.down_blocks:
            yield cast(ResidualBlock, cast(nn.ModuleList, level)[0])
        for block in self.mid_blocks:
            yield cast(ResidualBlock, block)
        for level in self.up_blocks:
            yield cast(ResidualBlock, cast(nn.ModuleList, level)[1])

    @property
    def condition_width(self) -> int:
        """The length of one conditioning row: the sum of the blocks' output channels."""
        return sum(block.outputs for block in self.residual_blocks())

    def condition(self, t: Tensor) -> Tensor:
        """Conditioning rows ``[N, condition_width]`` of the times ``t`` ``[N]`` in [0, 1]."""
        time = self.time_mlp(time_embedding(t, self.time_features))
        return torch.cat([block.mlp(time) for block in self.residual_blocks()], dim=1)

    def forward_conditioned(self, z: Tensor, condition: Tensor) -> Tensor:
        """The velocity of ``z``, given the conditioning row(s) ``[N or 1, condition_width]``."""
        widths = [block.outputs for block in self.residual_blocks()]
        # Reshaped before it is split: one kernel then slices for all blocks, where each block had its own.
        projections = iter(torch.split(condition[:, :, None, None], widths, dim=1))
        x = self.first_proj(z)
        skips = []
        for level in self.down_blocks:
            block, resample = cast(nn.ModuleList, level)
            x = block(x, next(projections))
            skips.append(x)
            x = resample(x)
        for block in self.mid_blocks:
            x = block(x, next(projections))
        for level in self.up_blocks:
            resample, block = cast(nn.ModuleList, level)
            x = block(torch.cat([resample(x), skips.pop()], dim=1), next(projections))
        return self.final_proj(self.final_block(x))  # type: ignore[no-any-return]

    def merge_projection(self) -> None:
        """Merge the last two convolutions, which have nothing between them, into one: for running, not training."""
        block = self.final_block.block
        self.final_proj = merged(cast(nn.Conv2d, block[-1]), self.final_proj)
        block[-1] = nn.Identity()

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        """The velocity of ``z`` at the times ``t`` ``[N]``."""
        return self.forward_conditioned(z, self.condition(t))
