"""What is installed, which devices and backends are usable, and why the others are not."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass

from elir_trt.errors import ElirError


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
    for subject, check in (
        ("core", _core),
        ("backend openvino", _openvino),
        ("backend tensorrt", lambda: _tensorrt("tensorrt", "tensorrt")),
        ("backend tensorrt-rtx", lambda: _tensorrt("tensorrt-rtx", "rtx")),
        ("GPU", _gpu),
        ("building (torch, onnx)", _export),
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

    return True, f"devices compiled in: {', '.join(core.devices())}"


def _openvino() -> tuple[bool | None, str]:
    from elir_trt.backends.openvino import cpu_name, cpu_precisions

    version = importlib.metadata.version("openvino")
    return True, f"{version} on {cpu_name()}, precisions {', '.join(cpu_precisions())}"


def _tensorrt(distribution: str, extra: str) -> tuple[bool | None, str]:
    if importlib.util.find_spec(distribution.replace("-", "_")) is None:
        return False, f"not installed: pip install 'elir_trt[{extra}]'"
    module = importlib.import_module(distribution.replace("-", "_"))
    return True, f"{module.__version__}: builds engines, and runs them where there is a GPU"


def _gpu() -> tuple[bool | None, str]:
    from elir_trt.gpu import find_gpu

    gpu = find_gpu()
    if gpu.name is None:
        return False, gpu.reason or "none"
    return True, f"{gpu.name}, compute capability {gpu.compute_capability}, driver for CUDA {gpu.driver}"


def _export() -> tuple[bool | None, str]:
    found = []
    for name in ("torch", "onnx", "onnxscript"):
        if importlib.util.find_spec(name) is None:
            return False, f"{name} is not installed: pip install 'elir_trt[export]'"
        found.append(f"{name} {importlib.metadata.version(name)}")
    return True, ", ".join(found)


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
