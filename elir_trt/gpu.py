"""What GPU is here, asked of the CUDA driver itself, without a CUDA package."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR


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


def gpu_tag() -> str | None:
    """Name and compute capability of the first device, as engines that are built for it are marked; None: none."""
    gpu = find_gpu()
    return None if gpu.name is None else f"{gpu.name} sm_{gpu.compute_capability}"
