"""The four parts: their names, their tensors and the shapes of those."""

from __future__ import annotations

from collections.abc import Mapping

from elir_trt.recipe import Architecture

#: In the order in which a frame meets them.
PARTS = ("encoder", "coarse", "velocity", "decoder")

#: The engine of frames without steps, where there is one: these parts in one, with nothing between them.
DIRECT = "direct"
DIRECT_PARTS = ("encoder", "coarse", "decoder")

#: What each part gives, and the engine of frames without steps.
OUTPUTS: Mapping[str, str] = {
    "encoder": "encoded",
    "coarse": "coarse",
    "velocity": "velocity",
    "decoder": "decoded",
    DIRECT: "decoded",
}
_INPUTS: Mapping[str, tuple[str, ...]] = {
    "encoder": ("image",),
    "coarse": ("encoded",),
    "velocity": ("latent", "condition"),
    "decoder": ("latent",),
    DIRECT: ("image",),
}


def part_tensors(part: str, architecture: Architecture) -> tuple[tuple[str, ...], str]:
    """The names of a part's inputs and of its output; a decoder with a skip takes the image as well.

    An image stays in its tensor until the next one is encoded.
    """
    inputs = _INPUTS[part]
    if part == "decoder" and architecture.skip != "none":
        inputs = (*inputs, "image")
    return inputs, OUTPUTS[part]


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
