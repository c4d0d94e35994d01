"""What is to be built: backends, and the precisions of their parts, from what was asked for and what is here."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

from elir_trt import _core
from elir_trt.backends import Backend, get, names, registry
from elir_trt.errors import BuildError
from elir_trt.extras import install_command
from elir_trt.parts import PARTS
from elir_trt.recipe import Precision, Recipe
from elir_trt.tolerances import PART_PRECISIONS, PartPrecision


@dataclass(frozen=True)
class Precisions:
    """Precisions of a bundle.

    Attributes:
        whole: of every part that is not named; None: what each backend takes then.
        parts: of single parts.
        searched: whether the fastest ones are to be searched for.
    """

    whole: Precision | None
    parts: dict[str, PartPrecision] = field(default_factory=dict)
    searched: bool = False


def can_quantize() -> bool:
    """Whether what quantization needs is installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("nncf", "onnxruntime", "ml_dtypes"))


def resolve_backends(asked: Sequence[str] | None) -> tuple[Backend, ...]:
    """The backends to build for, sorted by name; None: what can be built here and is of use.

    Raises:
        BuildError: there are none, or one is unknown or not installed.
    """
    here = [backend for backend in registry() if backend.installed()]
    if asked is None:
        gpu = not _core.cuda_problem()
        asked = [backend.name for backend in here if backend.is_default(here, gpu)]
    if not asked:
        raise BuildError(f"no backend to build for: install one with: {install_command('cpu')}")
    installed = [backend.name for backend in here]
    for name in asked:
        if name not in names():
            raise BuildError(f"backend is {name!r}; allowed: {', '.join(names())}")
        if name not in installed:
            raise BuildError(f"backend {name} is not installed; here are: {', '.join(installed) or 'none'}")
    return tuple(get(name) for name in sorted(set(asked)))


def resolve_precisions(asked: str | None, recipe: Recipe, chosen: Sequence[Backend]) -> Precisions:
    """The precisions to build; see :func:`elir_trt.building.build`.

    Raises:
        BuildError: a precision or a part is unknown, or a backend does not have it.
    """
    if asked is None or asked in ("fp32", "bf16", "fp16"):
        return Precisions(cast("Precision | None", asked) or recipe.precision)
    for backend in chosen:
        if not backend.by_part:
            *some, last = backend.precisions
            raise BuildError(
                f"precision is {asked!r}; the backend {backend.name} has {', '.join(some)} and {last}"
            )
    parts = parse_precision(asked)
    if parts == "auto":
        return Precisions(recipe.precision, searched=True)
    for backend in chosen:
        for precision in parts.values():
            if precision not in backend.precisions:
                where = "the CPU" if backend.devices == ("cpu",) else backend.devices[0]
                others = [other.name for other in registry() if precision in other.precisions]
                raise BuildError(
                    f"precision {precision}: {backend.title} has none on {where}; "
                    f"name --backend {' or '.join(others)}"
                )
    floats = {precision for precision in parts.values() if precision in ("bf16", "fp16")}
    whole = cast("Precision", floats.pop()) if len(floats) == 1 else recipe.precision
    return Precisions(whole, parts)


def parse_precision(text: str) -> Literal["auto"] | dict[str, PartPrecision]:
    """Read "int8", "auto", or "velocity=int8,decoder=fp16"; the latter leaves the other parts as they are.

    Raises:
        BuildError: a part or a precision is unknown.
    """
    if text == "auto":
        return "auto"
    found: dict[str, PartPrecision] = {}
    for item in text.split(","):
        part, given, precision = item.strip().rpartition("=")
        if precision not in PART_PRECISIONS:
            raise BuildError(
                f"precision is {item.strip()!r}; allowed: auto, {', '.join(PART_PRECISIONS)}, "
                "or PART=PRECISION, separated by commas"
            )
        if given and part not in PARTS:
            raise BuildError(f"precision is for part {part!r}; allowed: {', '.join(PARTS)}")
        found.update(dict.fromkeys([part] if given else PARTS, precision))
    return found
