"""Mastering display and light levels of HDR10: read from decoded frames, handed to encoders."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import av

# Units of SMPTE ST 2086 as HEVC stores them: chromaticity, and candela per square metre.
_CHROMATICITY = Fraction(1, 50000)
_LUMINANCE = Fraction(1, 10000)


@dataclass(frozen=True)
class Mastering:
    """What a film's colours were judged on.

    Attributes:
        primaries: x and y of red, green, blue and white; None: not stated.
        luminance: least and greatest of the display, in candela per square metre; None: not stated.
        light_levels: MaxCLL and MaxFALL, in candela per square metre; None: not stated.
    """

    primaries: tuple[tuple[Fraction, Fraction], ...] | None
    luminance: tuple[Fraction, Fraction] | None
    light_levels: tuple[int, int] | None

    def x265(self) -> list[str]:
        """Parameters of x265."""
        found = ["hdr10=1", "repeat-headers=1"]
        if self.primaries and self.luminance:
            red, green, blue, white = (
                f"({round(x / _CHROMATICITY)},{round(y / _CHROMATICITY)})" for x, y in self.primaries
            )
            low, high = (round(value / _LUMINANCE) for value in self.luminance)
            found.append(f"master-display=G{green}B{blue}R{red}WP{white}L({high},{low})")
        if self.light_levels:
            found.append("max-cll={},{}".format(*self.light_levels))
        return found

    def svtav1(self) -> list[str]:
        """Parameters of SVT-AV1."""
        found = []
        if self.primaries and self.luminance:
            red, green, blue, white = (f"({float(x):.5f},{float(y):.5f})" for x, y in self.primaries)
            low, high = (float(value) for value in self.luminance)
            found.append(f"mastering-display=G{green}B{blue}R{red}WP{white}L({high:.4f},{low:.4f})")
        if self.light_levels:
            found.append("content-light={},{}".format(*self.light_levels))
        return found


def mastering_of(frame: av.VideoFrame) -> Mastering | None:
    """What a decoded frame states, or None if nothing."""
    primaries = luminance = levels = None
    side_data: Any = frame.side_data  # typed as a dict, but it is a sequence
    for item in side_data:
        name, data = item.type.name, bytes(item)
        if name == "MASTERING_DISPLAY_METADATA" and len(data) >= 88:
            # AVMasteringDisplayMetadata: ten rationals, then whether the two groups of them are set.
            numbers = struct.unpack("=22i", data[:88])
            values = [
                Fraction(n, d) if d else Fraction(0) for n, d in zip(*[iter(numbers[:20])] * 2, strict=True)
            ]
            if numbers[20]:
                primaries = tuple(zip(values[0:8:2], values[1:8:2], strict=True))
            if numbers[21]:
                luminance = (values[8], values[9])
        elif name == "CONTENT_LIGHT_LEVEL" and len(data) >= 8:
            levels = struct.unpack("=2I", data[:8])
    if primaries is None and luminance is None and levels is None:
        return None
    return Mastering(primaries, luminance, levels)
