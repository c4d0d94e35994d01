"""Streams of the core alone, with simple parts, on the host and on the GPU."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from libraries import PARTS, Library

from elir_trt import _core
from elir_trt.geometry import plan
from elir_trt.recipe import Recipe, parse_recipe

#: Largest differences of 8-bit results: sums are equal, and log, sin and cos differ in their last places.
BOUNDS = {"float32": 1, "float16": 2, "bfloat16": 5}


def recipe_of(mode: str, scale: int = 1, interpolation: str = "bicubic") -> Recipe:
    return parse_recipe(
        {
            "task": "simple",
            "title": "parts that hand on what they get",
            "steps": 3,
            "sigma": 0.2,
            "size": [64, 64],
            "architecture": {
                "latent_channels": 3,
                "autoencoder": {"widths": [8], "blocks": [0]},
                "coarse": {"growth": 8, "blocks": 1},
                "velocity": {"hidden": 32, "middle": 0},
            },
            "prepare": {
                "mode": mode,
                "scale": scale,
                "interpolation": interpolation,
                "multiple": 64,
                "overlap": 16,
            },
        },
        "simple",
    )


def host_parts(core: _core.Stream) -> dict[str, Callable[[int], None]]:
    buffers = {name: core.buffer(name) for name in {n for *names, _ in PARTS.values() for n in names}}

    def part(source: str, target: str, factor: float) -> Callable[[int], None]:
        def run(_: int) -> None:
            np.multiply(buffers[source], np.float32(factor), out=buffers[target])

        return run

    return {name: part(*entry) for name, entry in PARTS.items()}


def stream_of(
    size: tuple[int, int],
    recipe: Recipe,
    gpu: Library | None = None,
    change: Callable[[str, Callable[[int], None]], Callable[[int], None]] = lambda name, part: part,
    **options: Any,
) -> _core.Stream:
    """A started stream for frames of a size: on the GPU, or on the host. ``change`` may put other parts in."""
    geometry = plan(recipe, size, size=recipe.size, fixed=recipe.prepare.mode == "tile")
    arguments = {"steps": 3, "sigma": recipe.sigma, "depth": 2, **options}
    arguments["table"] = np.zeros((arguments["steps"] * (arguments["steps"] + 1) // 2, 4), np.float32)
    device = "cpu" if gpu is None else "cuda"
    core = _core.Stream(geometry, _core.StreamOptions(device=device, **arguments))
    for name, part in (host_parts(core) if gpu is None else gpu.parts(core)).items():
        core.set_part(name, change(name, part))
    core.start()
    return core


def results(core: _core.Stream, frames: Iterable[Any], in_flight: int = 1) -> Iterator[Any]:
    """What comes of frames, some of them under way at a time."""
    waiting: deque[int | None] = deque()
    for frame in frames:
        if len(waiting) == in_flight:
            waiting.popleft()
            yield core.result()
        waiting.append(core.submit(frame))
    while waiting:
        waiting.popleft()
        yield core.result()


def through(core: _core.Stream, frames: Iterable[Any], in_flight: int = 1) -> list[Any]:
    """The restored frames, of a stream in which none fails."""
    restored = []
    for result in results(core, frames, in_flight):
        assert result.error is None, result.error
        restored.append(result.frame)
    return restored
