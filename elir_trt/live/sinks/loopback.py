"""A camera for other programs of this machine: a V4L2 loopback device."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import numpy as np

from elir_trt.errors import MediaError
from elir_trt.extras import needs
from elir_trt.io.colour import Converter, default_colour
from elir_trt.io.source import Frame
from elir_trt.live.fanout import LiveSink

with needs("av", extra="video", what="a loopback device"):
    import av

if TYPE_CHECKING:
    from elir_trt.stream import Result

_HINT = "sudo modprobe v4l2loopback exclusive_caps=1 makes one (Debian: apt install v4l2loopback-dkms)"


class Loopback(LiveSink):
    """Writes results to a loopback device, as YUV 4:2:0, through FFmpeg's device muxer.

    The device keeps the first frame's size; results of another are an error, because programs that look at it cannot
    follow.
    """

    pixel_format = "rgb24"

    def __init__(self, device: str) -> None:
        """Look at the device; it is opened with the first frame.

        Args:
            device: such as "/dev/video9".

        Raises:
            MediaError: there is none, or it may not be written.
        """
        self._device = device
        try:
            is_device = stat.S_ISCHR(os.stat(device).st_mode)
        except OSError as error:
            raise MediaError(f"{device}: {error.strerror}: {_HINT}") from None
        if not is_device:
            raise MediaError(f"{device}: this is no device: {_HINT}")
        if not os.access(device, os.W_OK):
            raise MediaError(f"{device}: you may not write to it: join the group 'video'")
        self._converter = Converter()
        self._container: Any = None
        self._stream: Any = None
        self._size: tuple[int, int] | None = None
        self._count = 0

    def write(self, result: Result, frame: Frame) -> None:
        """Write a result.

        Raises:
            MediaError: the device takes none, or the size changed.
        """
        pixels = result.frame
        # Chroma has half the size: an odd last row or column is left out.
        height, width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
        if self._size not in (None, (height, width)):
            assert self._size is not None
            raise MediaError(
                f"{self._device}: frames changed from {self._size[1]}x{self._size[0]} to {width}x{height}"
            )
        try:
            if self._container is None:
                self._open(height, width)
            colour = default_colour(height, width)
            rgb = np.ascontiguousarray(pixels[:height, :width])
            made = self._converter.from_rgb(rgb, colour, "yuv420p")
            made.pts = self._count
            self._count += 1
            for packet in self._stream.encode(made):
                self._container.mux(packet)
        except (av.error.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise MediaError(f"{self._device}: takes no frames: {reason}: {_HINT}") from None

    def _open(self, height: int, width: int) -> None:
        self._container = av.open(self._device, "w", format="v4l2")
        self._stream = self._container.add_stream("rawvideo", rate=30)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"
        self._size = (height, width)

    def close(self, *, complete: bool = True) -> None:
        """Let the device go."""
        container, self._container = self._container, None
        if container is not None:
            container.close()

    def abort(self) -> None:
        """Let the device go."""
        self.close()
