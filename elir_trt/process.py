"""The process that something was opened in: threads, and with them engines and streams, do not survive a fork."""

from __future__ import annotations

import os

from elir_trt.errors import DeviceError


class Process:
    """The process that it was made in."""

    def __init__(self) -> None:
        self._id = os.getpid()

    def is_current(self) -> bool:
        """False in a process that was forked from it."""
        return os.getpid() == self._id

    def require(self, what: str) -> None:
        """Check that ``what`` is used in this process.

        Raises:
            DeviceError: this process was forked from it.
        """
        if not self.is_current():
            raise DeviceError(
                f"this {what} was opened in process {self._id}, and this is {os.getpid()}, forked from it: threads "
                "do not survive a fork; open the bundle again here, or start processes with the method 'spawn'"
            )
