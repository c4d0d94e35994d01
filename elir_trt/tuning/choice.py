"""Choosing the engines that a bundle is run with."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal, get_args

from elir_trt import _core, backends
from elir_trt.backends import Engines
from elir_trt.bundle import Bundle, cache_folder
from elir_trt.errors import BackendError, DeviceError, ElirWarning
from elir_trt.tuning.rebuild import rebuild_engines

#: What is done with engines that the device or its backend refuses.
OnEngineError = Literal["fallback", "rebuild", "raise"]


@dataclass(frozen=True)
class Opened:
    """Engines, and the bundle that they are of: another than was asked for if they were built again."""

    bundle: Bundle
    engines: Engines


def open_engines(
    bundle: Bundle, backend: str = "auto", device: str = "auto", on_engine_error: OnEngineError = "fallback"
) -> Opened:
    """Open the engines of a bundle.

    With "auto" the GPU is used where there is one and the bundle has engines that it takes.

    Args:
        bundle: a bundle that was opened, and not released.
        backend: "auto" or the name of a backend.
        device: "auto", "cpu" or "cuda".
        on_engine_error: what to do with engines that are refused: "fallback" uses the next backend that is allowed,
            and warns why; "rebuild" builds them again where the bundle is portable, once, and warns that it does;
            "raise" raises.

    Raises:
        BackendError: the backend is unknown, not installed, or refuses the engines.
        BundleError: the bundle has no engines of the backend.
        BuildError: engines cannot be built again.
        DeviceError: the device is unknown or not usable; the message says why.
    """
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
            return Opened(bundle, backends.get(name).load(bundle, on))
        except BackendError as error:
            problem = str(error)
            if on_engine_error == "rebuild" and backends.get(name).rebuilds:
                try:
                    return _rebuilt(bundle, name, on, error)
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
    built = bundle.manifest.specification.backends
    known = backends.registry()
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


def _rebuilt(bundle: Bundle, name: str, device: str, error: BackendError) -> Opened:
    warnings.warn(f"{error}; building them again for this machine", ElirWarning, stacklevel=4)
    rebuilt = Bundle(rebuild_engines(bundle, name))
    return Opened(rebuilt, backends.get(name).load(rebuilt, device))
