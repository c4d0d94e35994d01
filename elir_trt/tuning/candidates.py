"""What engines of a portable bundle a machine may run: parts in precisions, made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from elir_trt.backends.base import CompileOptions, TunableBackend
from elir_trt.bundle import Bundle
from elir_trt.errors import BackendError, BundleError
from elir_trt.parts import DIRECT_PARTS, PARTS, part_shapes
from elir_trt.recipe import Precision, Recipe
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
        keeps: bool = True,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Take a bundle's parts in some precisions.

        Args:
            bundle: portable, and not released.
            backend: that makes the engines.
            precisions: of each part.
            store: of the engines, and of choices for other sizes; None: neither is looked for.
            direct: frames without steps go through one engine.
            made: engines that were made before, to which those are added that are made now.
            keeps: engines that are made go into the store.
            say: is called with what is being done. What it raises ends that, and is raised.
        """
        self.path: Path = bundle.path
        self.digest = bundle.digest
        self.recipe: Recipe = bundle.recipe
        self.condition_width = bundle.condition_width
        self._specification = bundle.manifest.specification
        self.size, self.batch = self._specification.size, self._specification.batch
        self._precisions = dict(precisions)
        self.whole = whole_of(bundle, backend, precisions)
        self._backend, self._store, self._keeps, self._say = backend, store, keeps, say
        self._onnx = {part: self._form(bundle, part) for part in PARTS}
        self._direct = direct
        self._made: Made = {} if made is None else made

    @property
    def precisions(self) -> Mapping[str, PartPrecision]:
        """Of each part."""
        return self._precisions

    @property
    def cache(self) -> Path | None:
        """Folder for what speeds up compilations and starts; None: nothing is kept."""
        return None if self._store is None else self._store.backend_cache

    def engine(self, part: str, size: tuple[int, int], batch: int) -> bytes:
        """The engine of a part for ``batch`` inputs of ``size``, made where there is none.

        Raises:
            BackendError, BuildError: the backend refuses it, or it cannot be made here.
        """
        here = machine_key(self.digest, self._backend, size, batch).to_data()
        key = EngineKey(**here, part=part, precision=self.precisions[part])

        def make() -> bytes:
            what = f"{self._backend.title}: making the {part} engine in {key.precision}"
            self._say(what)
            options = CompileOptions.of(
                self._specification, cache=self.cache, progress=lambda text: self._say(f"{what}: {text}")
            )
            return self._backend.compile_tuned(
                self._source(part),
                part,
                key.precision,
                self._shapes(size, batch),
                replace(options, precision=self.whole),
            )

        return self._engine(key, make)

    def direct(self, size: tuple[int, int], batch: int) -> bytes | None:
        """The engine of frames without steps, made where there is none; None: the parts run one after the other."""
        if not self._direct:
            return None
        here = machine_key(self.digest, self._backend, size, batch).to_data()
        key = DirectKey(**here, precisions=tuple(self.precisions[part] for part in DIRECT_PARTS))

        def make() -> bytes:
            onnx = {part: self._source(part) for part in DIRECT_PARTS}
            return self._backend.compile_direct(onnx, self.precisions, self._shapes(size, batch))

        return self._engine(key, make)

    def at(self, size: tuple[int, int]) -> Candidate:
        """The assignment for inputs of ``size``: this one, or what was chosen for that size by itself."""
        if self._store is None:
            return self
        choice = self._store.choice(machine_key(self.digest, self._backend, size, 1))
        if choice is None or (dict(choice.precisions), choice.direct) == (self._precisions, self._direct):
            return self
        bundle = Bundle(self.path)
        if bundle.digest != self.digest:
            raise BundleError(f"{self.path}: is another bundle than the one that was opened")
        return Candidate(bundle, self._backend, choice.precisions, self._store, direct=choice.direct)

    def _engine(self, key: AnyEngineKey, make: Callable[[], bytes]) -> bytes:
        if key not in self._made:
            store = self._store if self._keeps else None
            self._made[key] = make() if store is None else store.engine(key, make)
        return self._made[key]

    def _shapes(self, size: tuple[int, int], batch: int) -> Mapping[str, Sequence[int]]:
        return part_shapes(self.recipe.architecture, size, self.condition_width, batch)

    def _form(self, bundle: Bundle, part: str) -> bytes | None:
        """The file that an engine is made of; None: it cannot be made here, but may have been."""
        form = self._backend.form(bundle.variants(part), self.precisions[part])
        return None if form is None else bundle.read_variant(part, form)

    def _source(self, part: str) -> bytes:
        onnx = self._onnx[part]
        if onnx is None:
            raise BackendError(
                f"{self.path}: {self._backend.title} cannot make the {part} engine in {self.precisions[part]} here: "
                "the bundle has no such file, or the package onnx is needed: pip install onnx"
            )
        return onnx


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
    """The precisions in which a part can run here, those that are safe first."""
    kept = bundle.variants(part)
    return tuple(p for p in backend.tuned_precisions() if backend.form(kept, p) is not None)


def safe_precision(bundle: Bundle, backend: TunableBackend) -> Precision:
    """The precision in which all parts run here, and that engines have where nothing was measured.

    Raises:
        BackendError: there is none.
    """
    for precision in backend.tuned_precisions():
        if all(precision in precisions_of(bundle, backend, part) for part in PARTS):
            return cast(Precision, precision)
    raise BackendError(f"{bundle.path}: its parts share no precision that {backend.title} runs them in")


def whole_of(bundle: Bundle, backend: TunableBackend, precisions: Mapping[str, PartPrecision]) -> Precision:
    """The precision of what is not quantized in an assignment, where the parts share one: else that of the first."""
    for precision in precisions.values():
        if precision in ("fp32", "fp16", "bf16"):
            return precision
    return safe_precision(bundle, backend)


def uniform(bundle: Bundle, backend: TunableBackend, precision: PartPrecision) -> dict[str, PartPrecision]:
    """Every part in a precision, or where it has none in the safe one."""
    base = safe_precision(bundle, backend)
    return {part: precision if precision in precisions_of(bundle, backend, part) else base for part in PARTS}


def describe(precisions: Mapping[str, PartPrecision]) -> str:
    """An assignment for people: "int8, coarse bf16"."""
    values = list(precisions.values())
    most = max(dict.fromkeys(values), key=values.count)
    others = [f"{part} {precision}" for part, precision in precisions.items() if precision != most]
    return ", ".join([most, *others])
