"""To others on the network: RTSP, RTMP, SRT and MPEG-TS over UDP, through FFmpeg (PyAV)."""

from __future__ import annotations

import contextlib
import json
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from elir_trt.errors import MediaError
from elir_trt.extras import needs
from elir_trt.io.encoding import EncodeOptions
from elir_trt.io.source import Frame
from elir_trt.live.fanout import LiveSink
from elir_trt.live.sinks.encoding import FrameTimer, LiveEncodeOptions, LiveEncoder, live_encoding
from elir_trt.live.sinks.sender import FORMAT, PATIENCE_S
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

_SENDER = "from elir_trt.live.sinks.sender import main; main()"


class Broadcast(LiveSink):
    """Sends results to an address: publishes to an RTSP or RTMP server, calls an SRT listener, sends UDP.

    Frames are encoded here and sent by a process of its own (:mod:`elir_trt.live.sinks.sender`). When the other side
    goes, frames are lost until it takes them again: it is tried with waits that grow.
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
        if scheme == "srt" and not _has_protocol(scheme):
            raise MediaError(
                f"{address}: PyAV's wheels have no SRT: build PyAV against an FFmpeg with libsrt (pip install "
                "--no-binary av av), or send rtsp, rtmp or udp"
            )
        self._format = FORMATS[scheme]
        self._container_options = {"rtsp_transport": transport} if self._format == "rtsp" else {}
        self._options = options or LiveEncodeOptions(EncodeOptions(codec="h264", crf=23), low_delay=True)
        self._reconnecting = reconnecting or Reconnecting()
        self._say = say
        self._size: tuple[int, int] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._container: Any = None
        self._encoder: LiveEncoder | None = None
        self._timer = FrameTimer()
        self._tries = 0
        self._again_s = 0.0
        self._is_open = False

    def write(self, result: Result, frame: Frame) -> None:
        """Send a result, or lose it where nobody takes it.

        Raises:
            MediaError: the encoder refuses.
        """
        size = (int(result.frame.shape[0]), int(result.frame.shape[1]))
        if self._process is not None and size != self._size:
            self._hang_up()
        if self._process is None:
            if time.monotonic() < self._again_s:
                return
            self._call(size)
        assert self._encoder is not None
        try:
            for packet in self._encoder.encode(result.frame, self._timer(frame)):
                self._container.mux(packet)
            self._listen()
        except (av.error.FFmpegError, OSError):
            self._lost()

    def _call(self, size: tuple[int, int]) -> None:
        """Start the sender and tell it what comes."""
        encoding = live_encoding("matroska", size, self._options)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SENDER, self._address, self._format, json.dumps(self._container_options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",  # Python looks for modules in the folder that it runs in first
        )
        self._size, self._is_open = size, False
        # Small buffers: a packet that was written is on its way.
        self._container = av.open(self._process.stdin, "w", format=FORMAT, buffer_size=4096)
        stream = self._container.add_stream(encoding.codec, rate=encoding.rate)
        encoding.configure(stream.codec_context)
        stream.codec_context.options = dict(encoding.options)
        try:
            self._container.start_encoding()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            self._hang_up()
            raise encoding.refusal(error) from None
        self._encoder, self._timer = LiveEncoder(encoding, stream), FrameTimer()

    def _listen(self) -> None:
        """Note whether the other side has answered, and whether the sender is alive.

        Raises:
            BrokenPipeError: it is not.
        """
        assert self._process is not None and self._process.stdout is not None
        assert self._process.stdin is not None
        self._process.stdin.flush()
        if self._process.poll() is not None:
            raise BrokenPipeError
        if not self._is_open and select.select([self._process.stdout], [], [], 0)[0]:
            self._is_open = self._process.stdout.readline() == b"open\n"
            if self._is_open and self._tries:
                self._say(f"{self._address}: takes frames again")
                self._tries = 0

    def _lost(self) -> None:
        reason = self._hang_up()
        wait_s = self._reconnecting.wait_s(self._tries)
        self._tries += 1
        self._again_s = time.monotonic() + wait_s
        self._say(f"{self._address}: takes no frames ({reason}); trying again in {wait_s:.1f} s")

    def _hang_up(self, patience_s: float = 0.5) -> str:
        """End the sender; gives why it ended by itself, if it did."""
        process, container = self._process, self._container
        self._process = self._container = self._encoder = None
        if process is not None and not self._is_open and process.poll() is None:
            process.kill()  # it waits for an answer, and would not take the rest
        if container is not None:
            with contextlib.suppress(av.error.FFmpegError, OSError, ValueError):
                container.close()
        if process is None:
            return ""
        with contextlib.suppress(OSError):
            assert process.stdin is not None
            process.stdin.close()
        try:
            status = process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        assert process.stderr is not None and process.stdout is not None
        with process.stderr, process.stdout:
            said = process.stderr.read().decode(errors="replace").strip().splitlines()
        if status == -signal.SIGALRM:
            return f"no answer within {PATIENCE_S} s"
        return said[-1] if said else "it ended"

    def close(self, *, complete: bool = True) -> None:
        """Send what the encoder kept back, and hang up."""
        if self._container is not None and self._encoder is not None:
            with contextlib.suppress(av.error.FFmpegError, OSError):
                for packet in self._encoder.flush():
                    self._container.mux(packet)
        self._hang_up(patience_s=2.0)

    def abort(self) -> None:
        """Hang up."""
        self._hang_up()


def _has_protocol(scheme: str) -> bool:
    """Whether FFmpeg here knows a protocol; calls nobody that answers."""
    try:
        av.open(f"{scheme}://127.0.0.1:1?timeout=1", "r", timeout=0.1).close()
    except av.error.ProtocolNotFoundError:
        return False
    except (av.error.FFmpegError, OSError):
        return True
    return True
