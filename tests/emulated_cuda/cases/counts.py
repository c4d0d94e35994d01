"""What a replayed frame costs beside the engines: calls of the CUDA runtime, operations on the GPU, bytes copied.

The numbers are exact, and docs/gpu.md has them: a change that adds a launch has to say so in both places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from emulated_cuda.emulated import Gpu
from libraries import EmulatedLibrary
from pixels import random_frame
from streams import recipe_of, stream_of

FRAMES = 4
SIZE = (1080, 1920)
NV12 = SIZE[0] * SIZE[1] * 3 // 2
#: Pointers and pitches of the frame's planes, the restored frame's pointer, the frame's number and its flag.
PARAMS = 72


@dataclass(frozen=True)
class Case:
    """A stream of 1080p NV12.

    Attributes:
        mode: how frames lie on the engines: "pad" as camera (whole), "fit" as bfr, "tile".
        steps: Euler steps.
        output: format and bytes of a restored frame.
        operations: on the GPU, the engines' left out. One upload is the frame's, the other the parameters'.
    """

    mode: str
    steps: int
    output: tuple[str, int]
    operations: dict[str, int]


COPIES = {"upload": 2, "download": 1}
CASES = {
    "camera": Case(
        "pad",
        1,
        ("nv12", NV12),
        {**COPIES, "load_frame": 1, "start_latent": 1, "step_latent": 1, "store_frame": 1},
    ),
    # Fitted into the 64x64 of the test's engines: 36x64.
    "bfr": Case(
        "fit",
        5,
        ("nv12", 36 * 64 * 3 // 2),
        {**COPIES, "mix_rows": 1, "mix_columns": 1, "start_latent": 1, "step_latent": 5, "store_frame": 1},
    ),
}
#: Of a frame, however many kernels its graph has.
CALLS = {
    "cudaSetDevice": 2,  # of begin and finish
    "cudaThreadExchangeStreamCaptureMode": 2,
    "cudaMemcpyAsync": 2,  # the frame's upload and download
    "cudaEventRecord": 3,  # uploaded, computed, done
    "cudaStreamWaitEvent": 2,
    "cudaGraphLaunch": 1,
    "cudaEventSynchronize": 1,
}


@pytest.mark.parametrize("name", CASES)
def test_a_replayed_frame_costs_what_it_must(library: EmulatedLibrary, gpu: Gpu, name: str) -> None:
    case = CASES[name]
    format, restored = case.output
    core = stream_of(
        SIZE, recipe_of(case.mode), library, format="nv12", output_format=format, steps=case.steps
    )
    frame = random_frame("nv12", *SIZE, np.random.default_rng(1))

    def go(count: int) -> None:
        for _ in range(count):
            core.submit(frame)
            assert core.result().error is None

    go(5)
    gpu.counts(clear=True)
    go(FRAMES)
    found = gpu.counts()
    assert core.execution_mode == "graph"
    executed = {kind: count for kind, count in found["executed"].items() if kind != "engine"}
    assert executed == {kind: FRAMES * count for kind, count in case.operations.items()}
    assert found["calls"] == {call: FRAMES * count for call, count in CALLS.items()}
    assert found["bytes"] == {"upload": FRAMES * (NV12 + PARAMS), "download": FRAMES * restored}


def test_averages_over_time_cost_three_launches(library: EmulatedLibrary, gpu: Gpu) -> None:
    core = stream_of((90, 131), recipe_of("tile"), library, steps=0, batch=1, temporal="auto")
    whole = stream_of((64, 64), recipe_of("pad"), library, steps=0, temporal="auto")
    for stream, size, tiles in ((core, (90, 131), 6), (whole, (64, 64), 1)):
        frame = np.zeros((*size, 3), np.uint8)
        for _ in range(5):
            stream.submit(frame)
            assert stream.result().error is None
        gpu.counts(clear=True)
        stream.submit(frame)
        assert stream.result().error is None
        executed = gpu.counts()["executed"]
        for kernel in ("temporal_blocks", "temporal_levels", "temporal_average"):
            assert executed[kernel] == tiles


def test_tiles_cost_four_launches_each_and_one_to_blend(library: EmulatedLibrary, gpu: Gpu) -> None:
    core = stream_of((90, 131), recipe_of("tile"), library, steps=1)
    frame = np.zeros((90, 131, 3), np.uint8)
    for _ in range(5):
        core.submit(frame)
        assert core.result().error is None
    gpu.counts(clear=True)
    core.submit(frame)
    assert core.result().error is None
    tiles = 6
    executed = {kind: count for kind, count in gpu.counts()["executed"].items() if kind != "engine"}
    kernels = ("load_frame", "start_latent", "step_latent", "add_tile")
    assert executed == {**COPIES, **dict.fromkeys(kernels, tiles), "blend_tiles": 1}
