"""What a frame costs, counted: arithmetic, bytes and kernels of each part, at any size.

The parts run on tensors without memory (torch's "meta" device), and every operator is counted as the best engine
could run it:

* A convolution reads its input and its weights once, writes its output, and is one kernel.
* A normalization reads and writes once and is one kernel.
* What is computed element by element is done by the kernel that made its input; a second operand is read.
* Concatenating costs nothing: who makes the pieces writes them to their place. Nor does a view.
* Shuffling and scaling pixels reads, writes and is one kernel.

Between the parts the core moves what docs/architecture.md says: the frame, the image, the latent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from elir_trt.model.elir import Elir
from elir_trt.model.engine_parts import part_module
from elir_trt.parts import PARTS, part_shapes, part_tensors
from elir_trt.recipe import Recipe

#: The row of what the core does itself.
CORE = "core"
_FREE = (
    "view",
    "reshape",
    "slice",
    "split",
    "permute",
    "transpose",
    "expand",
    "unsqueeze",
    "squeeze",
    "t",
    "alias",
)
_FREE_MOVES = (
    "cat",
    "detach",
    "select",
    "clone",
    "_to_copy",
    "split_with_sizes",
    "_unsafe_view",
    "as_strided",
    "empty",
)
_ELEMENTWISE = (
    "add", "sub", "mul", "div", "relu", "leaky_relu", "silu", "sigmoid", "tanh", "clamp", "gelu", "neg", "rsub",
)  # fmt: skip


@dataclass(frozen=True)
class Work:
    """What something costs at least, once.

    Attributes:
        flop: floating point operations; a multiplication and an addition are two.
        activations: numbers that are read and written, of the engine's type.
        weights: numbers of the weights, of the engine's type, each read once.
        fixed_bytes: bytes that are moved whatever the engine's type is.
        launches: kernels.
    """

    flop: float = 0.0
    activations: int = 0
    weights: int = 0
    fixed_bytes: int = 0
    launches: int = 0

    def bytes(self, element_bytes: int) -> int:
        """Bytes that are moved, with engines whose numbers have ``element_bytes`` bytes."""
        return (self.activations + self.weights) * element_bytes + self.fixed_bytes

    def __add__(self, other: Work) -> Work:
        return Work(
            self.flop + other.flop,
            self.activations + other.activations,
            self.weights + other.weights,
            self.fixed_bytes + other.fixed_bytes,
            self.launches + other.launches,
        )

    def times(self, count: int) -> Work:
        """``count`` times."""
        return Work(
            self.flop * count,
            self.activations * count,
            self.weights * count,
            self.fixed_bytes * count,
            self.launches * count,
        )


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up bytes and kernels of every operator that runs in it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.activations = self.weights = self.launches = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__.rstrip("_")
        if name in _FREE or name in _FREE_MOVES:
            return out
        tensors = [item for item in args if isinstance(item, torch.Tensor)]
        written = out[0] if isinstance(out, tuple) else out
        if name in _ELEMENTWISE:
            # The largest operand is where the kernel before left it; others are read.
            self.activations += sum(sorted((tensor.numel() for tensor in tensors), reverse=True)[1:])
        elif name in ("convolution", "native_group_norm"):
            self.activations += tensors[0].numel() + written.numel()
            self.weights += sum(tensor.numel() for tensor in tensors[1:])
            self.launches += 1
        else:
            self.activations += sum(tensor.numel() for tensor in tensors) + written.numel()
            self.launches += 1
        return out


class Counted:
    """The parts of a recipe, to be counted at any size."""

    def __init__(self, recipe: Recipe) -> None:
        """Make the parts as engines run them."""
        self.recipe = recipe
        model = Elir(recipe.architecture)
        self._condition_width = model.fmir.condition_width
        self._modules = {part: part_module(model, part).eval().to("meta") for part in PARTS}

    def parts(self, size: tuple[int, int]) -> dict[str, Work]:
        """The work of each part, once, for an encoder input of ``size`` (height, width) pixels."""
        architecture = self.recipe.architecture
        shapes = part_shapes(architecture, size, self._condition_width)
        found = {}
        for part, module in self._modules.items():
            names, _ = part_tensors(part, architecture)
            inputs = [torch.empty(shapes[name], device="meta") for name in names]
            with torch.no_grad(), FlopCounterMode(display=False) as flop, _Counter() as counted:
                module(*inputs)
            found[part] = Work(
                float(flop.get_total_flops()),
                counted.activations,
                counted.weights,
                launches=counted.launches,
            )
        return found

    def frames(self, size: tuple[int, int]) -> list[dict[str, Work]]:
        """The work of frames of 0, 1, ... steps, by part, with the core's."""
        parts = self.parts(size)
        found = []
        for steps in range(self.recipe.steps + 1):
            calls = {part: steps if part == "velocity" else 1 for part in PARTS}
            works = {part: parts[part].times(calls[part]) for part in PARTS}
            found.append({**works, CORE: core_work(self.recipe, size, steps)})
        return found


def core_work(recipe: Recipe, size: tuple[int, int], steps: int) -> Work:
    """What the core itself moves for a frame: frame to image, the latent's steps in float32, image to frame."""
    image = 3 * math.prod(size)
    latent = recipe.architecture.latent_channels * math.prod(size) // recipe.architecture.downscale**2
    # A step reads the float32 latent and the velocity, and writes the latent twice; so does the start, with noise.
    moves = steps + 1 if steps else 0
    return Work(
        activations=2 * image + 2 * moves * latent,
        fixed_bytes=2 * image + 8 * moves * latent,
        launches=2 + moves,
    )


def total(works: Mapping[str, Work]) -> Work:
    """All of it together."""
    return sum(works.values(), Work())
