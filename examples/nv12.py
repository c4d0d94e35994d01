"""Restore NV12 frames, as hardware decoders give them, to NV12 frames, as hardware encoders take them.

    python examples/nv12.py WIDTH HEIGHT < frames.nv12 > restored.nv12

For example: ffmpeg -i in.mp4 -f rawvideo -pix_fmt nv12 - | python examples/nv12.py 1280 720 | ffplay ...
"""

import sys
from collections.abc import Iterator

import numpy as np

import elir_trt

width, height = int(sys.argv[1]), int(sys.argv[2])


def frames() -> Iterator[np.ndarray]:
    size = width * height * 3 // 2
    while len(data := sys.stdin.buffer.read(size)) == size:
        yield np.frombuffer(data, np.uint8).reshape(height * 3 // 2, width)


with (
    elir_trt.open("camera") as restorer,
    restorer.stream(format="nv12", output_format="nv12", matrix="bt709") as stream,
):
    for result in stream.map(frames()):
        sys.stdout.buffer.write(result.frame.tobytes())
