"""An RTSP server of a moving ball (gst-rtsp-server), in a process of its own: ``python3 rtsp_server.py PORT``.

It runs in the system's Python, which has Debian's gir1.2-gst-rtsp-server-1.0; says "ready" when it listens.
"""

from __future__ import annotations

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

PIPELINE = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=160,height=120,framerate=30/1 ! "
    "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 bitrate=500 ! rtph264pay name=pay0 pt=96 )"
)


def main(port: str) -> None:
    Gst.init(None)
    if not all(Gst.ElementFactory.find(name) for name in ("x264enc", "videotestsrc", "rtph264pay")):
        sys.exit("x264enc, videotestsrc or rtph264pay is not installed")
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(PIPELINE)
    factory.set_shared(True)
    server.get_mount_points().add_factory("/ball", factory)
    server.attach(None)
    print("ready", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main(sys.argv[1])
