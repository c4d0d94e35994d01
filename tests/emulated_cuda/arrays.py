"""Arrays of the emulated GPU as DLPack's producers and consumers have them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dlpack_capsules import CUDA, Producer, Taken
from dlpack_capsules import take as take_capsule

from .emulated import DeviceMemory


class DLPackArray(Producer):
    """Unsigned numbers on the device for consumers: made on ``producer``, ``strides`` bytes apart."""

    def __init__(
        self,
        owner: DeviceMemory,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        producer: int,
        version: tuple[int, int] | None = (1, 1),
        word: int = 1,
    ) -> None:
        super().__init__(owner.address, CUDA, shape, strides, owner, version, word)
        self.producer = producer

    def __dlpack__(self, *, stream: int | None = None, **options: Any) -> Any:
        capsule = super().__dlpack__(stream=stream, **options)
        if stream is not None and stream != -1:
            self.owner.gpu.order(self.producer, stream)
        return capsule


@contextmanager
def take(array: Any, stream: int) -> Iterator[Taken]:
    """Take an array by DLPack for work on a stream, and give it back at the end."""
    with take_capsule(array.__dlpack__(stream=stream, max_version=(1, 1))) as taken:
        yield taken
