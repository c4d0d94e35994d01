"""To others on the network: RTSP, RTMP, SRT and MPEG-TS over UDP, through FFmpeg (PyAV)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from elir_trt.errors import MediaError
from elir_trt.extras import needs
from elir_trt.io.encoding import EncodeOptions
from elir_trt.io.source import Frame
from elir_trt.live.fanout import LiveSink
from elir_trt.live.sinks.encoding import FrameTimer, LiveEncodeOptions, LiveEncoder, live_encoding
from elir_trt.live.source import Reconnecting

with needs("av", extra="video", what="sending video"):
    import av

if TYPE_CHECKING:
    from elir_trt.stream import Result

FORMATS = {
    "rtsp": "rtsp",
    "rtsps": "rtsp",
    "rtmp": "flv",
    "srt": "mpegts",
    "udp": "mpegts",
    "tcp": "mpegts",
}
"""FFmpeg's container for each kind of address."""

_TIMEOUT_US = "5000000"


class Broadcast(LiveSink):
    """Sends results to an address: publishes to an RTSP or RTMP server, calls an SRT listener, sends UDP.

    When the other side goes, frames are lost until it takes them again: it is tried with waits that grow.
    """

    queue = 4
    pixel_format = "rgb24"

    def __init__(
        self,
        address: str,
        *,
        options: LiveEncodeOptions | None = None,
        transport: str = "tcp",
        reconnecting: Reconnecting | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Check the address; it is called with the first frame, which tells the size.

        Args:
            address: beginning with a key of :data:`FORMATS` and "://".
            options: of the encoder.
            transport: of RTSP, "tcp" or "udp".
            reconnecting: how to come back.
            say: called with a line when the other side goes or comes.

        Raises:
            MediaError: FFmpeg here sends to no such address.
        """
        self._address = address
        scheme = address.partition("://")[0].lower()
        if scheme not in FORMATS:
            raise MediaError(f"{address}: expected an address with {', '.join(FORMATS)}")
        self._format = FORMATS[scheme]
        self._options = options or LiveEncodeOptions(EncodeOptions(codec="h264", crf=23), low_delay=True)
        self._container_options = {"rw_timeout": _TIMEOUT_US}
        if self._format == "rtsp":
            self._container_options = {"rtsp_transport": transport, "timeout": _TIMEOUT_US}
        self._reconnecting = reconnecting or Reconnecting()
        self._say = say
        self._container: Any = None
        self._encoder: LiveEncoder | None = None
        self._stream: Any = None
        self._size: tuple[int, int] | None = None
        self._tries = 0
        self._again_s = 0.0
        if scheme == "srt" and not _has_protocol(address):
            raise MediaError(
                f"{address}: PyAV's wheels have no SRT: build PyAV against an FFmpeg with libsrt (pip install "
                "--no-binary av av), or send rtsp, rtmp or udp"
            )

    def write(self, result: Result, frame: Frame) -> None:
        """Send a result, or lose it where nobody takes it.

        Raises:
            MediaError: the encoder refuses.
        """
        size = (int(result.frame.shape[0]), int(result.frame.shape[1]))
        if self._container is not None and size != self._size:
            self._hang_up()
        if self._container is None:
            if time.monotonic() < self._again_s:
                return
            if not self._call(size):
                return
        assert self._encoder is not None
        try:
            for packet in self._encoder.encode(result.frame, self._timer(frame)):
                self._container.mux(packet)
        except (av.error.FFmpegError, OSError) as error:
            self._lost(error)

    def _call(self, size: tuple[int, int]) -> bool:
        encoding = live_encoding("matroska", size, self._options)
        container: Any = None
        try:
            container = av.open(
                self._address,
                "w",
                format=self._format,
                container_options=self._container_options,
                timeout=(5.0, 5.0),
            )
            stream = container.add_stream(encoding.codec, rate=encoding.rate)
            encoding.configure(stream.codec_context)
            stream.codec_context.options = dict(encoding.options)
            container.start_encoding()
        except (av.error.FFmpegError, OSError) as error:
            if container is not None:
                with contextlib.suppress(av.error.FFmpegError, OSError):
                    container.close()
            self._lost(error)
            return False
        self._container, self._size = container, size
        self._encoder, self._timer = LiveEncoder(encoding, stream), FrameTimer()
        if self._tries:
            self._say(f"{self._address}: takes frames again")
        self._tries = 0
        return True

    def _lost(self, error: Exception) -> None:
        self._hang_up()
        wait_s = self._reconnecting.wait_s(self._tries)
        self._tries += 1
        self._again_s = time.monotonic() + wait_s
        reason = getattr(error, "strerror", None) or error
        self._say(f"{self._address}: takes no frames ({reason}); trying again in {wait_s:.1f} s")

    def _hang_up(self) -> None:
        container, self._container, self._encoder = self._container, None, None
        if container is not None:
            with contextlib.suppress(av.error.FFmpegError, OSError):
                container.close()

    def close(self, *, complete: bool = True) -> None:
        """Send what the encoder kept back, and hang up."""
        if self._container is not None and self._encoder is not None:
            with contextlib.suppress(av.error.FFmpegError, OSError):
                for packet in self._encoder.flush():
                    self._container.mux(packet)
        self._hang_up()

    def abort(self) -> None:
        """Hang up."""
        self._hang_up()


def _has_protocol(address: str) -> bool:
    """Whether FFmpeg here knows the protocol of an address; calls nobody that answers."""
    scheme = address.partition("://")[0]
    try:
        av.open(f"{scheme}://127.0.0.1:1?timeout=1", "r", timeout=0.1).close()
    except av.error.ProtocolNotFoundError:
        return False
    except (av.error.FFmpegError, OSError):
        return True
    return True
