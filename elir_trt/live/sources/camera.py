"""Cameras of this machine: V4L2, through OpenCV."""

from __future__ import annotations

import time
from collections.abc import Iterator

from elir_trt.errors import MediaError
from elir_trt.extras import needs
from elir_trt.io.source import Source
from elir_trt.live.frame import LiveFrame

with needs("cv2", extra="image", what="a camera of this machine"):
    import cv2

# A stamp that is further from now is of another clock than the system's monotonic one.
_CREDIBLE_S = 10.0


class Camera(Source):
    """The frames of a V4L2 device. The driver's time stamps are kept: they say when the sensor was read."""

    pixel_format = "bgr24"
    live = True

    def __init__(
        self,
        device: str,
        *,
        size: tuple[int, int] | None = None,
        rate: float | None = None,
        fourcc: str | None = None,
    ) -> None:
        """Open the device.

        Args:
            device: such as "/dev/video0".
            size: height and width to ask for; None: the driver's choice. It may give the nearest that it has.
            rate: frames per second to ask for.
            fourcc: how pixels travel, four letters: "MJPG" gives many USB cameras their full rate.

        Raises:
            MediaError: the device does not open, or does not give what was asked for.
        """
        if fourcc is not None and len(fourcc) != 4:
            raise MediaError(f"fourcc is {fourcc!r}; expected four letters, such as MJPG or YUYV")
        self._device = device
        wanted: list[int] = []
        if fourcc is not None:  # before the size: it decides which sizes there are
            wanted += [cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*fourcc)]
        if size is not None:
            wanted += [cv2.CAP_PROP_FRAME_WIDTH, size[1], cv2.CAP_PROP_FRAME_HEIGHT, size[0]]
        if rate is not None:
            wanted += [cv2.CAP_PROP_FPS, round(rate)]
        # Frames that wait in the driver are late; one is being filled meanwhile.
        wanted += [cv2.CAP_PROP_BUFFERSIZE, 2]
        self._capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise MediaError(
                f"{device}: this camera does not open: there is none, another program has it, "
                "or you are not in the group 'video'"
            )
        for name, value in zip(wanted[::2], wanted[1::2], strict=True):
            self._capture.set(name, value)
        height = round(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        width = round(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        if size is not None and (height, width) != size:
            self._capture.release()
            raise MediaError(
                f"{device}: it gives {width}x{height}, not {size[1]}x{size[0]}; "
                f"v4l2-ctl --device {device} --list-formats-ext shows what it has"
            )
        self.size = (height, width)
        self._stopped = False

    def __iter__(self) -> Iterator[LiveFrame]:
        """Give frames as they come; ends when the driver gives none: the camera was unplugged."""
        while not self._stopped:
            done, pixels = self._capture.read()
            if not done:
                return
            now_s = time.monotonic()
            stamp_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
            credible = 0.0 <= now_s - stamp_s < _CREDIBLE_S
            captured_s = stamp_s if credible else now_s
            yield LiveFrame(pixels, stamp_s or None, self._device, captured_s=captured_s)

    def stop(self) -> None:
        """End the iteration after the next frame, or after the driver's time-out."""
        self._stopped = True

    def close(self) -> None:
        """Let the device go."""
        self._capture.release()
