"""Bytes of the GPU's memory that the kernels of a frame touch, beside the least that frame needs.

Counted load by load and store by store, at the sizes and in the type of real engines; engines themselves do nothing
here. docs/gpu.md has the table.
"""

from __future__ import annotations

import numpy as np
import pytest
from emulated_cuda.emulated import Gpu
from libraries import EmulatedLibrary
from pixels import random_frame

from elir_trt import _core
from elir_trt.geometry import plan
from elir_trt.recipe import load_recipe

HALF, FLOAT = 2, 4
#: What a kernel reads besides: parameters of the frame, a row of the conditioning table, taps.
SMALL = 64 << 10


def touched(
    gpu: Gpu, task: str, size: tuple[int, int], steps: int, temporal: str = "off"
) -> dict[str, dict[str, int]]:
    """Bytes by kernel, of one frame."""
    recipe = load_recipe(task)
    geometry = plan(recipe, size, size=recipe.size, fixed=recipe.prepare.mode == "tile")
    table = np.zeros((steps * (steps + 1) // 2, 64), np.float32)
    core = _core.Stream(
        geometry,
        _core.StreamOptions(
            device="cuda",
            element="float16",
            format="nv12",
            output_format="nv12",
            steps=steps,
            sigma=recipe.sigma,
            table=table,
            depth=1,
            temporal=temporal,
        ),
    )
    for part in ("encoder", "coarse", "velocity", "decoder"):
        core.set_part(part, lambda stream: None)
    core.start()
    frame = random_frame("nv12", *size, np.random.default_rng(0))
    core.submit(frame)
    assert core.result().error is None
    gpu.counts(clear=True)
    core.submit(frame)
    assert core.result().error is None
    counts = gpu.counts()
    return {kind: counts[kind] for kind in ("read", "written", "loaded")}


SIZES = pytest.mark.parametrize(
    "size", [(480, 640), (720, 1280), (1080, 1920)], ids=lambda s: f"{s[1]}x{s[0]}"
)


def check(found: dict[str, dict[str, int]], least: dict[str, tuple[int, int]]) -> None:
    """Each kernel touches what it must, and hardly more."""
    assert set(found["written"]) == set(least)
    for kernel, (read, written) in least.items():
        assert read <= found["read"][kernel] <= read + SMALL, kernel
        assert written <= found["written"][kernel] <= written + SMALL, kernel


def of_latent(numbers: int, steps: int) -> dict[str, tuple[int, int]]:
    # Noise is read, the steps' latent is float32, and the engines have a copy in their type.
    each = numbers * (HALF + FLOAT)
    return {"start_latent": (each, each), "step_latent": (steps * each, steps * each)}


@SIZES
def test_a_whole_frame_is_read_once_and_written_once(
    library: EmulatedLibrary, gpu: Gpu, size: tuple[int, int]
) -> None:
    height, width = (-(-side // 16) * 16 for side in size)
    frame, image = size[0] * size[1] * 3 // 2, 3 * height * width
    least = {
        "load_frame": (frame, image * HALF),
        **of_latent(32 * (height // 4) * (width // 4), 1),
        "store_frame": (3 * size[0] * size[1] * HALF, frame),
    }
    check(touched(gpu, "camera", size, 1), least)


@SIZES
def test_a_scaled_frame_is_read_once(library: EmulatedLibrary, gpu: Gpu, size: tuple[int, int]) -> None:
    frame, image = size[0] * size[1] * 3 // 2, 3 * 512 * 512
    # Rows first: as high as the engine's input, as wide as the frame.
    mixed = 3 * 512 * size[1] * FLOAT
    restored = (512 * size[0] // size[1]) * 512
    least = {
        "mix_rows": (frame, mixed),
        "mix_columns": (mixed, image * HALF),
        **of_latent(16 * (512 // 8) * (512 // 8), 5),
        "store_frame": (3 * restored * HALF, restored * 3 // 2),
    }
    check(touched(gpu, "bfr", size, 5), least)


def test_averages_over_time_touch_each_number_twice(library: EmulatedLibrary, gpu: Gpu) -> None:
    size = (480, 640)
    found = touched(gpu, "camera", size, 0, "auto")
    pixels = size[0] * size[1]
    maps = pixels // 64 * FLOAT
    # Sums of blocks: what came in, what was restored, the last frame. Then restored, last frame and count, in place.
    assert found["read"]["temporal_blocks"] <= 3 * pixels * (HALF + HALF + FLOAT) + SMALL
    assert found["written"]["temporal_blocks"] == 4 * maps
    assert found["read"]["temporal_levels"] == 4 * maps and found["written"]["temporal_levels"] == 2 * maps
    assert found["read"]["temporal_average"] == pixels * (3 * HALF + 4 * FLOAT) + 2 * maps
    assert found["written"]["temporal_average"] == pixels * (3 * HALF + 4 * FLOAT)
