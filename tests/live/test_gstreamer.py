"""The element ``elirrestore`` and pipelines as cameras, in the system's GStreamer, where there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elir_trt.live.gstreamer.install import checks, install, python_problem, remove
from elir_trt.live.gstreamer.planes import FORMATS, Layout

SYSTEM_PYTHON = "/usr/bin/python3"


def missing() -> str:
    """Why the element cannot be tried here; empty: it can."""
    if shutil.which("gst-launch-1.0") is None:
        return "no gst-launch-1.0 (apt install gstreamer1.0-tools gstreamer1.0-plugins-base)"
    code = "import gi; gi.require_version('GstBase', '1.0'); from gi.repository import GstBase"
    if subprocess.run([SYSTEM_PYTHON, "-c", code], capture_output=True, check=False).returncode:
        return "no PyGObject with GStreamer (apt install python3-gst-1.0)"
    if subprocess.run(["gst-inspect-1.0", "--plugin", "python"], capture_output=True, check=False).returncode:
        return "no GStreamer plugin for Python (apt install gstreamer1.0-python3-plugin-loader)"
    return python_problem()


REASON = missing()
here = pytest.mark.skipif(bool(REASON), reason=REASON or "it is here")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of processes that have the element, and a registry and cache of their own."""
    folder = tmp_path_factory.mktemp("gst")
    install(folder)
    packages = [path for path in sys.path if path.endswith("-packages")]
    return {
        **os.environ,
        "GST_PLUGIN_PATH": str(folder),
        "GST_REGISTRY": str(folder / "registry.bin"),
        "PYTHONPATH": os.pathsep.join(packages),
        "ELIR_TRT_CACHE": os.environ["ELIR_TRT_CACHE"],
    }


def launch(pipeline: str, environment: dict[str, str], *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["gst-launch-1.0", *flags, *pipeline.split()],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        cwd="/",
        check=False,
    )


def in_system(code: str, environment: dict[str, str]) -> str:
    """Run code in the system's Python, with GStreamer imported; gives what it prints."""
    head = """
        import gi
        gi.require_version("Gst", "1.0")
        from gi.repository import Gst
        Gst.init(None)
        import numpy as np
    """
    script = textwrap.dedent(head) + textwrap.dedent(code)
    done = subprocess.run(
        [SYSTEM_PYTHON, "-c", script],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        cwd="/",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@here
@pytest.mark.parametrize("format", sorted(FORMATS))
@pytest.mark.parametrize("size", [(128, 96), (130, 98)])  # the second: rows that are padded
def test_every_format_comes_out_as_the_restorer_makes_it(
    environment: dict[str, str], tmp_path: Path, format: str, size: tuple[int, int]
) -> None:
    import elir_trt

    width, height = size
    caps = f"video/x-raw,format={format},width={width},height={height},framerate=10/1,colorimetry=bt709"
    before, after = tmp_path / "before", tmp_path / "after"
    done = launch(
        f"videotestsrc num-buffers=2 pattern=smpte ! {caps} ! tee name=t ! queue ! filesink location={before} "
        f"t. ! queue ! elirrestore bundle=camera steps=0 ! {caps} ! filesink location={after}",
        environment,
    )
    assert done.returncode == 0, done.stderr
    taken, given = (np.fromfile(path, np.uint8) for path in (before, after))
    assert taken.size == given.size
    layout = packed_layout(format, height, width, taken.size // 2)
    frame = layout.array(taken)
    colour: dict[str, Any] = {"format": FORMATS[format], "output_format": FORMATS[format]}
    with elir_trt.open("camera") as restorer, restorer.stream(depth=1, steps=0, **colour) as stream:
        stream.submit(np.ascontiguousarray(frame))
        wanted = stream.result().frame
    found = layout.array(given)
    assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 1
    assert np.abs(found.astype(int) - frame.astype(int)).mean() < 12


def packed_layout(format: str, height: int, width: int, size: int) -> Layout:
    """GStreamer's own: rows of planes begin at multiples of 4."""

    def up(value: int, to: int = 4) -> int:
        return -(-value // to) * to

    if format in ("RGB", "BGR"):
        return Layout(format, height, width, [0], [up(3 * width)])
    pitch = up(width)
    if format == "NV12":
        layout = Layout(format, height, width, [0, pitch * up(height, 2)], [pitch, pitch])
        assert layout.offsets[1] + pitch * up(height, 2) // 2 == size
        return layout
    half = up(up(width, 2) // 2)
    luma = pitch * up(height, 2)
    layout = Layout(format, height, width, [0, luma, luma + half * up(height, 2) // 2], [pitch, half, half])
    assert layout.offsets[2] + half * up(height, 2) // 2 == size
    return layout


@here
def test_caps_change_in_the_middle(environment: dict[str, str]) -> None:
    """Two sizes one after the other, through one element: each frame comes out in its own."""
    code = """
        text = ("appsrc name=a is-live=false format=time ! elirrestore name=e steps=0 ! "
                "appsink name=s sync=false")
        line = Gst.parse_launch(text)
        a, s = line.get_by_name("a"), line.get_by_name("s")
        line.set_state(Gst.State.PLAYING)
        for n, (w, h) in enumerate([(64, 48), (64, 48), (96, 64), (32, 32)]):
            caps = Gst.Caps.from_string(f"video/x-raw,format=RGB,width={w},height={h},framerate=10/1")
            a.set_property("caps", caps)
            buffer = Gst.Buffer.new_wrapped(bytes([100]) * (w * h * 3))
            buffer.pts = n * Gst.SECOND // 10
            a.emit("push-buffer", buffer)
            sample = s.emit("try-pull-sample", 60 * Gst.SECOND)
            found = sample.get_caps().get_structure(0)
            data = sample.get_buffer().extract_dup(0, sample.get_buffer().get_size())
            mean = np.frombuffer(data, np.uint8).mean()
            print(found.get_int("width")[1], found.get_int("height")[1], abs(mean - 100) < 5,
                  sample.get_buffer().pts // (Gst.SECOND // 10))
        line.set_state(Gst.State.NULL)
    """
    assert in_system(code, environment).splitlines() == [
        "64 48 True 0",
        "64 48 True 1",
        "96 64 True 2",
        "32 32 True 3",
    ]


@here
def test_properties_the_latency_query_and_qos(environment: dict[str, str]) -> None:
    code = """
        text = ("videotestsrc is-live=true ! video/x-raw,format=I420,width=128,height=96,framerate=30/1 ! "
                "elirrestore name=e steps=1 seed=7 temporal=auto deadline=500 ! fakesink name=s sync=true qos=true")
        line = Gst.parse_launch(text)
        e = line.get_by_name("e")
        print([e.get_property(n) for n in ("bundle", "steps", "seed", "temporal", "deadline")])
        line.set_state(Gst.State.PLAYING)
        bus, told = line.get_bus(), 0
        end = Gst.util_get_timestamp() + 30 * Gst.SECOND
        while Gst.util_get_timestamp() < end and not told:
            message = bus.timed_pop_filtered(Gst.SECOND, Gst.MessageType.LATENCY | Gst.MessageType.ERROR)
            if message is not None:
                assert message.type == Gst.MessageType.LATENCY, message.parse_error()
                told += message.src == e
        query = Gst.Query.new_latency()
        assert e.get_static_pad("src").query(query)
        live, least, most = query.parse_latency()
        query = Gst.Query.new_latency()
        assert e.get_static_pad("sink").get_peer().query(query)
        print(told > 0, live, least > query.parse_latency()[1])
        e.set_property("steps", 0)
        # A sink says that it is late: frames are given up before they are restored, and a message says so.
        event = Gst.Event.new_qos(Gst.QOSType.UNDERFLOW, 2.0, Gst.SECOND, line.get_clock().get_time())
        assert e.get_static_pad("src").send_event(event)
        dropped = bus.timed_pop_filtered(10 * Gst.SECOND, Gst.MessageType.QOS)
        print(dropped is not None and dropped.src == e)
        line.set_state(Gst.State.NULL)
    """
    assert in_system(code, environment).splitlines() == [
        "['camera', 1, 7, 'auto', 500.0]",
        "True True True",
        "True",
    ]


@here
def test_what_cannot_be_is_a_message_of_the_pipeline(environment: dict[str, str]) -> None:
    source = "videotestsrc num-buffers=1 ! video/x-raw,format=RGB,width=64,height=48 !"
    for element, words in (
        ("elirrestore bundle=/nowhere", "/nowhere"),
        ("elirrestore steps=99", "steps is 99; this bundle allows 0 to"),
        ("elirrestore temporal=ever", "temporal is 'ever'; allowed: off, auto"),
    ):
        done = launch(f"{source} {element} ! fakesink", environment)
        assert done.returncode != 0
        assert words in done.stderr, done.stderr
        assert "Traceback" not in done.stderr


@here
def test_a_pipeline_is_a_camera(environment: dict[str, str]) -> None:
    code = """
        from elir_trt.live import open_source
        with open_source("videotestsrc is-live=true ! video/x-raw,width=66,height=48,framerate=30/1") as source:
            frames = [frame for frame, _ in zip(source, range(8))]
        print(frames[0].pixels.shape, source.pixel_format)
        print(all(a.timestamp_s < b.timestamp_s for a, b in zip(frames, frames[1:])))
        print(0 <= min(f.age_s() for f in frames) < 30, max(frames[-1].age_s(), 0) < 30)
        from elir_trt.errors import MediaError
        for text in ("nothing ! here", "videotestsrc ! appsink ! appsink", "filesrc location=/nowhere ! decodebin"):
            try:
                open_source("gst:" + text)
            except MediaError as error:
                print("error", text in str(error))
    """
    assert in_system(code, environment).splitlines() == [
        "(48, 66, 3) bgr24",
        "True",
        "True True",
        "error True",
        "error True",
        "error True",
    ]


def test_planes_lie_where_the_layout_says() -> None:
    generator = np.random.default_rng(0)
    for format in FORMATS:
        for height, width in ((16, 24), (18, 22)):
            size = 4 * height * (width + 8) * 3
            layout = packed_layout(format, height, width, sizes(format, height, width))
            data = generator.integers(0, 256, size, dtype=np.uint8)
            frame = layout.array(data)
            assert frame.shape == layout.shape()
            other = np.zeros_like(data)
            layout.fill(other, np.ascontiguousarray(frame))
            np.testing.assert_array_equal(layout.array(other), frame)
            if format in ("RGB", "BGR") or layout.is_packed:
                assert np.shares_memory(frame, data)  # not copied
            for offset, pitch in zip(layout.offsets, layout.pitches, strict=True):
                assert other[offset] == data[offset] and other[offset + pitch] == data[offset + pitch]


def sizes(format: str, height: int, width: int) -> int:
    """Bytes of a frame in GStreamer's own layout."""
    pitch = -(-width // 4) * 4
    half = -(-width // 8) * 4
    return {"NV12": pitch * height * 3 // 2, "I420": pitch * height + half * height}.get(format, 0)


def test_the_file_is_written_found_and_removed(tmp_path: Path) -> None:
    path = install(tmp_path)
    assert path == tmp_path / "python" / "elirrestore.py"
    compile(path.read_text(), str(path), "exec")
    if not REASON:
        assert [check.problem for check in checks(tmp_path)] == ["", ""]
    assert remove(tmp_path) == path and remove(tmp_path) is None
    assert not path.exists()
