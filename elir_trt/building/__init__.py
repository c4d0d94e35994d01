"""From a recipe and a checkpoint to a bundle, once, on the machine that builds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elir_trt.building.builder import BuildReport, build

__all__ = ["BuildReport", "build"]


def __getattr__(name: str) -> Any:
    # The builder imports torch; asking for its name only must not.
    if name in __all__:
        from elir_trt.building import builder

        return getattr(builder, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
