"""The coarse estimator: an RRDBNet on the latent (Wang et al., "ESRGAN", 2018), with SiLU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from elir_trt.model.convolution import conv_layers
from elir_trt.recipe import CoarseSpec

#: Residual scaling of dense blocks and of the blocks made of them.
RESIDUAL_SCALE = 0.2


class _Conv(nn.Module):
    def __init__(self, inputs: int, outputs: int, overparametrised: bool, *, activation: bool) -> None:
        super().__init__()
        layers = conv_layers(inputs, outputs, overparametrised)
        self.block = nn.Sequential(*layers, *([nn.SiLU()] if activation else []))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)  # type: ignore[no-any-return]


class DenseBlock(nn.Module):
    """Five 3x3 convolutions, each seeing the input and all earlier outputs; ``0.2 * conv5 + x``."""

    def __init__(self, channels: int, growth: int, overparametrised: bool) -> None:
        super().__init__()
        for index in range(4):
            conv = _Conv(channels + index * growth, growth, overparametrised, activation=True)
            setattr(self, f"conv{index + 1}", conv)
        self.conv5 = _Conv(channels + 4 * growth, channels, overparametrised, activation=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C, h, w]`` to the same shape."""
        seen = [x]
        for index in range(4):
            seen.append(getattr(self, f"conv{index + 1}")(torch.cat(seen, dim=1)))
        residual: Tensor = self.conv5(torch.cat(seen, dim=1))
        return RESIDUAL_SCALE * residual + x


class ResidualDenseBlock(nn.Module):
    """Three dense blocks in a row; ``0.2 * that + x``."""

    def __init__(self, channels: int, growth: int, overparametrised: bool) -> None:
        super().__init__()
        self.RDB1 = DenseBlock(channels, growth, overparametrised)
        self.RDB2 = DenseBlock(channels, growth, overparametrised)
        self.RDB3 = DenseBlock(channels, growth, overparametrised)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C, h, w]`` to the same shape."""
        residual: Tensor = self.RDB3(self.RDB2(self.RDB1(x)))
        return RESIDUAL_SCALE * residual + x


class Coarse(nn.Module):
    """Encoded latent ``[N, C, h, w]`` to the coarse estimate of the clean latent, same shape."""

    def __init__(self, latent_channels: int, spec: CoarseSpec, overparametrised: bool = False) -> None:
        super().__init__()
        self.lrm = nn.Sequential(
            *(ResidualDenseBlock(latent_channels, spec.growth, overparametrised) for _ in range(spec.blocks))
        )

    def forward(self, z: Tensor) -> Tensor:
        """Estimate the clean latent."""
        residual: Tensor = self.lrm(z)
        return residual + z
