"""DLPack's capsules in ctypes (dmlc.github.io/dlpack, "C API"): a producer and a consumer for tests."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_char_p, c_int, c_int32, c_int64, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from typing import Any

CPU, CUDA = 1, 2
READ_ONLY, IS_COPIED = 1, 2


class Tensor(ctypes.Structure):
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


class Managed(ctypes.Structure):
    """What a capsule held before version 1.0."""

    names = (b"dltensor", b"used_dltensor")
    tensor: Tensor


class Versioned(ctypes.Structure):
    """What a capsule holds from version 1.0 on."""

    names = (b"dltensor_versioned", b"used_dltensor_versioned")
    tensor: Tensor


Deleter = ctypes.CFUNCTYPE(None, c_void_p)
Managed._fields_ = (("tensor", Tensor), ("context", c_void_p), ("deleter", Deleter))
Versioned._fields_ = (
    ("major", c_uint32),
    ("minor", c_uint32),
    ("context", c_void_p),
    ("deleter", Deleter),
    ("flags", c_uint64),
    ("tensor", Tensor),
)


def _function(name: str, result: Any, *arguments: Any) -> Any:
    return ctypes.PYFUNCTYPE(result, *arguments)((name, ctypes.pythonapi))


_Destructor = ctypes.PYFUNCTYPE(None, c_void_p)
_new = _function("PyCapsule_New", ctypes.py_object, c_void_p, c_char_p, _Destructor)
_pointer = _function("PyCapsule_GetPointer", c_void_p, ctypes.py_object, c_char_p)
_rename = _function("PyCapsule_SetName", c_int, ctypes.py_object, c_char_p)
# Of a capsule that is being destroyed: it must not be counted as an object again.
_is_valid = _function("PyCapsule_IsValid", c_int, c_void_p, c_char_p)
_pointer_of_dying = _function("PyCapsule_GetPointer", c_void_p, c_void_p, c_char_p)

#: What was exported and not given back yet: address of what the capsule holds, and what must live as long.
exported: dict[int, tuple[Any, ...]] = {}
#: Addresses that deleters were called with, in their order.
deleted: list[int] = []


@Deleter
def _delete(address: int) -> None:
    deleted.append(address)
    exported.pop(address, None)


@_Destructor
def _destroy(capsule: int) -> None:
    for kind in (Managed, Versioned):
        if _is_valid(capsule, kind.names[0]):
            _delete(_pointer_of_dying(capsule, kind.names[0]))


class Producer:
    """Unsigned numbers in memory of a device for consumers, as a library has them.

    Args:
        address, device, shape, strides: of the memory; strides in bytes.
        owner: what the memory is gone with.
        version: of the capsules for those who know versions; None: the library does not.
        word: bytes of a number.
    """

    def __init__(
        self,
        address: int,
        device: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        owner: Any,
        version: tuple[int, int] | None = (1, 1),
        word: int = 1,
    ) -> None:
        self.address, self.device, self.shape, self.word = address, device, shape, word
        self.strides = tuple(step // word for step in strides)
        self.owner, self.version = owner, version

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0

    def __dlpack__(self, *, stream: int | None = None, **options: Any) -> Any:
        if self.version is None and options:
            raise TypeError(f"__dlpack__() got an unexpected keyword argument '{next(iter(options))}'")
        if self.version is None or (options.get("max_version") or (0, 0)) < (1, 0):
            return self.capsule(Managed())
        return self.capsule(Versioned(*self.version))

    def capsule(self, managed: Managed | Versioned, name: bytes | None = None) -> Any:
        sides, steps = (c_int64 * len(self.shape))(*self.shape), (c_int64 * len(self.shape))(*self.strides)
        managed.tensor = Tensor(
            self.address, self.device, 0, len(self.shape), 1, 8 * self.word, 1, sides, steps, 0
        )
        managed.deleter = _delete
        address = ctypes.addressof(managed)
        exported[address] = (managed, sides, steps, self.owner, name)
        return _new(address, name or managed.names[0], _destroy)


@dataclass(frozen=True)
class Taken:
    """An array of another library while a consumer has it."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    device: tuple[int, int]
    #: Version and flags; None: from before versions.
    version: tuple[int, int] | None
    flags: int | None


@contextmanager
def take(capsule: Any) -> Iterator[Taken]:
    """What a capsule holds, renamed as consumers do it, and given back at the end."""
    kind = Versioned if '"dltensor_versioned"' in repr(capsule) else Managed
    address = _pointer(capsule, kind.names[0])
    managed = kind.from_address(address)
    _rename(capsule, kind.names[1])
    tensor = managed.tensor
    versioned = isinstance(managed, Versioned)
    try:
        yield Taken(
            tensor.data + tensor.byte_offset,
            tuple(tensor.shape[: tensor.ndim]),
            tuple(tensor.strides[: tensor.ndim]),
            (tensor.device_type, tensor.device_id),
            (managed.major, managed.minor) if versioned else None,
            managed.flags if versioned else None,
        )
    finally:
        managed.deleter(address)
