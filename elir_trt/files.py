"""Files and folders that others see either as they were or complete, and locks between processes.

What is written goes under a temporary name into the same folder and is renamed when it is complete. Whatever happens
before that, the old content stays.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path


def write_whole(path: Path, data: bytes | bytearray | memoryview) -> None:
    """Write a file in one step, with the rights of any new file.

    Raises:
        OSError: the folder or the disk refuses; an existing file is unchanged.
    """
    with written_whole(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def written_whole(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """An empty temporary file beside ``path``, with its suffix, that takes its place when the block succeeds.

    Args:
        path: of the file.
        durable: after a power cut too it is whole or not there, and once this returns it is there.

    Raises:
        OSError: the folder or the disk refuses; an existing file is unchanged.
    """
    temporary = _beside(path)
    # Made here and not by `tempfile`, whose files nobody else may read.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))
    try:
        yield temporary
        if durable:
            _sync(temporary)
        os.replace(temporary, path)
        if durable:
            _sync(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


@contextlib.contextmanager
def written_folder(path: Path) -> Iterator[Path]:
    """An empty temporary folder beside ``path`` that takes its place when the block succeeds.

    A folder that was there is removed then, and kept otherwise.

    Raises:
        OSError: the parent folder or the disk refuses.
    """
    temporary, old = _beside(path), _beside(path)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            os.rename(path, old)
        os.rename(temporary, path)
    except BaseException:
        if old.exists() and not path.exists():
            os.rename(old, path)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file or folder, which need not exist; other threads and processes wait.

    The lock is a file beside it, and its folder is made where there is none.

    Raises:
        OSError: the folder or the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / f".{path.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sync(path: Path) -> None:
    """Have the content of a file, or the names in a folder, on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _beside(path: Path) -> Path:
    # Names may be nearly as long as a file system allows.
    return path.parent / f".{path.stem[:40]}-{secrets.token_hex(4)}{path.suffix}"
