"""What engines of a portable bundle a machine may run: parts in precisions, made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from elir_trt.backends.base import TunableBackend
from elir_trt.bundle import Bundle
from elir_trt.errors import BundleError
from elir_trt.parts import DIRECT_PARTS, PARTS, part_shapes
from elir_trt.recipe import Recipe
from elir_trt.tolerances import PartPrecision
from elir_trt.tuning.store import AnyEngineKey, DirectKey, EngineKey, MachineKey, Store

#: Engines that were made, by their keys.
Made = dict[AnyEngineKey, bytes]


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
        *,
        direct: bool = False,
        made: Made | None = None,
    ) -> None:
        """Take a bundle's parts in some precisions.

        Args:
            bundle: portable, and not released.
            backend: that makes the engines.
            precisions: of each part.
            store: of the engines, and of choices for other sizes; None: neither is looked for.
            direct: frames without steps go through one engine.
            made: engines that were made before, to which those are added that are made now.
        """
        self.path: Path = bundle.path
        self.recipe: Recipe = bundle.recipe
        self.condition_width = bundle.condition_width
        self._precisions = dict(precisions)
        self._digest, self._backend, self._store = bundle.digest, backend, store
        self._onnx = {part: bundle.read_variant(part, self._variant(bundle, part)) for part in PARTS}
        self._direct = direct
        self._made: Made = {} if made is None else made

    @property
    def precisions(self) -> Mapping[str, PartPrecision]:
        """Of each part."""
        return self._precisions

    def engine(self, part: str, size: tuple[int, int], batch: int) -> bytes:
        """The engine of a part for ``batch`` inputs of ``size``, made where there is none."""
        here = machine_key(self._digest, self._backend, size, batch).to_data()
        key = EngineKey(**here, part=part, precision=self.precisions[part])

        def make() -> bytes:
            return self._backend.compile_tuned(
                self._onnx[part], part, key.precision, self._shapes(size, batch)
            )

        return self._engine(key, make)

    def direct(self, size: tuple[int, int], batch: int) -> bytes | None:
        """The engine of frames without steps, made where there is none; None: the parts run one after the other."""
        if not self._direct:
            return None
        here = machine_key(self._digest, self._backend, size, batch).to_data()
        key = DirectKey(**here, precisions=tuple(self.precisions[part] for part in DIRECT_PARTS))

        def make() -> bytes:
            return self._backend.compile_direct(self._onnx, self.precisions, self._shapes(size, batch))

        return self._engine(key, make)

    def at(self, size: tuple[int, int]) -> Candidate:
        """The assignment for inputs of ``size``: this one, or what was chosen for that size by itself."""
        if self._store is None:
            return self
        choice = self._store.choice(machine_key(self._digest, self._backend, size, 1))
        if choice is None or (dict(choice.precisions), choice.direct) == (self._precisions, self._direct):
            return self
        bundle = Bundle(self.path)
        if bundle.digest != self._digest:
            raise BundleError(f"{self.path}: is another bundle than the one that was opened")
        return Candidate(bundle, self._backend, choice.precisions, self._store, direct=choice.direct)

    def _engine(self, key: AnyEngineKey, make: Callable[[], bytes]) -> bytes:
        if key not in self._made:
            self._made[key] = make() if self._store is None else self._store.engine(key, make)
        return self._made[key]

    def _shapes(self, size: tuple[int, int], batch: int) -> Mapping[str, Sequence[int]]:
        return part_shapes(self.recipe.architecture, size, self.condition_width, batch)

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
