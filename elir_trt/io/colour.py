"""From a video's colours to RGB and back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from elir_trt.extras import needs

with needs("av", extra="video", what="reading and writing videos"):
    import av
    from av.video.reformatter import VideoReformatter

UNSPECIFIED = 2
LIMITED, FULL = 1, 2
BT709, BT601, BT2020 = 1, 6, 9
PQ, HLG = 16, 18
# The fast paths of swscale repeat chroma instead of interpolating it, and are up to 2 levels off. As numbers
# (SWS_BICUBIC, SWS_ACCURATE_RND, SWS_FULL_CHR_H_INT), because PyAV 17 takes them but has no names for them.
_FLAGS = 0x4 | 0x40000 | 0x2000


@dataclass(frozen=True)
class Colour:
    """How YCbCr samples mean colours: the numbers are those of ISO/IEC 23091-2 (H.273).

    Attributes:
        matrix: 1 BT.709, 5 and 6 BT.601, 9 BT.2020.
        full_range: luma from 0 to 255, not 16 to 235.
        primaries, transfer: carried along; 2 is unspecified.
        limited_grey: the file says of a grey frame that it goes from 16 to 235; else grey is taken as full.
    """

    matrix: int
    full_range: bool = False
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    limited_grey: bool = False

    @property
    def hdr(self) -> bool:
        """Whether the transfer is one of high dynamic range (PQ or HLG)."""
        return self.transfer in (PQ, HLG)


def default_colour(height: int, width: int) -> Colour:
    """What players take without tags: BT.709 from 1280 wide or more than 576 high, else BT.601."""
    return Colour(BT709 if width >= 1280 or height > 576 else BT601)


def colour_of(frame: av.VideoFrame) -> Colour:
    """The colours of a decoded frame: its tags, and what players take where they are missing."""
    colour = default_colour(frame.height, frame.width)
    matrix = int(frame.colorspace)
    if matrix in (1, 4, 5, 6, 7, 9):
        colour = replace(colour, matrix=matrix)
    full = int(frame.color_range) == FULL or frame.format.name.startswith("yuvj")
    return replace(
        colour,
        full_range=full,
        limited_grey=int(frame.color_range) == LIMITED,
        primaries=int(frame.color_primaries) or UNSPECIFIED,
        transfer=int(frame.color_trc) or UNSPECIFIED,
    )


class Converter:
    """Converts frames to RGB and back; keep one for a file: setting it up costs as much as a frame."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def to_rgb(
        self, frame: av.VideoFrame, colour: Colour, size: tuple[int, int], *, deep: bool = False
    ) -> npt.NDArray[Any]:
        """A decoded frame as ``[H, W, 3]``.

        Args:
            frame: as decoded.
            colour: of the frame.
            size: height and width of the result; the frame is scaled if it has another.
            deep: as uint16, all 16 bits of it; else uint8.
        """
        if frame.format.name == "gray" and (frame.height, frame.width) == size and not colour.limited_grey:
            grey = np.repeat(frame.to_ndarray()[:, :, None], 3, axis=2)
            return np.ascontiguousarray(grey.astype(np.uint16) * 257 if deep else grey)
        full = colour.full_range or frame.format.is_rgb
        pixel_format = "rgb48le" if deep else "rgb24"
        converted = self._convert(frame, colour, pixel_format, FULL if full else LIMITED, FULL, size)
        return np.ascontiguousarray(converted.to_ndarray())

    def to_alpha(
        self, frame: av.VideoFrame, colour: Colour, size: tuple[int, int], *, deep: bool = False
    ) -> npt.NDArray[Any]:
        """How opaque a frame with alpha is, ``[H, W]``, of the type of :meth:`to_rgb`."""
        pixel_format = "rgba64le" if deep else "rgba"
        converted = self._convert(frame, colour, pixel_format, FULL, FULL, size)
        return np.ascontiguousarray(converted.to_ndarray()[:, :, 3])

    def from_rgb(
        self,
        rgb: npt.NDArray[Any],
        colour: Colour,
        pixel_format: str,
        alpha: npt.NDArray[Any] | None = None,
    ) -> av.VideoFrame:
        """A frame for the encoder, of the colour's range, from ``[H, W, 3]`` uint8 or uint16."""
        deep = rgb.dtype == np.uint16
        if alpha is not None:
            rgb = np.dstack([rgb, alpha])
            name = "rgba64le" if deep else "rgba"
        else:
            name = "rgb48le" if deep else "rgb24"
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format=name)
        return self._convert(
            frame, colour, pixel_format, FULL, FULL if colour.full_range else LIMITED, rgb.shape[:2]
        )

    def _convert(
        self,
        frame: av.VideoFrame,
        colour: Colour,
        pixel_format: str,
        source_range: int,
        range_: int,
        size: tuple[int, ...],
    ) -> av.VideoFrame:
        return self._reformatter.reformat(
            frame,
            width=size[1],
            height=size[0],
            format=pixel_format,
            src_colorspace=colour.matrix,
            dst_colorspace=colour.matrix,
            src_color_range=source_range,
            dst_color_range=range_,
            interpolation=_FLAGS,
            # More threads cost more to wake for each frame than they save.
            threads=1,
        )
