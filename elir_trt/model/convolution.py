"""The 3x3 convolution that training may over-parametrise.

Training in the reference replaces a 3x3 convolution by a wider 3x3 followed by a 1x1, with nothing between
them; the pair is one linear map and collapses exactly (see :func:`elir_trt.model.checkpoint.collapse`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: How much wider the 3x3 convolution of an over-parametrised pair is.
EXPANSION = 4


def conv_layers(inputs: int, outputs: int, overparametrised: bool) -> list[nn.Module]:
    """Return one 3x3 convolution, or the pair that stands for it in training."""
    if not overparametrised:
        return [nn.Conv2d(inputs, outputs, 3, padding=1)]
    return [
        nn.Conv2d(inputs, EXPANSION * outputs, 3, padding=1),
        nn.Conv2d(EXPANSION * outputs, outputs, 1),
    ]


def merge_pointwise(weight: Tensor, bias: Tensor, matrix: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Merge a convolution and the 1x1 convolution after it into one.

    ``W = W2 @ W1`` and ``b = W2 @ b1 + b2``, computed in float64: exact up to rounding to float32.

    Args:
        weight, bias: of the first: ``[middle, inputs, height, width]`` and ``[middle]``.
        matrix, offset: of the second: ``[outputs, middle, 1, 1]`` and ``[outputs]``.

    Returns:
        weight ``[outputs, inputs, height, width]`` and bias ``[outputs]``, in float32.
    """
    product = matrix[:, :, 0, 0].double()
    product_weight = torch.einsum("oc,cikl->oikl", product, weight.double())
    return product_weight.float(), (product @ bias.double() + offset.double()).float()


def merged(first: nn.Conv2d, second: nn.Conv2d) -> nn.Conv2d:
    """One convolution that equals ``first``, of stride 1, and then ``second``, which is 1x1."""
    assert first.bias is not None and second.bias is not None and first.stride == (1, 1)
    with torch.no_grad():
        weight, bias = merge_pointwise(first.weight, first.bias, second.weight, second.bias)
        height, width = weight.shape[2:]
        result = nn.Conv2d(
            first.in_channels,
            second.out_channels,
            (height, width),
            padding=first.padding,  # type: ignore[arg-type]
        )
        result.weight.copy_(weight)
        assert result.bias is not None
        result.bias.copy_(bias)
    return result
