"""Compression by the real encoders: JPEG by OpenCV's, H.264 and HEVC by x264 and x265 through PyAV."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import av
import cv2
import numpy as np

from elir_trt.degradations.noise import Image, gaussian_noise, to_uint8

Subsampling = Literal["4:2:0", "4:2:2", "4:4:4"]
Codec = Literal["h264", "hevc"]

_SAMPLING = {
    "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "4:2:2": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
}
#: Encoder and its options. One thread: the same bits every time, and small clips gain nothing by more.
_ENCODERS = {
    "h264": ("libx264", {"preset": "superfast", "x264-params": "threads=1:lookahead-threads=1"}),
    "hevc": (
        "libx265",
        {"preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1:wpp=0"},
    ),
}


def jpeg(image: Image, quality: int, subsampling: Subsampling = "4:2:0") -> Image:
    """Encode and decode ``[H, W, 3]`` RGB as JPEG of quality 1 to 100, by default with the chroma halved each way."""
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        _SAMPLING[subsampling],
    ]
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    assert ok
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def video(
    image: Image,
    crf: int,
    rng: np.random.Generator,
    *,
    codec: Codec = "h264",
    frames: int = 4,
    speed: float = 1.0,
    sigma: float = 0.0,
) -> Image:
    """A picture as a frame of a compressed video: the last of a clip in which the picture moved to its place.

    Args:
        image: ``[H, W, 3]`` RGB, sides even.
        crf: rate factor of the encoder, 0 (best) to 51; 23 (H.264) and 28 (HEVC) are the encoders' defaults.
        rng: draws the direction and, with ``sigma``, the noise.
        codec: 4:2:0 and 8 bits in both.
        frames: length of the clip; 1 is a key frame alone.
        speed: pixels between one frame and the next, fractions included.
        sigma: standard deviation of white noise that each frame has before it is encoded, of 255.
    """
    height, width = image.shape[:2]
    angle = rng.uniform(0.0, 2.0 * np.pi)
    step = speed * np.array([np.cos(angle), np.sin(angle)])
    name, options = _ENCODERS[codec]
    encoder = av.CodecContext.create(name, "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt, encoder.thread_count = width, height, "yuv420p", 1
    encoder.framerate, encoder.time_base = Fraction(30), Fraction(1, 30)
    encoder.options = {**options, "crf": str(crf)}
    # Packets go from the encoder to the decoder: no container in between has a say in their time stamps.
    packets = []
    for index in range(frames):
        left = frames - 1 - index
        moved = image
        if left and speed:
            shift = np.array([[1, 0, left * step[0]], [0, 1, left * step[1]]], dtype=np.float32)
            moved = np.asarray(
                cv2.warpAffine(
                    image,
                    shift,
                    (width, height),
                    flags=cv2.INTER_CUBIC,
                    borderMode=cv2.BORDER_REFLECT_101,
                ),
                dtype=np.uint8,
            )
        if sigma:
            moved = to_uint8(gaussian_noise(moved.astype(np.float32), sigma, rng))
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(moved), format="rgb24")
        frame.pts, frame.time_base = index, encoder.time_base
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoder = av.CodecContext.create(codec, "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.thread_count = 1
    last = None
    for packet in (*packets, None):
        for decoded in decoder.decode(packet):
            last = decoded
    assert last is not None
    return np.asarray(last.to_ndarray(format="rgb24"), dtype=np.uint8)
