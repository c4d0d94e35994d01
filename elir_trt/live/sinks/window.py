"""A window on this machine's screen, through OpenCV."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from elir_trt.errors import MediaError, MissingPackageError
from elir_trt.extras import needs
from elir_trt.io.source import Frame
from elir_trt.live.fanout import LiveSink

with needs("cv2", extra="image", what="a window"):
    import cv2

if TYPE_CHECKING:
    from elir_trt.stream import Result

_KEYS = (ord("q"), 27)


class Window(LiveSink):
    """Shows the newest result. ``q``, Escape, or closing the window end the run."""

    pixel_format = "bgr24"

    def __init__(self, title: str = "elir_trt") -> None:
        """Look whether windows can be shown; it opens with the first frame.

        Raises:
            MissingPackageError: this OpenCV was built without windows.
            MediaError: there is no screen.
        """
        gui = next((line for line in cv2.getBuildInformation().splitlines() if "GUI:" in line), "")
        if "NONE" in gui:
            raise MissingPackageError(
                "a window needs an OpenCV with windows; this one is opencv-python-headless: pip uninstall it and "
                "pip install opencv-python, or look at the page: --serve 127.0.0.1:8080",
                name="cv2",
            )
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise MediaError(
                "a window needs a screen, and neither DISPLAY nor WAYLAND_DISPLAY is set; "
                "--serve 127.0.0.1:8080 shows a page instead"
            )
        self._title = title
        self._shown = False

    def write(self, result: Result, frame: Frame) -> None:
        """Show a result; returns when the screen has it."""
        cv2.imshow(self._title, result.frame)
        key = cv2.waitKey(1) & 0xFF
        closed = self._shown and cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
        self._shown = True
        self.done = key in _KEYS or closed

    def close(self, *, complete: bool = True) -> None:
        """Close the window."""
        if self._shown:
            cv2.destroyWindow(self._title)

    def abort(self) -> None:
        """Close the window."""
        self.close()
