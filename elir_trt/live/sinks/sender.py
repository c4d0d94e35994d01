"""A process that sends what comes on its standard input to an address.

FFmpeg's outputs are opened by PyAV while it holds the interpreter's lock: a server that answers slowly would stop the
whole run. In a process of its own it stops nothing, and one that hangs is ended by an alarm.
"""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

from elir_trt.extras import needs

with needs("av", extra="video", what="sending video"):
    import av

FORMAT = "nut"
"""Of what comes on the standard input: it keeps times and what the encoder says of itself."""

PATIENCE_S = 8
"""Seconds for the other side to answer, and to take a packet."""


def send(address: str, format: str, options: dict[str, str]) -> None:
    """Copy the packets of the standard input to an address; says "open" when it takes them.

    Args:
        address: where to.
        format: FFmpeg's name of the container.
        options: of it.

    Raises:
        av.error.FFmpegError, OSError: the other side refuses, or has gone.
    """
    fast = {"probesize": "32", "analyzeduration": "0", "fpsprobesize": "0", "fflags": "nobuffer"}
    with av.open("pipe:0", "r", format=FORMAT, container_options=fast) as source:
        found = source.streams.video[0]
        signal.alarm(PATIENCE_S)
        target: Any = av.open(address, "w", format=format, container_options=options)
        stream = target.add_stream_from_template(found)
        target.start_encoding()
        signal.alarm(0)
        print("open", flush=True)
        for packet in source.demux(found):
            if packet.dts is None:
                continue
            packet.stream = stream
            signal.alarm(PATIENCE_S)
            target.mux(packet)
            signal.alarm(0)
        signal.alarm(PATIENCE_S)
        target.close()


def main() -> None:
    """Send to the address of the arguments; a failure is one line on standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run decides when it ends
    address, format, options = sys.argv[1:]
    try:
        send(address, format, json.loads(options))
    except (av.error.FFmpegError, OSError) as error:
        print(getattr(error, "strerror", None) or error, file=sys.stderr)
        sys.exit(1)
