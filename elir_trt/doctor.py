"""What is installed, which devices and backends are usable, and why the others are not."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from elir_trt.errors import ElirError
from elir_trt.extras import install_command
from elir_trt.machine import find_nvcc, gpu_sign, jetson_release


@dataclass(frozen=True)
class Finding:
    """One line of the examination.

    Attributes:
        subject: what was looked at.
        usable: whether it can be used; None: information only.
        detail: version, properties, or the reason and what to do.
    """

    subject: str
    usable: bool | None
    detail: str


def examine() -> list[Finding]:
    """Look at the machine; imports nothing that is not installed, and never raises."""
    from elir_trt import __version__

    findings = [
        Finding("elir_trt", None, __version__),
        Finding("python", None, f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
    ]
    findings += [_guarded("core", _core), *_backends()]
    for subject, check in (
        ("GPU", _gpu),
        ("images", lambda: _packages("image", "cv2", "av")),
        ("videos", lambda: _packages("video", "av")),
        ("the page of live runs", lambda: _packages("live", "aiohttp")),
        ("building (torch, onnx)", lambda: _packages("export", "torch", "onnx", "onnxscript")),
        ("bundles", _bundles),
        ("cache", _cache),
    ):
        findings.append(_guarded(subject, check))
    return findings


def _guarded(subject: str, check: Callable[[], tuple[bool | None, str]]) -> Finding:
    try:
        return Finding(subject, *check())
    except Exception as error:  # a broken installation is what this is for
        return Finding(subject, False, f"{type(error).__name__}: {error}")


def _core() -> tuple[bool | None, str]:
    from elir_trt import _core as core

    usable = core.devices()
    reasons = [
        f"{device} is not usable: {core.cuda_problem()}"
        for device in core.compiled_devices()
        if device not in usable
    ]
    compiled = f"devices compiled in: {', '.join(core.compiled_devices())}"
    sign = gpu_sign()
    if sign is not None and "cuda" not in core.compiled_devices():
        reasons.append(f"a GPU is here ({sign}), the core was built without CUDA: {_how_to_compile()}")
    return True, "; ".join([compiled, f"usable here: {', '.join(usable)}", *reasons])


def _how_to_compile() -> str:
    """What to do where the core lacks its CUDA device."""
    again = "build the package again, in its checkout: pip install --force-reinstall --no-deps ."
    nvcc = find_nvcc()
    if nvcc is not None:
        return f"the compiler is {nvcc}; {again}"
    if jetson_release() is not None:
        return f"sudo apt install nvidia-jetpack, which brings the compiler; then {again} (docs/jetson.md)"
    return f"install the CUDA toolkit (https://developer.nvidia.com/cuda-downloads); then {again}"


def _backends() -> list[Finding]:
    """One line for each backend, or the one that says why there are none."""
    try:
        from elir_trt.backends import registry

        known = list(registry())
    except Exception as error:  # a broken installation is what this is for
        return [Finding("backends", False, f"{type(error).__name__}: {error}")]
    return [_guarded(f"backend {backend.name}", partial(_probe, backend)) for backend in known]


def _probe(backend: Any) -> tuple[bool | None, str]:
    probe = backend.probe()
    if not probe.usable:
        return False, probe.reason
    return True, f"{probe.version} on {', '.join(backend.devices)}"


def _gpu() -> tuple[bool | None, str]:
    from elir_trt.gpu import find_gpu

    gpu = find_gpu()
    if gpu.name is None:
        sign = gpu_sign()
        here = "" if sign is None else f"; a GPU is here ({sign}): {_how_to_drive()}"
        return False, f"{gpu.reason or 'none'}{here}"
    return True, f"{gpu.name}, compute capability {gpu.compute_capability}, driver for CUDA {gpu.driver}"


def _how_to_drive() -> str:
    """What to do where the GPU's driver is missing or does not start."""
    container = (
        "in a container, start that with the GPU (docker run --gpus all, on a Jetson --runtime nvidia)"
    )
    if jetson_release() is not None:
        return f"sudo apt install nvidia-l4t-cuda; {container}"
    return f"install NVIDIA's driver; {container}"


def _packages(extra: str, *modules: str) -> tuple[bool | None, str]:
    """Whether all modules of an extra are installed; they are not imported."""
    distributions = importlib.metadata.packages_distributions()
    found = []
    for module in modules:
        if importlib.util.find_spec(module) is None:
            return False, f"{module} is not installed: {_how_to_install(module, extra)}"
        # JetPack's OpenCV, for one, is not of a distribution.
        names = distributions.get(module)
        found.append(f"{names[0]} {importlib.metadata.version(names[0])}" if names else module)
    return True, ", ".join(found)


def _how_to_install(module: str, extra: str) -> str:
    """pip, but for what JetPack has in a build of its own."""
    if module == "cv2" and jetson_release() is not None:
        return (
            "sudo apt install libopencv-python, JetPack's own with GStreamer, and make the virtual environment with "
            "--system-site-packages"
        )
    return install_command(extra)


def _bundles() -> tuple[bool | None, str]:
    from elir_trt.bundle import cache_folder, shipped_folder
    from elir_trt.manifest import read_manifest

    names = []
    for folder in sorted((cache_folder() / "bundles").glob("*")) + sorted(shipped_folder().glob("*")):
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        try:
            names.append(read_manifest(folder).specification.recipe.task)
        except ElirError as error:
            names.append(f"{folder.name} (unusable: {error})")
    return bool(names), ", ".join(names) or "none; build one with: elir-trt build TASK --weights CHECKPOINT"


def _cache() -> tuple[bool | None, str]:
    from elir_trt.bundle import cache_folder

    folder = cache_folder()
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(nearest, os.W_OK):
        return False, f"{folder}: no permission to write; set ELIR_TRT_CACHE to another folder"
    return True, str(folder)
