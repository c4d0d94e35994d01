"""Cameras and servers on the network that go away and come back."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from live_parts import Kept, SlowRestorer, until

from elir_trt.errors import MediaError
from elir_trt.live import Fanout, LiveFrame, Monitor, Reconnecting, Session, Settings, open_source
from elir_trt.live.sinks import Broadcast
from elir_trt.live.sources import NetworkCamera
from elir_trt.memory import resident_bytes
from elir_trt.stream import Result

QUICK = Reconnecting(first_s=0.1, longest_s=0.3, stall_s=3.0)
SYSTEM_PYTHON = "/usr/bin/python3"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Camera:
    """A camera that sends MPEG-TS to whoever calls it: so many frames for each caller, at a rate."""

    def __init__(self, port: int, *, frames: int = 1_000_000, rate: float = 30.0) -> None:
        self._listening = socket.create_server(("127.0.0.1", port))
        self._frames, self._rate = frames, rate
        self._ended = threading.Event()
        self.callers = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                caller, _ = self._listening.accept()
            except OSError:
                return
            self.callers += 1
            with caller, contextlib.suppress(OSError, av.error.FFmpegError):
                self._send(caller)

    def _send(self, caller: socket.socket) -> None:
        with caller.makefile("wb", buffering=0) as file, av.open(file, "w", format="mpegts") as container:
            stream = container.add_stream("libx264", rate=30)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.codec_context.time_base = Fraction(1, 90_000)
            stream.options = {"tune": "zerolatency", "preset": "ultrafast", "g": "15"}
            begun_s = time.monotonic()
            for number in range(self._frames):
                if self._ended.wait(max(0.0, begun_s + number / self._rate - time.monotonic())):
                    return
                frame = av.VideoFrame.from_ndarray(
                    np.full((48, 64, 3), number % 200, np.uint8), format="rgb24"
                )
                frame.pts, frame.time_base = number * 3000, Fraction(1, 90_000)
                container.mux(stream.encode(frame))

    def close(self) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)


@contextlib.contextmanager
def tcp_camera(port: int) -> Iterator[str]:
    camera = Camera(port)
    try:
        yield f"tcp://127.0.0.1:{port}"
    finally:
        camera.close()


def rtsp_is_missing() -> str:
    """Why there is no RTSP server here; empty: there is."""
    if not Path(SYSTEM_PYTHON).exists():
        return "no system Python"
    code = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    done = subprocess.run([SYSTEM_PYTHON, "-c", code], capture_output=True, check=False)
    return "" if done.returncode == 0 else "no gst-rtsp-server (apt install gir1.2-gst-rtsp-server-1.0)"


@contextlib.contextmanager
def rtsp_camera(port: int) -> Iterator[str]:
    script = Path(__file__).parent / "rtsp_server.py"
    process = subprocess.Popen([SYSTEM_PYTHON, script, str(port)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            pytest.skip("GStreamer lacks x264enc (apt install gstreamer1.0-plugins-ugly)")
        yield f"rtsp://127.0.0.1:{port}/ball"
    finally:
        process.kill()
        process.communicate()


SERVERS = [
    pytest.param(tcp_camera, id="tcp"),
    pytest.param(
        rtsp_camera,
        id="rtsp",
        marks=pytest.mark.skipif(bool(rtsp_is_missing()), reason=rtsp_is_missing() or "it is here"),
    ),
]


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_that_goes_away_and_comes_back(server: Any) -> None:
    port, said = free_port(), list[str]()
    monitor, sink = Monitor(), Kept()
    with server(port) as address:
        source = open_source(address, max_age_ms=400, reconnecting=QUICK, monitor=monitor, say=said.append)
        fanout = Fanout({"sink": sink}, max_age_ms=400, monitor=monitor)
        restorer = SlowRestorer(0.005)
        session = Session(source, fanout, {"slow": restorer}.__getitem__, Settings("slow"))
        thread = threading.Thread(target=session.run, daemon=True)
        thread.start()
        until(lambda: len(sink.results) > 20)
    until(lambda: monitor.state in ("lost", "stalled", "silent", "connecting"), 15)
    before = len(sink.results)
    time.sleep(0.5)
    assert len(sink.results) - before <= 2
    with server(port):
        until(lambda: len(sink.results) > before + 40, 30)
        assert monitor.state == "live"
    session.stop()
    thread.join(20)
    assert not thread.is_alive()
    session.close()
    source.close()
    counts = monitor.snapshot()
    assert counts["reconnects"] >= 1
    assert any("trying again in" in line for line in said)
    assert any(line.endswith("it is back") for line in said)
    assert counts["latency_ms"]["p99"] <= 400.0
    assert max(sink.ages) < 0.7  # the sink's own thread may have to wait for a processor
    stamps = [frame.timestamp_s for _, frame in sink.results[:20]]
    assert stamps == sorted(set(stamps))


def test_five_thousand_frames_and_ten_calls_leave_nothing_behind() -> None:
    """Memory, threads and files after 5,000 frames, the source lost each 500, are those after the first thousand."""
    port = free_port()
    camera = Camera(port, frames=500, rate=2000.0)
    count = 0
    marks: list[tuple[int, int, int]] = []
    reconnecting = Reconnecting(first_s=0.01, longest_s=0.02, stall_s=5.0)
    try:
        with open_source(f"tcp://127.0.0.1:{port}", reconnecting=reconnecting) as source:
            for _ in source:
                count = source.monitor.snapshot()["captured"]
                if count >= 1000 * (len(marks) + 1):
                    gc.collect()
                    files = len(os.listdir("/proc/self/fd"))
                    marks.append((resident_bytes(), threading.active_count(), files))
                if len(marks) == 5:
                    break
            assert source.monitor.snapshot()["reconnects"] >= 8
    finally:
        camera.close()
    memory, threads, files = zip(*marks, strict=True)
    assert memory[-1] - memory[0] < 16 << 20, marks
    assert max(threads) - threads[0] <= 1 and max(files) - min(files) <= 4, marks


def test_a_camera_that_answers_nothing_is_an_error_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        begun = time.monotonic()
        for scheme in ("rtsp", "http", "tcp"):
            with pytest.raises(MediaError, match=rf"{scheme}://.*cannot be opened"):
                NetworkCamera(f"{scheme}://127.0.0.1:{port}/a", timeout_s=1.0)
    assert time.monotonic() - begun < 12
    with pytest.raises(MediaError, match=r"this FFmpeg has no srt|refused|cannot be opened"):
        NetworkCamera(f"srt://127.0.0.1:{port}", timeout_s=1.0)


def test_no_address_leads_to_a_file_of_this_machine(tmp_path: Path) -> None:
    """A playlist that a server hands out is followed on the network alone."""
    secret = tmp_path / "secret.ts"
    secret.write_bytes(b"G" * 188 * 20)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n".encode()

    def serve(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = listening.accept()
                with caller:
                    caller.recv(4096)
                    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.apple.mpegurl\r\n"
                    caller.sendall(head + b"Content-Length: %d\r\n\r\n" % len(playlist) + playlist)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        with pytest.raises(MediaError):
            NetworkCamera(f"http://127.0.0.1:{listening.getsockname()[1]}/a.m3u8", timeout_s=2.0)
        listening.shutdown(socket.SHUT_RDWR)


def pictures(sink: Broadcast, stop: threading.Event, size: tuple[int, int] = (48, 64)) -> None:
    number = 0
    while not stop.wait(1 / 30):
        pixels = np.full((*size, 3), 60 + number % 100, np.uint8)
        result: Any = SimpleNamespace(frame=pixels)
        sink.write(result, LiveFrame(pixels, None, captured_s=time.monotonic()))
        number += 1
    sink.close()


@contextlib.contextmanager
def sending(sink: Broadcast) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=pictures, args=(sink, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


def test_what_is_sent_over_udp_arrives() -> None:
    address = f"udp://127.0.0.1:{free_port()}"
    with sending(Broadcast(address)), open_source(address, reconnecting=QUICK) as source:
        frames = [frame for frame, _ in zip(source, range(10), strict=False)]
    assert frames[0].pixels.shape == (48, 64, 3)
    assert 50 < frames[-1].pixels.mean() < 170
    assert max(frame.age_s() for frame in frames[-1:]) < 5


def test_a_receiver_that_goes_away_and_comes_back() -> None:
    port, said = free_port(), list[str]()

    def receive(frames: int) -> None:
        with socket.create_server(("127.0.0.1", port)) as listening:
            listening.settimeout(20)
            caller, _ = listening.accept()
            with caller, caller.makefile("rb") as file, av.open(file, "r", format="mpegts") as container:
                for _, _ in zip(container.decode(video=0), range(frames), strict=False):
                    pass

    sink = Broadcast(f"tcp://127.0.0.1:{port}", reconnecting=QUICK, say=said.append)
    with sending(sink):
        until(lambda: any("Connection refused" in line for line in said))
        receive(10)
        until(lambda: said[-1].endswith("trying again in 0.1 s") or "takes no frames" in said[-1])
        receive(10)
    assert [line for line in said if line.endswith("takes frames again")]


def test_what_is_sent_over_rtmp_arrives() -> None:
    address = f"rtmp://127.0.0.1:{free_port()}/live/a"
    levels: list[float] = []

    def receive() -> None:
        with av.open(address, "r", container_options={"listen": "1"}, timeout=20) as container:
            for frame, _ in zip(container.decode(video=0), range(10), strict=False):
                levels.append(float(frame.to_ndarray(format="gray").mean()))

    thread = threading.Thread(target=receive, daemon=True)
    thread.start()
    with sending(Broadcast(address, reconnecting=QUICK)):
        thread.join(20)
    assert len(levels) == 10 and 50 < np.mean(levels) < 170


def test_a_server_that_hangs_stops_neither_the_run_nor_its_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the call and never says a word
        hanging = Broadcast(f"rtmp://127.0.0.1:{silent.getsockname()[1]}/live/a")
        other = Kept()
        fanout = Fanout({"hanging": hanging, "other": other})
        pixels = np.zeros((48, 64, 3), np.uint8)
        for number in range(60):
            result = Result(pixels, number, None, 0, {}, 1.0)
            fanout.write(result, LiveFrame(pixels, None, captured_s=time.monotonic()))
            time.sleep(1 / 30)
        until(lambda: len(other.results) > 50)
        assert max(other.ages) < 0.5
        begun = time.monotonic()
        fanout.close()
        assert time.monotonic() - begun < 8


def test_an_address_that_nobody_sends_to_is_one_error() -> None:
    with pytest.raises(MediaError, match="expected an address with rtsp"):
        Broadcast("ftp://a")
