"""A GStreamer pipeline as a camera: CSI cameras of a Jetson, and whatever else GStreamer reads."""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from elir_trt.errors import MediaError, MissingPackageError
from elir_trt.formats import PixelFormat
from elir_trt.io.source import Source
from elir_trt.live.frame import LiveFrame

# What the last element hands over. The core takes them as they are; others are converted by the pipeline.
_FORMATS: dict[str, PixelFormat] = {"BGR": "bgr24", "RGB": "rgb24"}
_NAME = "elir_frames"
_CAPS = "video/x-raw,format=(string){ BGR, RGB }"
_PATIENCE_NS = 200_000_000


def pipeline_of(description: str) -> str:
    """The pipeline to run: the user's, with an end that hands frames over, where it has none.

    Args:
        description: as for gst-launch-1.0; with an appsink at its end or without.
    """
    if "appsink" in description:
        return description
    sink = f"appsink name={_NAME} max-buffers=1 drop=true sync=false caps={_CAPS!r}"
    return f"{description.rstrip().rstrip('!')} ! videoconvert ! {sink}".replace("'", '"')


def open_pipeline(description: str) -> Source:
    """Run a pipeline, through PyGObject, or an OpenCV that was built with GStreamer.

    Args:
        description: as for gst-launch-1.0, such as "nvarguscamerasrc ! nvvidconv ! video/x-raw,format=BGRx".

    Raises:
        MissingPackageError: neither is here.
        MediaError: it does not parse, or does not start.
    """
    if importlib.util.find_spec("gi") is not None:
        return Pipeline(description)
    if _opencv_has_gstreamer():
        return OpenCVPipeline(description)
    raise MissingPackageError(
        "a GStreamer pipeline needs PyGObject (apt install python3-gi python3-gst-1.0; in a virtual environment made "
        "with --system-site-packages), or an OpenCV that was built with GStreamer, as JetPack's; pip's has none",
        name="gi",
    )


def load_gstreamer() -> Any:
    """The module ``Gst``, started.

    Raises:
        MissingPackageError: PyGObject or GStreamer is not installed.
    """
    try:
        gi: Any = importlib.import_module("gi")
        gi.require_version("Gst", "1.0")
        gi.require_version("GstVideo", "1.0")
        gst: Any = importlib.import_module("gi.repository.Gst")
    except (ImportError, ValueError) as error:
        raise MissingPackageError(
            f"GStreamer cannot be loaded ({error}): apt install python3-gst-1.0 gir1.2-gst-plugins-base-1.0",
            name="gi",
        ) from None
    gst.init(None)
    return gst


class Pipeline(Source):
    """The frames of a pipeline's appsink, the newest each time. Time stamps are those of its clock."""

    live = True

    def __init__(self, description: str, *, timeout_s: float = 10.0) -> None:
        """Start the pipeline and wait for its first frame.

        Args:
            description: as for gst-launch-1.0.
            timeout_s: for the first frame.

        Raises:
            MissingPackageError: GStreamer is not here.
            MediaError: it does not parse, does not start, or gives no frame that the core takes.
        """
        self._gst = gst = load_gstreamer()
        self._video: Any = importlib.import_module("gi.repository.GstVideo")
        self._description = description
        self._stopped = False
        text = pipeline_of(description)
        try:
            self._pipeline: Any = gst.parse_launch(text)
        except Exception as error:  # GLib.Error, which PyGObject makes
            raise MediaError(f"{description}: this pipeline does not parse: {error}") from None
        self._sink: Any = self._find_sink()
        self._first: Any = None
        try:
            if self._pipeline.set_state(gst.State.PLAYING) == gst.StateChangeReturn.FAILURE:
                raise MediaError(f"{description}: this pipeline does not start: {self._complaint()}")
            deadline_s = time.monotonic() + timeout_s
            while self._first is None:
                self._first = self._pull()
                if self._first is None and (self._is_over() or time.monotonic() > deadline_s):
                    raise MediaError(f"{description}: this pipeline gives no frame: {self._complaint()}")
            self._describe(self._first.get_caps())
        except BaseException:
            self.close()
            raise

    def _find_sink(self) -> Any:
        iterator = self._pipeline.iterate_sinks()
        found = []
        while True:
            done, element = iterator.next()
            if done != self._gst.IteratorResult.OK:
                break
            if element.get_factory().get_name() == "appsink":
                found.append(element)
        if len(found) != 1:
            raise MediaError(
                f"{self._description}: it has {len(found)} appsinks; expected one, or none at all"
            )
        return found[0]

    def _describe(self, caps: Any) -> None:
        info = self._video.VideoInfo.new_from_caps(caps)
        name = info.finfo.name if info is not None else caps.to_string()
        if name not in _FORMATS:
            raise MediaError(
                f"{self._description}: its appsink gives {name}; put 'videoconvert ! video/x-raw,format=BGR' "
                "before it"
            )
        self.pixel_format = _FORMATS[name]
        self.size = (info.height, info.width)

    def __iter__(self) -> Iterator[LiveFrame]:
        """Give frames as they come.

        Raises:
            MediaError: an element failed.
        """
        while not self._stopped:
            sample, self._first = self._first, None
            sample = sample or self._pull()
            if sample is not None:
                yield self._give(sample)
            elif self._is_over():
                error = self._complaint()
                if error:
                    raise MediaError(error)
                return

    def _pull(self) -> Any:
        return self._sink.emit("try-pull-sample", _PATIENCE_NS)

    def _is_over(self) -> bool:
        if self._sink.get_property("eos"):
            return True
        message = self._pipeline.get_bus().peek()
        return message is not None and self._errors() != ""

    def _give(self, sample: Any) -> LiveFrame:
        buffer = sample.get_buffer()
        info = self._video.VideoInfo.new_from_caps(sample.get_caps())
        pitch = info.stride[0]
        meta = self._video.buffer_get_video_meta(buffer)
        if meta is not None:
            pitch = meta.stride[0]
        data = buffer.extract_dup(0, buffer.get_size())
        pixels = packed(np.frombuffer(data, np.uint8), info.height, info.width, pitch)
        stamp_s, captured_s = self._times(buffer)
        return LiveFrame(pixels, stamp_s, self._description, captured_s=captured_s)

    def _times(self, buffer: Any) -> tuple[float | None, float]:
        """The time stamp, and when the frame was taken: a live source stamps with the time of the pipeline's
        clock."""
        now_s = time.monotonic()
        if buffer.pts == self._gst.CLOCK_TIME_NONE:
            return None, now_s
        clock = self._pipeline.get_clock()
        running_ns = clock.get_time() - self._pipeline.get_base_time() if clock is not None else buffer.pts
        age_s = (running_ns - buffer.pts) / 1e9
        return buffer.pts / 1e9, now_s - max(0.0, age_s)

    def _errors(self) -> str:
        message = self._pipeline.get_bus().pop_filtered(self._gst.MessageType.ERROR)
        if message is not None:
            error, _ = message.parse_error()
            self._error = f"{message.src.get_name()}: {error.message}"
        return self._error

    _error = ""

    def _complaint(self) -> str:
        return self._errors() or ("" if self._sink.get_property("eos") else "it says nothing")

    def stop(self) -> None:
        """End the iteration soon."""
        self._stopped = True

    def close(self) -> None:
        """Stop the pipeline."""
        self._pipeline.set_state(self._gst.State.NULL)


def packed(data: npt.NDArray[np.uint8], height: int, width: int, pitch: int) -> npt.NDArray[np.uint8]:
    """``[H, W, 3]`` of bytes whose rows are ``pitch`` bytes apart; a view where that is possible."""
    return np.lib.stride_tricks.as_strided(data, (height, width, 3), (pitch, 3, 1), writeable=False)


def _opencv_has_gstreamer() -> bool:
    if importlib.util.find_spec("cv2") is None:
        return False
    cv2: Any = importlib.import_module("cv2")
    return cv2.CAP_GSTREAMER in cv2.videoio_registry.getBackends()


class OpenCVPipeline(Source):
    """The frames of a pipeline through an OpenCV that was built with GStreamer. It has no time stamps."""

    pixel_format = "bgr24"
    live = True

    def __init__(self, description: str) -> None:
        """Start the pipeline.

        Raises:
            MediaError: it does not start.
        """
        cv2: Any = importlib.import_module("cv2")
        self._description = description
        text = description
        if "appsink" not in text:
            text += " ! videoconvert ! video/x-raw,format=BGR ! appsink max-buffers=1 drop=true sync=false"
        self._capture = cv2.VideoCapture(text, cv2.CAP_GSTREAMER)
        self._stopped = False
        if not self._capture.isOpened():
            raise MediaError(f"{description}: this pipeline does not start; gst-launch-1.0 says why")

    def __iter__(self) -> Iterator[LiveFrame]:
        """Give frames as they come."""
        while not self._stopped:
            done, pixels = self._capture.read()
            if not done:
                return
            yield LiveFrame(pixels, None, self._description, captured_s=time.monotonic())

    def stop(self) -> None:
        """End the iteration with the next frame."""
        self._stopped = True

    def close(self) -> None:
        """Stop the pipeline."""
        self._capture.release()
