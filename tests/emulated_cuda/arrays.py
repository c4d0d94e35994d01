"""Arrays of the emulated GPU as DLPack's producers and consumers have them (dmlc.github.io/dlpack, "C API")."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_int32, c_int64, c_uint8, c_uint16, c_uint64, c_void_p
from dataclasses import dataclass
from typing import Any

from .emulated import DeviceMemory

CUDA = 2


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", c_void_p),
        ("device_type", c_int32),
        ("device_id", c_int32),
        ("ndim", c_int32),
        ("code", c_uint8),
        ("bits", c_uint8),
        ("lanes", c_uint16),
        ("shape", ctypes.POINTER(c_int64)),
        ("strides", ctypes.POINTER(c_int64)),
        ("byte_offset", c_uint64),
    )


class _Managed(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = (("tensor", _Tensor), ("context", c_void_p), ("deleter", _Deleter))

_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = ctypes.py_object, [c_void_p, ctypes.c_char_p, c_void_p]
_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype, _pointer_of.argtypes = c_void_p, [ctypes.py_object, ctypes.c_char_p]
_rename = ctypes.pythonapi.PyCapsule_SetName
_rename.argtypes = [ctypes.py_object, ctypes.c_char_p]
_NAME, _USED = b"dltensor", b"used_dltensor"

#: What was exported and not given back yet: address of the managed tensor, and what must live as long.
_exported: dict[int, tuple[Any, ...]] = {}


@_Deleter
def _delete(managed: Any) -> None:
    _exported.pop(ctypes.addressof(managed.contents), None)


class DLPackArray:
    """Unsigned numbers on the device for consumers: made on ``stream``, ``strides`` bytes apart."""

    def __init__(
        self,
        owner: DeviceMemory,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        stream: int,
        word: int = 1,
    ) -> None:
        self.owner, self.shape, self.stream, self.word = owner, shape, stream, word
        self.strides = tuple(step // word for step in strides)

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, 0

    def __dlpack__(self, *, stream: int | None = None, **_: object) -> Any:
        if stream is not None and stream != -1:
            self.owner.gpu.order(self.stream, stream)
        sides, steps = (c_int64 * len(self.shape))(*self.shape), (c_int64 * len(self.shape))(*self.strides)
        managed = _Managed()
        managed.tensor = _Tensor(
            self.owner.address, CUDA, 0, len(self.shape), 1, 8 * self.word, 1, sides, steps, 0
        )
        managed.deleter = _delete
        _exported[ctypes.addressof(managed)] = (managed, sides, steps, self.owner)
        return _new_capsule(ctypes.addressof(managed), _NAME, None)


@dataclass(frozen=True)
class Taken:
    """An array of another library while a consumer has it."""

    address: int
    shape: tuple[int, ...]


@contextmanager
def take(array: Any, stream: int) -> Iterator[Taken]:
    """Take an array by DLPack for work on a stream, and give it back at the end."""
    capsule = array.__dlpack__(stream=stream)
    managed = _Managed.from_address(_pointer_of(capsule, _NAME))
    _rename(capsule, _USED)
    tensor = managed.tensor
    try:
        yield Taken(tensor.data + tensor.byte_offset, tuple(tensor.shape[: tensor.ndim]))
    finally:
        managed.deleter(ctypes.pointer(managed))
