"""The four parts: their names, their tensors and the shapes of those."""

from __future__ import annotations

from collections.abc import Mapping

from elir_trt.recipe import Architecture

#: In the order in which a frame meets them.
PARTS = ("encoder", "coarse", "velocity", "decoder")

#: The engine of frames without steps, where there is one: these parts in one, with nothing between them.
DIRECT = "direct"
DIRECT_PARTS = ("encoder", "coarse", "decoder")

#: Inputs and output of each part, and of the engine of frames without steps.
TENSORS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "encoder": (("image",), "encoded"),
    "coarse": (("encoded",), "coarse"),
    "velocity": (("latent", "condition"), "velocity"),
    "decoder": (("latent",), "decoded"),
    DIRECT: (("image",), "decoded"),
}


def part_shapes(
    architecture: Architecture, size: tuple[int, int], condition_width: int, batch: int = 1
) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors of the parts, for an encoder input of ``size`` (height, width) pixels."""
    height, width = size
    image = (batch, 3, height, width)
    latent = (
        batch,
        architecture.latent_channels,
        height // architecture.downscale,
        width // architecture.downscale,
    )
    return {
        "image": image,
        "encoded": latent,
        "coarse": latent,
        "latent": latent,
        "condition": (1, condition_width),
        "velocity": latent,
        "decoded": image,
    }
