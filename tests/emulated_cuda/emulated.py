"""The emulated GPU from Python: its adversary, its counts, and memory, streams and engines as a library has them."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import sys
from ctypes import c_char_p, c_float, c_int, c_size_t, c_uint64, c_void_p
from typing import Any

import numpy as np

SCHEDULES = (
    "at_once",
    "oldest",
    "newest",
    "lazy",
    "uploads_last",
    "downloads_last",
    "compute_first",
    "random",
)
ELEMENTS = ("float32", "float16", "bfloat16")
UPLOAD, DOWNLOAD, ON_DEVICE = 1, 2, 3
NON_BLOCKING = 1
LEGACY = 1


def load_core(path: str) -> None:
    """Let this process have that module as its core."""
    spec = importlib.util.spec_from_file_location("elir_trt._core", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["elir_trt._core"] = module
    spec.loader.exec_module(module)


class Failed(RuntimeError):
    """A call of the emulated runtime that did not succeed; ``code`` is CUDA's number."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(f"{name}: error {code}")
        self.code = code


class Gpu:
    """What a module of the core has inside that was built by build.py."""

    def __init__(self, path: str) -> None:
        self.library = ctypes.CDLL(path)
        self.library.cudaMalloc.argtypes = [ctypes.POINTER(c_void_p), c_size_t]
        self.library.cudaHostAlloc.argtypes = [ctypes.POINTER(c_void_p), c_size_t, c_int]
        self.library.cudaMemcpyAsync.argtypes = [c_void_p, c_void_p, c_size_t, c_int, c_void_p]
        self.library.cudaEventRecord.argtypes = [c_void_p, c_void_p]
        self.library.cudaStreamWaitEvent.argtypes = [c_void_p, c_void_p, c_int]
        for name in (
            "cudaFree",
            "cudaFreeHost",
            "cudaStreamSynchronize",
            "cudaStreamDestroy",
            "cudaEventDestroy",
        ):
            getattr(self.library, name).argtypes = [c_void_p]
        self.library.emulated_reset.argtypes = [c_int, c_uint64]
        self.library.emulated_fail.argtypes = [c_char_p, c_int, c_int]
        self.library.emulated_counts.restype = self.library.emulated_trace.restype = c_char_p
        self.library.emulated_affine.argtypes = [
            c_void_p,
            c_void_p,
            c_void_p,
            c_size_t,
            c_int,
            c_float,
            c_float,
        ]
        self.library.emulated_sum.argtypes = [c_void_p, c_void_p, c_void_p, c_size_t]
        self.library.emulated_narrow.argtypes = [c_float, c_int]
        self.library.emulated_widen.restype = c_float

    def call(self, name: str, *arguments: Any) -> None:
        code = getattr(self.library, name)(*arguments)
        if code:
            raise Failed(name, code)

    def reset(self, schedule: str = "at_once", seed: int = 0) -> None:
        """Execute what is queued; from here on operations run in this order."""
        self.library.emulated_reset(SCHEDULES.index(schedule), seed)

    def set_device(self, devices: int = 1, integrated: bool = False, problem: int = 0) -> None:
        self.library.emulated_device(devices, int(integrated), problem)

    def fail(self, name: str, nth: int = 1, code: int = 2) -> None:
        """Let the nth call of this name from now on fail, with CUDA's "out of memory" by default."""
        self.library.emulated_fail(name.encode(), nth, code)

    @property
    def failure_is_pending(self) -> bool:
        return bool(self.library.emulated_failure_is_pending())

    def counts(self, clear: bool = False) -> dict[str, dict[str, int]]:
        """Calls, launches, executed operations and bytes since they were last cleared, and living objects."""
        found: dict[str, dict[str, int]] = json.loads(self.library.emulated_counts(int(clear)))
        return found

    def trace(self) -> list[str]:
        """Names of the operations that were executed last."""
        return str(self.library.emulated_trace(), "ascii").splitlines()

    def new_stream(self) -> int:
        handle = c_void_p()
        self.call("cudaStreamCreateWithFlags", ctypes.byref(handle), NON_BLOCKING)
        return int(handle.value or 0)

    def synchronize(self, stream: int = LEGACY) -> None:
        self.call("cudaStreamSynchronize", stream)

    def destroy_stream(self, stream: int) -> None:
        self.call("cudaStreamDestroy", stream)

    def order(self, before: int, after: int) -> None:
        """Let what is queued on a stream from here on come after what is queued on another."""
        event = c_void_p()
        self.call("cudaEventCreateWithFlags", ctypes.byref(event), 0)
        self.call("cudaEventRecord", event, before)
        self.call("cudaStreamWaitEvent", after, event, 0)
        self.call("cudaEventDestroy", event)

    def free_bytes(self) -> int:
        free, total = c_size_t(), c_size_t()
        self.call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def pinned(self, size: int) -> PinnedMemory:
        return PinnedMemory(self, size)

    def sum(self, stream: int, source: int, target: int, count: int) -> None:
        """Queue the sum of bytes, into 64 bits."""
        self.call("emulated_sum", stream, source, target, count)

    def finish(self) -> None:
        """Execute everything that is queued."""
        self.call("cudaDeviceSynchronize")

    def break_down(self, code: int = 700) -> None:
        """Let everything fail from here on, as after a kernel that read a wrong address."""
        self.library.emulated_break(code)

    def is_capturing(self, stream: int) -> bool:
        status = c_int()
        self.call("cudaStreamIsCapturing", c_void_p(stream), ctypes.byref(status))
        return status.value != 0

    def affine(
        self, stream: int, source: int, target: int, count: int, element: str, factor: float, offset: float
    ) -> None:
        """Queue target = factor * source + offset."""
        kind = ELEMENTS.index(element)
        self.call("emulated_affine", stream, source, target, count, kind, factor, offset)

    def upload(self, array: np.ndarray, stream: int = LEGACY) -> DeviceMemory:
        """A copy on the device, queued on the stream."""
        memory = DeviceMemory(self, array.nbytes)
        packed = np.ascontiguousarray(array)
        self.call("cudaMemcpyAsync", memory.address, packed.ctypes.data, packed.nbytes, UPLOAD, stream)
        return memory

    def download(
        self, address: int, shape: tuple[int, ...], type: Any = np.uint8, stream: int = LEGACY
    ) -> np.ndarray:
        """Numbers of the device, after what is queued on the stream."""
        array = np.empty(shape, type)
        self.call("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, DOWNLOAD, stream)
        return array


class PinnedMemory:
    """Page-locked memory of the CPU, freed with this object."""

    def __init__(self, gpu: Gpu, size: int) -> None:
        self.gpu, self.address = gpu, 0
        handle = c_void_p()
        gpu.call("cudaHostAlloc", ctypes.byref(handle), size, 0)
        self.address = int(handle.value or 0)

    @property
    def value(self) -> int:
        """The first 64 bits as a number."""
        return ctypes.c_uint64.from_address(self.address).value

    def __del__(self) -> None:
        self.gpu.library.cudaFreeHost(self.address)


class DeviceMemory:
    """Memory of the emulated device, freed with this object."""

    def __init__(self, gpu: Gpu, size: int) -> None:
        self.gpu, self.address = gpu, 0
        handle = c_void_p()
        gpu.call("cudaMalloc", ctypes.byref(handle), size)
        self.address = int(handle.value or 0)

    def __del__(self) -> None:
        self.gpu.library.cudaFree(self.address)
