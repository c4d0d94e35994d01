"""The 3x3 convolution that training may over-parametrise.

Training in the reference replaces a 3x3 convolution by a wider 3x3 followed by a 1x1, with nothing between
them; the pair is one linear map and collapses exactly (see :func:`elir_trt.model.checkpoint.collapse`).
"""

from __future__ import annotations

from torch import nn

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
