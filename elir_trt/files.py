"""Files that are whole or not there: written under another name in the same folder, and renamed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give the name of an empty file beside ``path``; it becomes ``path`` when the block ends, in one step.

    It has the extension of ``path``. If the block raises it is removed, and an older ``path`` stays.

    Raises:
        OSError: the folder or the disk refuses.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.stem[:40]}-", suffix=path.suffix, dir=path.parent)
    os.close(descriptor)
    try:
        yield Path(name)
        # Temporary files start with fewer rights than a new file would have.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def write_whole(path: Path, data: bytes) -> None:
    """Write a file in one step.

    Raises:
        OSError: the folder or the disk refuses.
    """
    with written_whole(path) as temporary:
        temporary.write_bytes(data)
