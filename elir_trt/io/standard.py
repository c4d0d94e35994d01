"""Standard input and standard output as files: what is in them, and nothing but data in what is written."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from elir_trt.errors import MediaError
from elir_trt.io.headers import image_format

_INPUT, _OUTPUT = 0, 1
_START_BYTES = 16


class StandardInput:
    """Standard input, whose first bytes can be looked at before it is read."""

    def __init__(self) -> None:
        self._start = b""
        self._looked = False

    def holds_image(self) -> bool:
        """Whether an image comes, by its first bytes; waits for them."""
        while not self._looked and len(self._start) < _START_BYTES:
            more = os.read(_INPUT, _START_BYTES - len(self._start))
            if not more:
                break
            self._start += more
        self._looked = True
        return image_format(self._start) is not None

    def read(self, size: int = -1) -> bytes:
        """Bytes, as those of a file that is open."""
        if size < 0:
            return b"".join(iter(functools.partial(self.read, 1 << 20), b""))
        if self._start:
            data, self._start = self._start[:size], self._start[size:]
            return data
        return os.read(_INPUT, size)


@functools.cache
def standard_input() -> StandardInput:
    """That of this process: whoever reads goes on where others were."""
    return StandardInput()


@contextlib.contextmanager
def image_of_standard_input() -> Iterator[Path]:
    """A file with what comes on standard input, as long as the block lasts.

    Raises:
        MediaError: it cannot be kept.
    """
    with tempfile.TemporaryDirectory(prefix="elir-") as folder:
        path = Path(folder) / "standard input"
        try:
            path.write_bytes(standard_input().read())
        except OSError as error:
            raise MediaError(f"standard input: cannot be read: {error.strerror or error}") from None
        yield path


@contextlib.contextmanager
def image_for_standard_output() -> Iterator[Path]:
    """A name for an image that goes to standard output, whole, at the end of the block.

    Raises:
        MediaError: whoever reads standard output has gone.
    """
    with tempfile.TemporaryDirectory(prefix="elir-") as folder:
        path = Path(folder) / "standard output.png"
        yield path
        try:
            with open(path, "rb") as file, os.fdopen(os.dup(_OUTPUT), "wb") as out:
                shutil.copyfileobj(file, out)
        except OSError as error:
            raise refusal(error) from None


def open_standard_output() -> int:
    """A descriptor of standard output for data. Close it."""
    return os.dup(_OUTPUT)


def refusal(error: Exception) -> MediaError:
    """The error for a standard output that cannot be written."""
    reason = getattr(error, "strerror", None) or error
    return MediaError(f"standard output: cannot be written: {reason}")
