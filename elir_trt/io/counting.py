"""How many frames a file holds, where its header does not say: counted while the work goes on."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from elir_trt.errors import MediaError
from elir_trt.extras import needs
from elir_trt.io.opening import open_video

with needs("av", extra="video", what="reading videos"):
    import av


class FrameCounter:
    """Counts the packets of a stream, in a thread of its own: reads the file, decodes nothing.

    Attributes:
        frames: how many; None: not counted yet.
    """

    def __init__(self, path: Path, stream: int) -> None:
        """Args: path: the file; stream: index of its stream."""
        self.frames: int | None = None
        self._path = path
        self._stream = stream
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="elir-count", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(av.error.FFmpegError, OSError, MediaError):
            container = open_video(self._path).container
            with contextlib.closing(container):
                count = 0
                for packet in container.demux(container.streams[self._stream]):
                    if self._stop.is_set():
                        return
                    count += bool(packet.size)
                self.frames = count

    def close(self) -> None:
        """Stop counting."""
        self._stop.set()
        self._thread.join()
