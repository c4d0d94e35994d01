"""Which frames of a video are wanted: from a time on, for a time, every so many."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from elir_trt.errors import MediaError


@dataclass(frozen=True)
class Selection:
    """A part of a video.

    Attributes:
        start_s: seconds from the file's start; the result's times count from there.
        duration_s: seconds; None: up to the end.
        every: of the frames in that span the first and each so many after it.
    """

    start_s: float = 0.0
    duration_s: float | None = None
    every: int = 1

    def __post_init__(self) -> None:
        """Raises: MediaError: a value is out of its range."""
        if not (math.isfinite(self.start_s) and self.start_s >= 0):
            raise MediaError(f"start is {self.start_s}; expected seconds, 0 or more")
        if self.duration_s is not None and not (math.isfinite(self.duration_s) and self.duration_s > 0):
            raise MediaError(f"duration is {self.duration_s}; expected seconds, more than 0")
        if self.every < 1:
            raise MediaError(f"every is {self.every}; expected 1 or more")

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return self == Selection()

    @property
    def begin(self) -> Fraction:
        """Seconds, as the number was written: 0.4 is two fifths."""
        return Fraction(str(self.start_s))

    @property
    def length(self) -> Fraction | None:
        """Seconds, as the number was written."""
        return None if self.duration_s is None else Fraction(str(self.duration_s))

    def start(self, time_base: Fraction) -> int:
        """The first tick that is wanted."""
        return math.ceil(self.begin / time_base)

    def end(self, time_base: Fraction) -> int | None:
        """The first tick that is no longer wanted."""
        return None if self.length is None else math.ceil((self.begin + self.length) / time_base)
