"""Cameras on the network: RTSP, RTMP, HTTP, UDP and what else FFmpeg reads, with as little delay as it allows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from elir_trt.errors import ElirError, MediaError
from elir_trt.extras import needs
from elir_trt.io.colour import Colour, Converter, colour_of
from elir_trt.io.source import Frame, Source, Unreadable

with needs("av", extra="video", what="a camera on the network"):
    import av

SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "srt")
"""What addresses may begin with."""

# FFmpeg follows what an address leads to with these alone, never to files of this machine.
_PROTOCOLS = "http,https,tcp,tls,udp,rtp,rtsp,rtsps,rtmp,srt,crypto,hls,httpproxy"
_DAMAGED_IN_A_ROW = 100


def low_delay_options(address: str, transport: str = "tcp") -> dict[str, str]:
    """FFmpeg's options to open an address with: nothing is kept back that can be given.

    Args:
        address: of the camera.
        transport: of RTSP, "tcp" or "udp".
    """
    options = {
        "protocol_whitelist": _PROTOCOLS,
        "fflags": "nobuffer",
        "flags": "low_delay",
        # How much is read before the first frame, to find out what it is.
        "probesize": "500000",
        "analyzeduration": "500000",
    }
    if address.lower().startswith(("rtsp://", "rtsps://")):
        options |= {"rtsp_transport": transport, "max_delay": "100000"}
        if transport == "tcp":
            options["reorder_queue_size"] = "0"
    return options


class NetworkCamera(Source):
    """The frames of an address, as they come.

    Attributes:
        size: height and width of the first frame; others are scaled to it.
    """

    live = True

    def __init__(self, address: str, *, transport: str = "tcp", timeout_s: float = 5.0) -> None:
        """Open the address and decode the first frame.

        Args:
            address: beginning with one of :data:`SCHEMES` and "://".
            transport: of RTSP: "tcp" loses nothing, "udp" waits for nothing.
            timeout_s: without an answer it is an error, and without data the end.

        Raises:
            MediaError: it cannot be opened, or there is no video in it.
        """
        self._address = address
        self._stopped = False
        self._damaged = 0
        try:
            self._container = av.open(
                address,
                "r",
                container_options=low_delay_options(address, transport),
                metadata_errors="replace",
                timeout=(timeout_s, timeout_s),
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise MediaError(f"{address}: this camera cannot be opened: {_reason(error, address)}") from None
        try:
            if not self._container.streams.video:
                raise MediaError(f"{address}: there is no video in it")
            self._stream = self._container.streams.video[0]
            context = self._stream.codec_context
            # Threads that take a frame each keep back as many frames; those that share one do not.
            context.thread_type = "SLICE"
            context.options = {**context.options, "flags": "low_delay"}
            self._decoded = self._decode()
            first = next((item for item in self._decoded if not isinstance(item, Unreadable)), None)
            if first is None:
                raise MediaError(f"{address}: no frame came that can be decoded")
        except BaseException:
            self._container.close()
            raise
        self._first: Any = first
        self._colour: Colour = colour_of(first)
        self._converter = Converter()
        self.size: tuple[int, int] = (first.height, first.width)

    def __iter__(self) -> Iterator[Frame | Unreadable]:
        """Give frames, with the stream's time stamps, and an :class:`Unreadable` for what cannot be decoded.

        Raises:
            MediaError: the connection broke, or nothing decodable comes.
        """
        first, self._first = self._first, None
        if first is not None:
            yield self._give(first)
        for item in self._decoded:
            yield item if isinstance(item, Unreadable) else self._give(item)

    def _decode(self) -> Iterator[Any]:
        packets = iter(self._container.demux(self._stream))
        while not self._stopped:
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, OSError) as error:
                raise MediaError(f"the connection broke: {_reason(error, self._address)}") from None
            if packet is None:
                return
            try:
                frames = packet.decode()
            except av.error.EOFError:
                return
            except av.error.FFmpegError as error:
                self._damaged += 1
                if self._damaged > _DAMAGED_IN_A_ROW:
                    raise MediaError(f"{self._damaged} packets in a row cannot be decoded") from None
                yield Unreadable(self._address, ElirError(f"a packet cannot be decoded: {error.strerror}"))
                continue
            for frame in frames:
                self._damaged = 0
                yield frame

    def _give(self, frame: Any) -> Frame:
        pixels = self._converter.to_rgb(frame, self._colour, self.size)
        return Frame(pixels, frame.time, self._address)

    def stop(self) -> None:
        """End the iteration with the next packet, or the time-out."""
        self._stopped = True

    def close(self) -> None:
        """Hang up."""
        self._container.close()


def _reason(error: Exception, address: str) -> str:
    if isinstance(error, av.error.ProtocolNotFoundError):
        return f"this FFmpeg has no {address.partition('://')[0]} (PyAV's wheels have none)"
    if isinstance(error, av.error.ExitError):
        return "no answer in time"  # PyAV's time-outs interrupt FFmpeg, which calls that so
    return str(getattr(error, "strerror", None) or error)
