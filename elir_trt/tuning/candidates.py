"""What engines of a portable bundle a machine may run: parts in precisions, made when they are asked for."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from elir_trt.backends.base import TunableBackend
from elir_trt.bundle import Bundle
from elir_trt.parts import PARTS, part_shapes
from elir_trt.recipe import Recipe
from elir_trt.tolerances import PartPrecision
from elir_trt.tuning.store import EngineKey, MachineKey, Store


class Candidate:
    """One assignment of precisions to the parts: see :class:`elir_trt.backends.base.TunedSource`.

    What the parts are made of is read from the bundle at once, so that it may be released.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: TunableBackend,
        precisions: Mapping[str, PartPrecision],
        store: Store | None,
    ) -> None:
        """``store``: of the engines; None: they are kept in memory, by this object."""
        self.path: Path = bundle.path
        self.recipe: Recipe = bundle.recipe
        self.condition_width = bundle.condition_width
        self._precisions = dict(precisions)
        self._digest, self._backend, self._store = bundle.digest, backend, store
        self._onnx = {part: bundle.read_variant(part, self._variant(bundle, part)) for part in PARTS}
        self._made: dict[EngineKey, bytes] = {}

    @property
    def precisions(self) -> Mapping[str, PartPrecision]:
        """Of each part."""
        return self._precisions

    def engine(self, part: str, size: tuple[int, int], batch: int) -> bytes:
        """The engine of a part for ``batch`` inputs of ``size``, made where there is none."""
        key = EngineKey(
            **machine_key(self._digest, self._backend, size, batch).to_data(),
            part=part,
            precision=self.precisions[part],
        )
        if key not in self._made:

            def make() -> bytes:
                shapes = part_shapes(self.recipe.architecture, size, self.condition_width, batch)
                return self._backend.compile_tuned(self._onnx[part], part, key.precision, shapes)

            self._made[key] = make() if self._store is None else self._store.engine(key, make)
        return self._made[key]

    def keep(self, store: Store, assignment: Mapping[str, PartPrecision]) -> None:
        """Put engines that were made for a measurement into a store: those that are parts of ``assignment``."""
        for key, engine in self._made.items():
            if assignment[key.part] == key.precision:
                store.engine(key, functools.partial(bytes, engine))

    def _variant(self, bundle: Bundle, part: str) -> PartPrecision:
        """The file that an engine is made of: that of its precision where it is quantized, else the best float."""
        wanted = self.precisions[part]
        there = bundle.variants(part)
        if wanted in there and not wanted.startswith(("fp", "bf")):
            return wanted
        floats: Sequence[PartPrecision] = ("fp32", "fp16", "bf16")
        return next(precision for precision in floats if precision in there)


def machine_key(bundle_digest: str, backend: TunableBackend, size: tuple[int, int], batch: int) -> MachineKey:
    """What engines of a bundle are bound to here."""
    return MachineKey(
        bundle=bundle_digest,
        backend=backend.name,
        version=backend.engine_version(),
        machine=backend.machine(),
        size=size,
        batch=batch,
    )


def precisions_of(bundle: Bundle, backend: TunableBackend, part: str) -> tuple[PartPrecision, ...]:
    """The precisions in which a part can run here, the safe one first."""
    there = bundle.variants(part)
    return tuple(
        precision
        for precision in backend.tuned_precisions()
        if precision.startswith(("fp", "bf")) or precision in there
    )


def uniform(bundle: Bundle, backend: TunableBackend, precision: PartPrecision) -> dict[str, PartPrecision]:
    """Every part in a precision, or where it has none in the safe one."""
    base = backend.tuned_precisions()[0]
    return {part: precision if precision in precisions_of(bundle, backend, part) else base for part in PARTS}
