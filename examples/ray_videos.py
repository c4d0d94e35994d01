"""Restore videos on many machines, a task each: ``python examples/ray_videos.py OUT_FOLDER VIDEO...``.

Ray runs a task again whose machine is lost or whose process was killed; the video then goes on where it was, as the
segments that are done lie beside the output. The folder must be one that all machines see.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import ray


@ray.remote(num_cpus=1, max_retries=5)
def restore(source: str, target: str) -> str:
    """Restore a video; what an earlier try left is used."""
    import elir_trt
    from elir_trt.io import restore_path

    lines: list[str] = []
    with elir_trt.open("camera") as restorer:
        report = restore_path(restorer, source, target, overwrite=True, say=lines.append)
    return "; ".join([f"{target}: {report.frames} frames in {report.seconds:.1f} s", *lines])


def main(folder: str, videos: list[str]) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    targets = [Path(folder).absolute() / Path(video).name for video in videos]
    waiting = [
        restore.remote(str(Path(video).absolute()), str(target))
        for video, target in zip(videos, targets, strict=True)
    ]
    while waiting:
        (done,), waiting = ray.wait(waiting)
        print(ray.get(done))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    ray.init(address=os.environ.get("RAY_ADDRESS"), log_to_driver=False, include_dashboard=False)
    main(sys.argv[1], sys.argv[2:])
