"""Encoder and decoder: the architecture of TAESD, with widths and depths per level.

Source: Ollin Boer Bohan's TAESD (the published ELIR models use the shape of TAESD3: 16 latent channels).
``unshuffle`` is this project's addition for restorers that must run fast: the first convolution sees
``unshuffle`` x ``unshuffle`` pixels as channels, and the last one writes them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elir_trt.recipe import AutoencoderSpec

#: Latents enter the decoder through ``LATENT_RANGE * tanh(z / LATENT_RANGE)``.
LATENT_RANGE = 3.0
#: A gate is ``sigmoid(GATE_SLOPE * y + GATE_START)`` of what its convolution gives: at first all but closed (0.7 %),
#: and steep, so that it opens in hundreds of steps of a usual learning rate.
GATE_SLOPE, GATE_START = 16.0, -5.0


def conv3x3(inputs: int, outputs: int, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    """A 3x3 convolution with padding 1."""
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=bias)


class Block(nn.Module):
    """Three 3x3 convolutions with a residual: ``relu(conv(relu(conv(relu(conv(x))))) + x)``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            conv3x3(channels, channels),
            nn.ReLU(),
            conv3x3(channels, channels),
            nn.ReLU(),
            conv3x3(channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to the same shape."""
        return F.relu(self.conv(x) + x)


class Encoder(nn.Module):
    """Image ``[N, 3, H, W]`` in [0, 1] to latent ``[N, latent_channels, H / downscale, W / downscale]``."""

    def __init__(self, spec: AutoencoderSpec, latent_channels: int) -> None:
        super().__init__()
        self.unshuffle = spec.unshuffle
        layers: list[nn.Module] = [conv3x3(3 * spec.unshuffle**2, spec.widths[0])]
        layers += _blocks(spec.widths[0], spec.blocks[0])
        for previous, width, blocks in zip(spec.widths, spec.widths[1:], spec.blocks[1:], strict=False):
            layers.append(conv3x3(previous, width, stride=2, bias=False))
            layers += _blocks(width, blocks)
        layers.append(conv3x3(spec.widths[-1], latent_channels))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Encode ``x``; height and width must be multiples of the downscale."""
        if self.unshuffle > 1:
            x = F.pixel_unshuffle(x, self.unshuffle)
        return self.layers(x)  # type: ignore[no-any-return]


def fold_unshuffle(conv: nn.Conv2d, unshuffle: int) -> nn.Conv2d:
    """Return the strided convolution on pixels that equals ``conv`` on unshuffled pixels.

    A 3x3 kernel over r x r pixels folded into channels is a 3r x 3r kernel with stride r and padding r: the same
    numbers in another order, without the reshapes.
    """
    outputs, inputs = conv.out_channels, conv.in_channels // unshuffle**2
    result = nn.Conv2d(inputs, outputs, 3 * unshuffle, stride=unshuffle, padding=unshuffle)
    with torch.no_grad():
        taps = conv.weight.reshape(outputs, inputs, unshuffle, unshuffle, 3, 3).permute(0, 1, 4, 2, 5, 3)
        result.weight.copy_(taps.reshape(outputs, inputs, 3 * unshuffle, 3 * unshuffle))
        assert conv.bias is not None and result.bias is not None
        result.bias.copy_(conv.bias)
    return result


class UpsampleConv(nn.Conv2d):
    """Nearest upsampling by 2 and a 3x3 convolution, or the same map as one 4x4 transposed convolution.

    Nearest upsampling repeats every pixel, so the 3x3 kernel falls on 2x2 distinct pixels per output phase;
    summing the taps that fall together gives a transposed convolution with kernel 4, stride 2, padding 1:
    4/9 of the multiplications. The two differ by rounding only.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to ``[N, C', 2H, 2W]``."""
        return super().forward(F.interpolate(x, scale_factor=2.0, mode="nearest"))

    def as_transposed(self) -> nn.ConvTranspose2d:
        """Return the equal 4x4 transposed convolution with stride 2."""
        # 1-D case per axis: output 2i sees x[i-1] through tap 0 and x[i] through taps 1 and 2; output 2i+1
        # sees x[i] through taps 0 and 1 and x[i+1] through tap 2. A transposed convolution with padding 1
        # sends x[i] to outputs 2i-1 .. 2i+2 through its taps 0 .. 3.
        fold = torch.tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], dtype=self.weight.dtype)
        with torch.no_grad():
            kernel = torch.einsum("ya,xb,oiab->ioyx", fold, fold, self.weight.cpu())
            result = nn.ConvTranspose2d(
                self.in_channels, self.out_channels, 4, stride=2, padding=1, bias=False
            )
            result.weight.copy_(kernel)
        return result.to(self.weight.device)


class Decoder(nn.Module):
    """Latent ``[N, latent_channels, h, w]`` to image ``[N, 3, h * downscale, w * downscale]``, not clipped.

    With ``skip`` the decoder takes the degraded image as well, so that detail has a way around the latent. The image
    enters twice: projected patch by patch onto the first features, and at the end, where a gate from 0 to 1 for each
    sample says how much of it is right: ``decoded + gate * (image - decoded)``. Both begin at zero, which leaves the
    gate all but closed. A gate without bounds lets a little of the noise through wherever it misses zero.
    """

    def __init__(self, spec: AutoencoderSpec, latent_channels: int, skip: bool = False) -> None:
        super().__init__()
        self.unshuffle = spec.unshuffle
        self.downscale = spec.downscale
        widths, depths = tuple(reversed(spec.widths)), tuple(reversed(spec.blocks))
        layers: list[nn.Module] = [conv3x3(latent_channels, widths[0]), nn.ReLU()]
        for width, following, blocks in zip(widths, widths[1:], depths, strict=False):
            layers += [*_blocks(width, blocks), nn.Identity(), UpsampleConv(width, following)]
        layers += [*_blocks(widths[-1], depths[-1]), conv3x3(widths[-1], 3 * spec.unshuffle**2)]
        self.layers = nn.Sequential(*layers)
        self.entry: nn.Conv2d | None = None
        self.gate: nn.Conv2d | None = None
        if skip:
            self.entry = nn.Conv2d(3 * spec.downscale**2, widths[0], 1, bias=False)
            self.gate = nn.Conv2d(widths[-1], 3 * spec.unshuffle**2, 1)
            for parameter in (self.entry.weight, self.gate.weight, self.gate.bias):
                assert parameter is not None
                nn.init.zeros_(parameter)

    def forward(self, z: Tensor, image: Tensor | None = None) -> Tensor:
        """Decode ``z``.

        Args:
            z: the latent.
            image: what the encoder was given, ``[N, 3, H, W]``; only a decoder with a skip looks at it.

        Raises:
            ValueError: the decoder has a skip and there is no image.
        """
        z = LATENT_RANGE * torch.tanh(z / LATENT_RANGE)
        if self.entry is None or self.gate is None:
            return self._to_pixels(self.layers(z))
        if image is None:
            raise ValueError("image is None; a decoder with a skip needs what the encoder was given")
        first, *middle, head = self.layers
        features: Tensor = first(z) + self.entry(F.pixel_unshuffle(image, self.downscale))
        for layer in middle:
            features = layer(features)
        decoded, gate = self._to_pixels(head(features)), self._to_pixels(self.gate(features))
        return decoded + torch.sigmoid(GATE_SLOPE * gate + GATE_START) * (image - decoded)

    def _to_pixels(self, y: Tensor) -> Tensor:
        return F.pixel_shuffle(y, self.unshuffle) if self.unshuffle > 1 else y


def _blocks(channels: int, count: int) -> Sequence[nn.Module]:
    return [Block(channels) for _ in range(count)]
