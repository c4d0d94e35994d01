"""Restore a folder of images on many processes or machines: ``python examples/ray_images.py IN OUT [WORKERS]``.

Ray Data hands out the files; each actor opens one restorer and keeps it. What is there already is not done again, so
that a run that was stopped goes on.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import ray

import elir_trt
from elir_trt.errors import ElirError
from elir_trt.io import restore_path
from elir_trt.io.image_job import image_targets


class Restore:
    """An actor with one restorer."""

    def __init__(self, bundle: str) -> None:
        self.restorer = elir_trt.open(bundle)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            restore_path(self.restorer, row["source"], row["target"])
        except ElirError as error:
            return {**row, "error": str(error)}
        return {**row, "error": ""}


def main(source: str, target: str, workers: int = 2) -> None:
    pairs = image_targets(Path(source).absolute(), Path(target).absolute())
    rows = [{"source": str(a), "target": str(b)} for a, b in pairs.items() if not b.exists()]
    print(f"{len(rows)} of {len(pairs)} images to restore")
    if not rows:
        return
    # A restorer uses all CPUs that it sees: each actor gets its share.
    each = max(1, int(ray.cluster_resources()["CPU"]) // workers)
    done = ray.data.from_items(rows, override_num_blocks=min(len(rows), 4 * workers)).map(
        Restore, fn_constructor_args=("camera",), concurrency=workers, num_cpus=each
    )
    failed = [row for row in done.iter_rows() if row["error"]]
    for row in failed:
        print(f"{row['source']}: {row['error']}")
    print(f"{len(rows) - len(failed)} images restored")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    ray.init(address=os.environ.get("RAY_ADDRESS"), log_to_driver=False, include_dashboard=False)
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
