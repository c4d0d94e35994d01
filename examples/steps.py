"""How long a frame takes with each number of steps: ``python examples/steps.py [task or bundle]``."""

from __future__ import annotations

import statistics
import sys

import numpy as np

import elir_trt

FRAMES = 10


def main(name: str) -> None:
    with elir_trt.open(name) as restorer:
        height, width = restorer.recipe.size
        frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        print(f"{restorer.recipe.title}, {width}x{height}")
        for steps in range(restorer.recipe.steps + 1):
            with restorer.stream(depth=1, steps=steps) as stream:
                results = list(stream.map([frame] * (FRAMES + 2)))
            times = [result.stages["total"] for result in results[2:]]  # The first two warm it up.
            print(f"{steps} steps: {statistics.median(times):.1f} ms")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "camera")
