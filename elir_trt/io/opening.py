"""Opening what videos are read from: files, named pipes, standard input, addresses on the network."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elir_trt.errors import MediaError
from elir_trt.extras import needs
from elir_trt.io.addresses import STDIN, is_address, is_live
from elir_trt.io.containers import missing_bytes
from elir_trt.io.headers import image_format, looks_like, may_move
from elir_trt.io.standard import StandardInput, standard_input

with needs("av", extra="video", what="reading videos"):
    import av

# FFmpeg follows what an address leads to with these alone, never to files of this machine.
_NETWORK = "http,https,tcp,tls,udp,rtp,rtsp,rtsps,crypto,hls,httpproxy"
_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class Opened:
    """A container that is open for reading.

    Attributes:
        container: PyAV's.
        missing: bytes that its end lacks, as far as its structure shows.
    """

    container: Any
    missing: int = 0


def open_video(name: str | os.PathLike[str]) -> Opened:
    """Open a video.

    Args:
        name: a file, a named pipe, "-" for standard input, or an address.

    Raises:
        MediaError: there is no such file, or it is no video.
    """
    if is_address(name):
        return Opened(_open_address(os.fspath(name)))
    if os.fspath(name) == STDIN:
        return Opened(_open_stream(standard_input(), "pipe", "standard input"))
    path = Path(name)
    if path.is_fifo():
        return Opened(_open_stream(f"file:{path.absolute()}", "file", str(path)))
    missing = _check_file(path)
    return Opened(_open_file(path, missing), missing)


def _open_address(address: str) -> Any:
    options = {"protocol_whitelist": _NETWORK}
    if is_live(address):
        options["rtsp_transport"] = "tcp"
    try:
        return av.open(
            address,
            "r",
            container_options=options,
            metadata_errors="replace",
            timeout=(_TIMEOUT_S, _TIMEOUT_S),
        )
    except (av.error.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MediaError(f"{address}: this address cannot be opened: {reason}") from None


def _open_stream(url: str | StandardInput, protocol: str, name: str) -> Any:
    try:
        return av.open(
            url, "r", container_options={"protocol_whitelist": protocol}, metadata_errors="replace"
        )
    except (av.error.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MediaError(f"{name}: there is no video in it that can be read as a stream: {reason}") from None


def _check_file(path: Path) -> int:
    try:
        if path.is_dir():
            raise MediaError(f"{path}: this is a folder; expected a video file")
        with open(path, "rb") as file:
            start = file.read(4096)
        missing = missing_bytes(path)
    except FileNotFoundError:
        raise MediaError(f"{path}: there is no such file") from None
    except OSError as error:
        raise MediaError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not start or (image_format(start) is not None and not may_move(start)):
        what = looks_like(start) if not start else f"it is a {image_format(start)} image"
        raise MediaError(f"{path}: this is not a video: {what}")
    return missing


def _open_file(path: Path, missing: int) -> Any:
    try:
        # "file:" because FFmpeg takes what stands before a colon in a name for a protocol.
        return av.open(
            f"file:{path.absolute()}",
            "r",
            container_options={"protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    except (av.error.FFmpegError, OSError) as error:
        with open(path, "rb") as file:
            what = looks_like(file.read(4096))
        if missing:
            what = f"it is cut off: {missing} bytes are missing at its end, and with them its index"
        elif what == "it is a video":
            what = "its index is missing or damaged, as when a recording was not finished"
        elif "known here" in what:
            what = f"FFmpeg does not know what it holds ({error.strerror})"
        raise MediaError(f"{path}: this video cannot be opened: {what}") from None
