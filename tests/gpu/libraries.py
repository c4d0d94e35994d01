"""What tests do on a GPU beside the core, with torch on a real one and with the emulated one's own means."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np

from elir_trt import _core

#: The simple parts of the tests: from, to, and the factor between them.
PARTS = {
    "encoder": ("image", "encoded", 1.0),
    "coarse": ("encoded", "coarse", 1.0),
    "velocity": ("latent", "velocity", -0.25),
    "decoder": ("latent", "decoded", 1.0),
}

Enqueue = Callable[[int], None]


class Library(Protocol):
    """Parts, arrays and streams of a GPU."""

    #: What the emulated GPU can be asked and told beside this; None on a real one.
    emulated: Any

    def parts(self, core: _core.Stream) -> dict[str, Enqueue]:
        """PARTS over the buffers of a stream."""

    def array(self, frame: np.ndarray, kind: str) -> Any:
        """A copy of a frame on the GPU, as ``kind`` of KINDS: who made it, and what it shows of itself."""

    def to_host(self, array: Any) -> np.ndarray:
        """A result that is on the GPU."""

    def address(self, array: Any) -> int:
        """Where an array of ``array`` lies."""

    def wait(self) -> None:
        """Until all that was queued by this library is done."""

    def sums(self, arrays: list[Any]) -> list[int]:
        """Sums of results, each queued while it is held, and read when none of them is any more."""

    def free_bytes(self) -> int:
        """Memory of the GPU that nobody has."""


#: By DLPack; by CUDA's array interface without a stream, and with the one on which it was made; rows apart.
KINDS = ("dlpack", "interface", "stream", "pitched")


class CudaArray:
    """What PyCUDA and Numba show of their arrays."""

    def __init__(
        self, address: int, shape: tuple[int, ...], strides: tuple[int, ...], stream: int | None, owner: Any
    ) -> None:
        self.owner, self.shape, self.dtype = owner, shape, np.dtype(np.uint8)
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": "|u1",
            "data": (address, False),
            "strides": strides,
            "version": 3,
            **({} if stream is None else {"stream": stream}),
        }


class TorchLibrary:
    """By torch, on a real GPU."""

    emulated = None

    def __init__(self) -> None:
        import torch

        self.torch = torch

    def parts(self, core: _core.Stream) -> dict[str, Enqueue]:
        torch = self.torch
        tensors = {
            name: torch.from_dlpack(core.view(name))
            for name in {n for source, target, _ in PARTS.values() for n in (source, target)}
        }

        def run(source: str, target: str, factor: float, handle: int) -> None:
            with torch.cuda.stream(torch.cuda.ExternalStream(handle)):
                torch.mul(tensors[source], factor, out=tensors[target])

        return {part: partial(run, *entry) for part, entry in PARTS.items()}

    def array(self, frame: np.ndarray, kind: str) -> Any:
        tensor = self.torch.from_numpy(frame).cuda()
        if kind == "dlpack":
            return tensor
        if kind == "pitched":
            height, width, *channels = tensor.shape
            padded = tensor.new_empty((height, width + 7, *channels))
            padded[:, :width] = tensor
            return padded[:, :width]
        stream = (self.torch.cuda.current_stream().cuda_stream or 1) if kind == "stream" else None
        return CudaArray(tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()), stream, tensor)

    def to_host(self, array: Any) -> np.ndarray:
        viewed = self.torch.as_tensor(array, device="cuda").cpu().numpy()
        found: np.ndarray = self.torch.from_dlpack(array).cpu().numpy()
        np.testing.assert_array_equal(found, viewed)
        return found

    def address(self, array: Any) -> int:
        return int(array.data_ptr())

    def wait(self) -> None:
        self.torch.cuda.synchronize()

    def sums(self, arrays: list[Any]) -> list[int]:
        busy = self.torch.rand(2048, 2048, device="cuda")
        sums = []
        while arrays:
            busy = busy @ busy / 2048
            sums.append(self.torch.from_dlpack(arrays.pop(0)).long().sum())
        return [int(value) for value in sums]

    def free_bytes(self) -> int:
        return int(self.torch.cuda.mem_get_info()[0])


class EmulatedLibrary:
    """By the emulated GPU."""

    def __init__(self, path: str) -> None:
        from emulated_cuda.emulated import Gpu

        self.emulated = Gpu(path)

    def parts(self, core: _core.Stream) -> dict[str, Enqueue]:
        # The parts hold numbers alone: one that held the stream would keep it for ever.
        def part(source: str, target: str, factor: float) -> Enqueue:
            count = int(np.prod(core.shape(target)))
            addresses = core.address(source), core.address(target)
            element = core.element(target)
            return lambda stream: self.emulated.affine(stream, *addresses, count, element, factor, 0.0)

        return {name: part(*entry) for name, entry in PARTS.items()}

    def array(self, frame: np.ndarray, kind: str) -> Any:
        from emulated_cuda.arrays import DLPackArray

        stream = 1 if kind == "interface" else self.emulated.new_stream()
        memory = frame
        if kind == "pitched":
            memory = np.zeros((frame.shape[0], frame.shape[1] + 7, *frame.shape[2:]), frame.dtype)
            memory[:, : frame.shape[1]] = frame
        owner = self.emulated.upload(memory, stream)
        if kind in ("dlpack", "pitched"):
            return DLPackArray(owner, frame.shape, memory.strides, stream, word=frame.itemsize)
        return CudaArray(
            owner.address, frame.shape, memory.strides, stream if kind == "stream" else None, owner
        )

    def to_host(self, array: Any) -> np.ndarray:
        from emulated_cuda.arrays import take

        shown = array.__cuda_array_interface__
        type = np.dtype(shown["typestr"])
        viewed = self.emulated.download(shown["data"][0], tuple(shown["shape"]), type)
        with take(array, 1) as taken:
            found = self.emulated.download(taken.address, taken.shape, type)
        np.testing.assert_array_equal(found, viewed)
        return found

    def address(self, array: Any) -> int:
        return int(array.owner.address)

    def wait(self) -> None:
        self.emulated.call("cudaDeviceSynchronize")

    def sums(self, arrays: list[Any]) -> list[int]:
        from emulated_cuda.arrays import take

        found = []
        while arrays:
            array = arrays.pop(0)
            total = self.emulated.pinned(8)
            with take(array, 1) as taken:
                self.emulated.sum(1, taken.address, total.address, int(np.prod(taken.shape)))
            found.append(total)
        self.emulated.synchronize(1)
        return [total.value for total in found]

    def free_bytes(self) -> int:
        gc.collect()
        return self.emulated.free_bytes()


def library() -> Library:
    """That of the GPU which this process has."""
    emulated = os.environ.get("ELIR_TRT_EMULATED_CORE")
    return EmulatedLibrary(emulated) if emulated else TorchLibrary()
