"""What each part is fed while frames go through the model: the data that quantization measures ranges on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from elir_trt.backends.base import Array, Run
from elir_trt.model.elir import Elir
from elir_trt.parts import part_tensors
from elir_trt.recipe import Recipe
from elir_trt.reference import euler_latents, noise_of, to_image
from elir_trt.samples import Image

Tensors = Mapping[str, Array]


def part_inputs(
    model: Elir, recipe: Recipe, frames: Sequence[Image], seed: int = 0
) -> dict[str, list[Tensors]]:
    """What each part is fed for these frames: the velocity at every step, the decoder before them and after."""
    found: dict[str, list[Tensors]] = {"encoder": [], "coarse": [], "velocity": [], "decoder": []}
    with torch.no_grad():
        times = torch.arange(recipe.steps) / recipe.steps
        rows = model.fmir.condition(times).numpy()
        for index, frame in enumerate(frames):
            image = to_image(frame)
            encoded = model.enc(torch.from_numpy(image))
            coarse = model.mmse(encoded).numpy()
            start = coarse + np.float32(recipe.sigma) * noise_of(coarse, seed, index)
            latents = list(euler_latents(_velocity_of(model), start, rows))
            found["encoder"].append({"image": image})
            found["coarse"].append({"encoded": encoded.numpy()})
            for k, latent in enumerate(latents[:-1]):
                found["velocity"].append({"latent": latent, "condition": rows[k : k + 1]})
            decoded: Tensors = {"latent": coarse if index % 2 else latents[-1], "image": image}
            names, _ = part_tensors("decoder", recipe.architecture)
            found["decoder"].append({name: decoded[name] for name in names})
    return found


def _velocity_of(model: Elir) -> Run:
    def run(feed: Tensors) -> Array:
        latent, condition = (torch.from_numpy(feed[name]) for name in ("latent", "condition"))
        found: Array = model.fmir.forward_conditioned(latent, condition).numpy()
        return found

    return run
