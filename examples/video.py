"""Restore a video file, its sound and times kept: ``python examples/video.py in.mp4 out.mp4``."""

from __future__ import annotations

import sys

import elir_trt
from elir_trt.io import restore_path


def main(source: str, target: str) -> None:
    with elir_trt.open("camera") as restorer:
        report = restore_path(restorer, source, target)
    print(f"{report.frames} frames in {report.seconds:.1f} s")
    for note in report.notes:
        print(note)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
