"""Choosing the engines that a bundle is run with."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from elir_trt import _core, backends
from elir_trt.backends import Engines, TunableBackend
from elir_trt.bundle import Bundle, cache_folder
from elir_trt.errors import BackendError, BuildError, DeviceError, ElirWarning
from elir_trt.tuning.candidates import Candidate, machine_key
from elir_trt.tuning.measure import choose
from elir_trt.tuning.rebuild import rebuild_engines
from elir_trt.tuning.store import Choice, Store, Tune

#: What is done with engines that the device or its backend refuses.
OnEngineError = Literal["fallback", "rebuild", "raise"]


@dataclass(frozen=True)
class Opened:
    """Engines, and the bundle that they are of: another than was asked for if they were built again.

    Attributes:
        choice: of precisions, where engines were made for this machine by measurement.
    """

    bundle: Bundle
    engines: Engines
    choice: Choice | None = None


def open_engines(
    bundle: Bundle,
    backend: str = "auto",
    device: str = "auto",
    on_engine_error: OnEngineError = "fallback",
    tune: Tune = "auto",
    say: Callable[[str], None] = lambda text: None,
) -> Opened:
    """Open the engines of a bundle.

    With "auto" the GPU is used where there is one and the bundle has engines that it takes, or they can be made.

    Args:
        bundle: a bundle that was opened, and not released.
        backend: "auto" or the name of a backend.
        device: "auto", "cpu" or "cuda".
        on_engine_error: what to do with engines that are refused: "fallback" uses the next backend that is allowed,
            and warns why; "rebuild" builds them again where the bundle is portable, once, and warns that it does;
            "raise" raises.
        tune: how much time the choice of engines may take: see :func:`elir_trt.open`.
        say: is called with what is being done, where engines are made.

    Raises:
        BackendError: the backend is unknown, not installed, or refuses the engines.
        BundleError: the bundle has no engines of the backend.
        BuildError: engines cannot be built.
        DeviceError: the device is unknown or not usable; the message says why.
    """
    if tune not in get_args(Tune):
        raise ValueError(f"tune is {tune!r}; allowed: {', '.join(get_args(Tune))}")
    if backend != "auto" and backend not in backends.names():
        raise BackendError(f"backend is {backend!r}; allowed: auto, {', '.join(backends.names())}")
    if device not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"device is {device!r}; allowed: auto, cpu, cuda")
    if on_engine_error not in get_args(OnEngineError):
        allowed = ", ".join(get_args(OnEngineError))
        raise ValueError(f"on_engine_error is {on_engine_error!r}; allowed: {allowed}")
    devices = () if backend == "auto" else backends.get(backend).devices
    if devices and device not in ("auto", *devices):
        raise DeviceError(f"device is {device!r}; the backend {backend} runs on {', '.join(devices)}")
    no_gpu = _core.cuda_problem()
    if no_gpu and (device == "cuda" or devices == ("cuda",)):
        raise DeviceError(f"the device cuda is not usable here: {no_gpu}")
    candidates = _candidates(bundle, backend, device, gpu=not no_gpu)
    for place, (name, on) in enumerate(candidates, 1):
        try:
            if bundle.is_portable:
                return _made(bundle, name, on, tune, say)
            return Opened(bundle, backends.get(name).load(bundle, on))
        except (BackendError, BuildError) as error:
            problem = str(error)
            if on_engine_error == "rebuild" and backends.get(name).rebuilds and not bundle.is_portable:
                try:
                    return _rebuilt(bundle, name, on, error, say)
                except OSError as refusal:
                    problem = (
                        f"{cache_folder()}: the engines that were built again cannot be kept there: "
                        f"{refusal.strerror}; set ELIR_TRT_CACHE to another folder"
                    )
                    if place == len(candidates):
                        raise BackendError(problem) from refusal
            if on_engine_error == "raise" or place == len(candidates):
                raise
            following = candidates[place]
            where = "the CPU" if following[1] == "cpu" else following[0]
            warnings.warn(f"{problem}; using {where} instead", ElirWarning, stacklevel=3)
    raise AssertionError("unreachable")


def _candidates(bundle: Bundle, name: str, device: str, gpu: bool) -> list[tuple[str, str]]:
    """Backends and devices to try, in this order."""
    if name != "auto":
        devices = backends.get(name).devices
        on_gpu = "cuda" in devices and gpu and device != "cpu"
        return [(name, "cuda" if on_gpu else devices[-1])]
    known = backends.registry()
    built = bundle.manifest.specification.backends
    if bundle.is_portable:
        built = tuple(backend.name for backend in known if backend.tunes)
    found: list[tuple[str, str]] = []
    if gpu and device != "cpu":
        here = [backend.name for backend in known if "cuda" in backend.devices and backend.installed()]
        found += [(there, "cuda") for there in here if there in built]
        if device == "cuda" and not found:
            raise BackendError(
                f"{bundle.path}: no engines for the GPU with a backend that is installed here: the bundle has "
                f"{', '.join(built)}, installed are {', '.join(here) or 'none'}"
            )
    if device != "cuda":
        on_cpu = [backend for backend in known if "cpu" in backend.devices]
        usable = [backend.name for backend in on_cpu if backend.installed()]
        # Where the bundle has engines for none of them, or none is installed, one of them says so.
        named = usable + [backend.name for backend in on_cpu if backend.name not in usable]
        found += [(there, "cpu") for there in named if there in built][:1] or [(named[0], "cpu")][: not found]
    return found


def store() -> Store:
    """The store of engines of this machine."""
    folder = cache_folder() / "engines"
    with _lock:
        return _stores.setdefault(folder, Store(folder))


def choices_here(bundle: Bundle) -> list[tuple[str, Choice]]:
    """What this machine chose for a portable bundle, by backend, and by size for others than the bundle's.

    Nothing is measured.
    """
    found = []
    for backend in backends.registry():
        if not backend.tunes or not backend.probe().usable:
            continue
        own = bundle.manifest.specification.size
        here = machine_key(bundle.digest, cast(TunableBackend, backend), own, 1)
        kept = store().choices(here)
        for size in sorted(kept, key=lambda size: (size != own, size)):
            name = backend.name if size == own else f"{backend.name} at {size[0]}x{size[1]}"
            found.append((name, kept[size]))
    return found


def choose_for(
    bundle: Bundle,
    engines: Engines,
    size: tuple[int, int],
    tune: Tune = "full",
    say: Callable[[str], None] = lambda text: None,
) -> Choice:
    """Choose for one size by itself; streams of that size then use this, and not the choice for the bundle's.

    Args:
        bundle: portable, and not released.
        engines: of it, opened.
        size: height and width of the engines' input, as a geometry has it.
        tune: how much time it may take: see :func:`elir_trt.open`.
        say: is called with what is being done.

    Raises:
        BackendError: the engines are of one size.
    """
    backend = backends.get(engines.name)
    if not bundle.is_portable or not backend.tunes or engines.sizes() is not None:
        raise BackendError(
            f"{bundle.path}: {backend.title}'s engines are of the size that the bundle was built for; build one "
            f"with: elir-trt build {bundle.recipe.task} --size {size[0]}x{size[1]}"
        )
    return choose(bundle, cast(TunableBackend, backend), engines.device, store(), tune, say, size)


_lock = threading.Lock()
_stores: dict[Path, Store] = {}


def _made(bundle: Bundle, name: str, device: str, tune: Tune, say: Callable[[str], None]) -> Opened:
    """Engines for this machine of a portable bundle."""
    backend = backends.get(name)
    if not backend.tunes:
        raise BackendError(
            f"{bundle.path}: is portable, and the backend {name} makes no engines of such a bundle; build one with: "
            f"elir-trt build {bundle.recipe.task} --backend {name} --weights CHECKPOINT"
        )
    tunable = cast(TunableBackend, backend)
    choice = choose(bundle, tunable, device, store(), tune, say)
    source = Candidate(bundle, tunable, choice.precisions, store(), direct=choice.direct, say=say)
    return Opened(bundle, tunable.load_tuned(source, device), choice)


def _rebuilt(bundle: Bundle, name: str, device: str, error: Exception, say: Callable[[str], None]) -> Opened:
    warnings.warn(f"{error}; building them again for this machine", ElirWarning, stacklevel=4)
    rebuilt = Bundle(rebuild_engines(bundle, name, say))
    return Opened(rebuilt, backends.get(name).load(rebuilt, device))
