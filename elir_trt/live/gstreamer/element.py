"""The element ``elirrestore``, which GStreamer loads by the file that ``elir-trt gst install`` writes."""

from __future__ import annotations

import time
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstBase", "1.0")
gi.require_version("GstVideo", "1.0")
import numpy as np  # noqa: E402
from gi.repository import GLib, GObject, Gst, GstBase, GstVideo  # noqa: E402

import elir_trt  # noqa: E402
from elir_trt.errors import ElirError  # noqa: E402
from elir_trt.live.gstreamer.planes import FORMATS, Layout  # noqa: E402
from elir_trt.live.monitor import Latencies  # noqa: E402

Gst.init(None)

_CAPS = (
    "video/x-raw, format=(string){ "
    + ", ".join(FORMATS)
    + " }, width=(int)[ 16, 2147483647 ], height=(int)[ 16, 2147483647 ], framerate=(fraction)[ 0/1, 2147483647/1 ]"
)
# A latency that has grown by this much is told to the pipeline, whose sinks wait that long.
_GROWN = 1.25
_DEFAULT_STEPS = -1
_FLAGS = GObject.ParamFlags.READWRITE


class ElirRestore(GstBase.BaseTransform):  # type: ignore[misc]
    """Restores each frame before the next one is taken. Late frames are given up as QoS events ask for."""

    __gstmetadata__ = (
        "ELIR restorer",
        "Filter/Effect/Video",
        "Restores video: noise, compression, slight blur, or what else the bundle is for",
        "elir_trt",
    )
    __gsttemplates__ = tuple(
        Gst.PadTemplate.new(name, direction, Gst.PadPresence.ALWAYS, Gst.Caps.from_string(_CAPS))
        for name, direction in (("sink", Gst.PadDirection.SINK), ("src", Gst.PadDirection.SRC))
    )
    __gproperties__ = {  # noqa: RUF012  (PyGObject reads it when the class is made)
        "bundle": (str, "Bundle", "A task, or the folder of a bundle", "camera", _FLAGS),
        "steps": (int, "Steps", "Euler steps; -1: the bundle's", -1, 1000, _DEFAULT_STEPS, _FLAGS),
        "seed": (GObject.TYPE_UINT64, "Seed", "Of the noise", 0, GLib.MAXUINT64, 0, _FLAGS),
        "temporal": (str, "Temporal", "off, or auto against flicker", "off", _FLAGS),
        "deadline": (
            float,
            "Deadline",
            "Milliseconds for a frame, with fewer steps where there is no time; 0: none",
            0.0,
            3.6e6,
            0.0,
            _FLAGS,
        ),
    }

    def __init__(self) -> None:
        super().__init__()
        self._values: dict[str, Any] = {
            "bundle": "camera",
            "steps": _DEFAULT_STEPS,
            "seed": 0,
            "temporal": "off",
            "deadline": 0.0,
        }
        self._restorer: Any = None
        self._stream: Any = None
        self._infos: tuple[Any, Any] | None = None
        self._changed = False
        self._latencies = Latencies(64)
        self._told_ns = 0
        self.set_qos_enabled(True)
        answers = Gst.PadProbeType.QUERY_UPSTREAM | Gst.PadProbeType.PULL
        self.srcpad.add_probe(answers, self._on_query)

    def do_get_property(self, found: Any) -> Any:
        """The value of a property."""
        return self._values[found.name]

    def do_set_property(self, found: Any, value: Any) -> None:
        """Take a value; a new bundle counts from the next start, the others from the next frame."""
        self._values[found.name] = value
        self._changed = True

    # Its life

    def do_start(self) -> bool:
        """Open the bundle."""
        try:
            self._restorer = elir_trt.open(self._values["bundle"])
        except Exception as error:
            return self._fail(error)
        return True

    def do_stop(self) -> bool:
        """Close it."""
        self._close_stream()
        restorer, self._restorer = self._restorer, None
        if restorer is not None:
            restorer.close()
        return True

    def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _fail(self, error: Exception) -> bool:
        """Have the pipeline say what went wrong; gives False."""
        expected = isinstance(error, (ElirError, ValueError))
        text = str(error) if expected else f"{type(error).__name__}: {error}"
        what = GLib.Error.new_literal(Gst.LibraryError.quark(), text, Gst.LibraryError.FAILED)
        self.post_message(Gst.Message.new_error(self, what, "elirrestore"))
        return False

    # Caps

    def do_transform_caps(self, direction: Any, caps: Any, wanted: Any) -> Any:
        """The format stays; the size too, unless the bundle scales."""
        found = Gst.Caps.new_empty()
        for index in range(caps.get_size()):
            structure = caps.get_structure(index).copy()
            self._scale(direction, structure)
            found.append_structure(structure)
        return found if wanted is None else wanted.intersect_full(found, Gst.CapsIntersectMode.FIRST)

    def _scale(self, direction: Any, structure: Any) -> None:
        """Make of the size at one pad the one at the other."""
        if self._restorer is None:
            return
        known_h, height = structure.get_int("height")
        known_w, width = structure.get_int("width")
        if not (known_h and known_w):
            return
        if direction == Gst.PadDirection.SINK:
            other = output_size(self._restorer, (height, width))
            structure.set_value("height", other[0])
            structure.set_value("width", other[1])
        elif output_size(self._restorer, (height, width)) != (height, width):
            whole = Gst.Caps.from_string(_CAPS).get_structure(0)
            structure.set_value("height", whole.get_value("height"))
            structure.set_value("width", whole.get_value("width"))

    def do_get_unit_size(self, caps: Any) -> Any:
        """Bytes of a frame."""
        info = GstVideo.VideoInfo.new_from_caps(caps)
        return (False, 0) if info is None else (True, info.size)

    def do_set_caps(self, taken: Any, given: Any) -> bool:
        """Note the caps, also new ones in the middle of a stream: the next frame opens a stream for them."""
        infos = (GstVideo.VideoInfo.new_from_caps(taken), GstVideo.VideoInfo.new_from_caps(given))
        if None in infos:
            return self._fail(ValueError(f"caps are no video: {taken.to_string()}"))
        self._infos = infos
        self._close_stream()
        return True

    def _open_stream(self) -> Any:
        assert self._infos is not None
        taken, given = self._infos
        colour = taken.colorimetry
        values = self._values
        return self._restorer.stream(
            depth=1,
            steps=None if values["steps"] == _DEFAULT_STEPS else values["steps"],
            seed=values["seed"],
            temporal=values["temporal"],
            deadline_ms=values["deadline"] or None,
            size=(taken.height, taken.width),
            format=FORMATS[taken.finfo.name],
            output_format=FORMATS[given.finfo.name],
            matrix="bt601" if colour.matrix == GstVideo.VideoColorMatrix.BT601 else "bt709",
            full_range=colour.range == getattr(GstVideo.VideoColorRange, "0_255"),
        )

    # Frames

    def do_transform(self, taken: Any, given: Any) -> Any:
        """Restore a frame into the buffer that is given on."""
        begun_s = time.perf_counter()
        try:
            if self._stream is None or self._changed:
                self._changed = False
                self._close_stream()
                self._stream = self._open_stream()
            self._restore(taken, given)
        except Exception as error:
            self._fail(error)
            return Gst.FlowReturn.ERROR
        self._note_latency((time.perf_counter() - begun_s) * 1e3)
        return Gst.FlowReturn.OK

    def _restore(self, taken: Any, given: Any) -> None:
        assert self._infos is not None
        source, target = self._infos
        with taken.map(Gst.MapFlags.READ) as mapped:
            data = np.frombuffer(mapped.data, np.uint8)
            self._stream.submit(layout_of(taken, source).array(data))
            # The buffer is mapped until the frame was read.
            result = self._stream.result()
        with given.map(Gst.MapFlags.WRITE) as mapped:
            layout_of(given, target).fill(np.frombuffer(mapped.data, np.uint8), result.frame)

    # Latency

    def _note_latency(self, milliseconds: float) -> None:
        self._latencies.add(milliseconds)
        now_ns = self._latency_ns()
        if now_ns > _GROWN * self._told_ns:
            self._told_ns = now_ns
            self.post_message(Gst.Message.new_latency(self))

    def _latency_ns(self) -> int:
        return int(self._latencies.percentiles().get("p95", 0.0) * 1e6)

    def _on_query(self, pad: Any, probe: Any) -> Any:
        """Add what a frame takes here to the latency that the elements before it state.

        A probe of the pad, because PyGObject cannot tell a transform's "query" from an element's. It sees queries on
        their way back, answered.
        """
        query = probe.get_query()
        if query is not None and query.type == Gst.QueryType.LATENCY:
            live, least, most = query.parse_latency()
            unlimited = most == Gst.CLOCK_TIME_NONE
            query.set_latency(live, least + self._told_ns, most if unlimited else most + self._told_ns)
        return Gst.PadProbeReturn.OK


def layout_of(buffer: Any, info: Any) -> Layout:
    """Where the planes of a buffer lie: as its meta data say, or as its caps."""
    meta = GstVideo.buffer_get_video_meta(buffer)
    found = info if meta is None else meta
    count = info.finfo.n_planes
    return Layout(
        info.finfo.name, info.height, info.width, list(found.offset)[:count], list(found.stride)[:count]
    )


def output_size(restorer: Any, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of what becomes of frames of a size."""
    height, width = restorer.geometry(size).scaled
    return int(height), int(width)
