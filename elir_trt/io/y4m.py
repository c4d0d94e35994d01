"""Videos to standard output: raw frames as yuv4mpeg, which FFmpeg, x264 and players read."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from elir_trt.errors import MediaError
from elir_trt.extras import needs
from elir_trt.io.compare import side_by_side
from elir_trt.io.encoding import EncodeOptions, FrameMaker, choose, wanted_format
from elir_trt.io.reader import VideoReader
from elir_trt.io.sink import Sink
from elir_trt.io.source import Frame
from elir_trt.io.standard import open_standard_output, refusal
from elir_trt.io.video_frame import VideoFrame

with needs("av", extra="video", what="writing videos"):
    import av

if TYPE_CHECKING:
    from elir_trt.stream import Result

_CONTAINER, _CODEC = "yuv4mpegpipe", "wrapped_avframe"


class Y4mSink(Sink):
    """Writes results to standard output, frame by frame, as 4:2:0, 4:2:2 or 4:4:4 as the source has them.

    The format states size, rate and range: other streams, times that are uneven, and tags are left out.

    Attributes:
        notes: what of the source is not kept.
    """

    finish_on_interrupt = True

    def __init__(
        self, *, template: VideoReader, compare: bool = False, options: EncodeOptions | None = None
    ) -> None:
        """Begin.

        Args:
            template: the source.
            compare: write before and after side by side.
            options: of which the pixel format is taken.

        Raises:
            MediaError: another option is given: nothing is encoded.
        """
        options = options or EncodeOptions()
        if (options.codec, options.crf, options.preset) != (None, None, None):
            raise MediaError(
                "standard output gets raw frames (yuv4mpeg): --codec, --crf, --preset have no place"
            )
        self.pixel_format = template.pixel_format
        self._template = template
        self._compare = compare
        self._asked = options.pixel_format
        self._rate = Fraction(template.rate or 25) / template.selection.every
        self._container: Any = None
        self._descriptor: int | None = None
        self._count = 0
        self._last_pts: int | None = None
        self._uneven = False
        self._losses: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the source is not kept, as far as it went through."""
        others = len(self._template.container.streams) > 1
        found = list(self._losses)
        found += ["sound and other streams are left out: yuv4mpeg has none"] if others else []
        found += [f"times are left out: yuv4mpeg has one rate, {float(self._rate):g}"] if self._uneven else []
        return tuple(found)

    def _begin(self, size: tuple[int, int]) -> None:
        stored = self._asked or wanted_format(self._template, size).replace("yuva", "yuv")
        options = EncodeOptions(codec=_CODEC, pixel_format=stored)
        encoding, self._losses = choose(_CONTAINER, self._template, size, self._rate, options)
        # Frames are numbered: there is one rate.
        encoding = replace(encoding, time_base=1 / self._rate, options={})
        self._make = FrameMaker(encoding)
        self._descriptor = open_standard_output()
        self._container = av.open(
            os.fdopen(self._descriptor, "wb", closefd=False),
            "w",
            format=_CONTAINER,
            options={"strict": "-1"},  # more than 8 bits
        )
        self._stream = self._container.add_stream(_CODEC, rate=self._rate)
        encoding.configure(self._stream.codec_context)

    def write(self, result: Result, frame: Frame) -> None:
        """Write a frame.

        Raises:
            MediaError: whoever reads has gone, or the pixel format is none of yuv4mpeg's.
        """
        assert isinstance(frame, VideoFrame)
        pixels = side_by_side(frame.pixels, result.frame) if self._compare else result.frame
        step = 1 / (self._rate * frame.time_base)
        if self._last_pts is not None and abs(frame.pts - self._last_pts - step) > 2:
            self._uneven = True
        self._last_pts = frame.pts
        try:
            if self._container is None:
                self._begin((int(pixels.shape[0]), int(pixels.shape[1])))
            self._container.mux(self._stream.encode(self._make(pixels, self._count, 1)))
        except (av.error.FFmpegError, OSError) as error:
            raise refusal(error) from None
        self._count += 1

    def close(self, *, complete: bool = True) -> None:
        """Finish what was written.

        Raises:
            MediaError: whoever reads has gone.
        """
        try:
            if self._container is not None:
                self._container.mux(self._stream.encode(None))
                self._container.close()
        except (av.error.FFmpegError, OSError) as error:
            raise refusal(error) from None
        finally:
            self._drop()

    def abort(self) -> None:
        """Write no more."""
        if self._container is not None:
            with contextlib.suppress(av.error.FFmpegError, OSError):
                self._container.close()
        self._drop()

    def _drop(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._container = self._descriptor = None
