"""What GPU is here, asked of the CUDA driver itself, without a CUDA package."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
#: Where NVIDIA's kernel module states its release: as every module, or, where it states none there, by itself.
_MODULE = Path("/sys/module/nvidia/version")
_PROC = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Gpu:
    """The first CUDA device, or why there is none.

    Attributes:
        name: as the driver gives it; None: no usable GPU.
        compute_capability: without the dot, such as "87".
        driver: highest CUDA version that the driver supports, such as "13.0".
        reason: why there is no usable GPU.
    """

    name: str | None = None
    compute_capability: str | None = None
    driver: str | None = None
    reason: str | None = None


def find_gpu() -> Gpu:
    """Ask the driver for the first device. Creates no context."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Gpu(reason="no CUDA driver (libcuda.so.1 is not installed)")
    code = cuda.cuInit(0)
    if code != 0:
        return Gpu(reason=f"the CUDA driver does not start (error {code})")
    version, count, device = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    driver = f"{version.value // 1000}.{version.value % 1000 // 10}"
    if cuda.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return Gpu(driver=driver, reason="the CUDA driver sees no device")
    name = ctypes.create_string_buffer(256)
    major, minor = ctypes.c_int(), ctypes.c_int()
    if cuda.cuDeviceGet(ctypes.byref(device), 0) != 0 or cuda.cuDeviceGetName(name, 256, device) != 0:
        return Gpu(driver=driver, reason="the CUDA driver does not answer for its first device")
    cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    return Gpu(name.value.decode(), f"{major.value}{minor.value}", driver)


def gpu_tag(*, driver: bool = False) -> str | None:
    """Name and compute capability of the first device, as engines that are built for it are marked; None: none.

    Args:
        driver: name the driver too. Engines that are made on first use are bound to it: another one may run them
            slower, or refuse what it compiles of them.
    """
    gpu = find_gpu()
    if gpu.name is None:
        return None
    tag = f"{gpu.name} sm_{gpu.compute_capability}"
    return f"{tag} driver {driver_release() or f'CUDA {gpu.driver}'}" if driver else tag


def driver_release() -> str | None:
    """Release of NVIDIA's kernel module, such as "580.65.06"; None: the system does not say."""
    try:
        return _MODULE.read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        pass
    try:
        found = re.search(
            r"^NVRM version:.*?\s(\d+\.[\d.]+)\s", _PROC.read_text(encoding="utf-8"), re.MULTILINE
        )
    except (OSError, ValueError):
        return None
    return None if found is None else found[1]


@contextlib.contextmanager
def primary_context(ordinal: int = 0) -> Iterator[None]:
    """Make a device's primary context the thread's current one, and afterwards what was current before.

    The core works in the primary context, as the CUDA runtime does. What is made in another one, such as that which
    ``import pycuda.autoinit`` leaves current, cannot be used there. Without a driver or a device nothing happens.
    """
    primary = _primary(ordinal)
    if primary is None:
        yield
        return
    cuda, context = primary
    if cuda.cuCtxPushCurrent_v2(ctypes.c_void_p(context)) != 0:
        yield  # A context that is unusable: what uses it says why.
        return
    try:
        yield
    finally:
        cuda.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))


@functools.cache
def _primary(ordinal: int) -> tuple[ctypes.CDLL, int] | None:
    """The driver and the context; retained for as long as the process lives, as the CUDA runtime does."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, context = ctypes.c_int(), ctypes.c_void_p()
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGet(ctypes.byref(device), ordinal) != 0:
        return None
    if cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) != 0 or context.value is None:
        return None
    return cuda, context.value
