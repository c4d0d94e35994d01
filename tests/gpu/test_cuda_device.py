"""The CUDA device against the host device: the same frames through the same simple parts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from elir_trt import _core
from elir_trt.geometry import plan
from elir_trt.recipe import Recipe, parse_recipe

torch = pytest.importorskip("torch")

#: Largest differences of 8-bit results: sums are equal, and log, sin and cos differ in their last places.
BOUNDS = {"float32": 1, "float16": 2, "bfloat16": 5}
PARTS = ("encoder", "coarse", "velocity", "decoder")


def recipe_of(mode: str, scale: int, interpolation: str) -> Recipe:
    return parse_recipe(
        {
            "task": "simple",
            "title": "parts that hand on what they get",
            "steps": 3,
            "sigma": 0.2,
            "size": [64, 64],
            "architecture": {
                "latent_channels": 3,
                "autoencoder": {"widths": [8], "blocks": [0]},
                "coarse": {"growth": 8, "blocks": 1},
                "velocity": {"hidden": 32, "middle": 0},
            },
            "prepare": {
                "mode": mode,
                "scale": scale,
                "interpolation": interpolation,
                "multiple": 64,
                "overlap": 16,
            },
        },
        "simple",
    )


def host_parts(core: _core.Stream) -> dict[str, Callable[[int], None]]:
    b = {n: core.buffer(n) for n in ("image", "encoded", "coarse", "latent", "velocity", "decoded")}

    def velocity(_: int) -> None:
        b["velocity"][...] = -0.25 * b["latent"]

    def copy(source: str, target: str) -> Callable[[int], None]:
        def run(_: int) -> None:
            b[target][...] = b[source]

        return run

    return {
        "encoder": copy("image", "encoded"),
        "coarse": copy("encoded", "coarse"),
        "velocity": velocity,
        "decoder": copy("latent", "decoded"),
    }


def cuda_parts(core: _core.Stream) -> dict[str, Callable[[int], None]]:
    names = ("image", "encoded", "coarse", "latent", "velocity", "decoded")
    b = {n: torch.from_dlpack(core.view(n)) for n in names}

    def on_stream(work: Callable[[], None]) -> Callable[[int], None]:
        def run(handle: int) -> None:
            with torch.cuda.stream(torch.cuda.ExternalStream(handle)):
                work()

        return run

    return {
        "encoder": on_stream(lambda: b["encoded"].copy_(b["image"])),
        "coarse": on_stream(lambda: b["coarse"].copy_(b["encoded"])),
        "velocity": on_stream(lambda: torch.mul(b["latent"], -0.25, out=b["velocity"])),
        "decoder": on_stream(lambda: b["decoded"].copy_(b["latent"])),
    }


def stream_of(size: tuple[int, int], recipe: Recipe, device: str, **options: Any) -> _core.Stream:
    geometry = plan(recipe, size, size=recipe.size, fixed=recipe.prepare.mode == "tile")
    arguments = {"steps": 3, "sigma": recipe.sigma, "depth": 2, **options}
    arguments["table"] = np.zeros((arguments["steps"], 4), np.float32)
    core = _core.Stream(**geometry.arguments(), device=device, **arguments)
    for part, run in (host_parts if device == "cpu" else cuda_parts)(core).items():
        core.set_part(part, run)
    core.start()
    return core


def through(core: _core.Stream, frames: list[np.ndarray]) -> list[np.ndarray]:
    results = []
    for frame in frames:
        core.submit(frame)
        found = core.result()
        assert found.error is None, found.error
        results.append(found.frame)
    return results


CASES = [
    ("pad", 1, "bicubic", (64, 64)),
    ("pad", 1, "bicubic", (47, 61)),
    ("pad", 2, "bicubic", (19, 23)),
    ("fit", 1, "bicubic", (100, 70)),
    ("fit", 1, "nearest", (31, 200)),
    ("tile", 1, "bicubic", (90, 131)),
]


@pytest.mark.parametrize("element", BOUNDS)
@pytest.mark.parametrize(("mode", "scale", "interpolation", "size"), CASES)
@pytest.mark.parametrize("noise", ["fixed", "per-frame", "off"])
def test_the_stages_are_those_of_the_host(
    element: str, mode: str, scale: int, interpolation: str, size: tuple[int, int], noise: str
) -> None:
    recipe = recipe_of(mode, scale, interpolation)
    rng = np.random.default_rng(sum(size))
    frames = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(6)]
    for order in ("rgb", "bgr"):
        expected = through(
            stream_of(size, recipe, "cpu", noise=noise, format=f"{order}24", output_format=f"{order}24"),
            frames,
        )
        core = stream_of(
            size,
            recipe,
            "cuda",
            element=element,
            noise=noise,
            format=f"{order}24",
            output_format=f"{order}24",
        )
        for found, right in zip(through(core, frames), expected, strict=True):
            assert int(np.abs(found.astype(int) - right.astype(int)).max()) <= BOUNDS[element]
        assert core.way == "recorded"


def test_without_steps_and_noise_float32_is_exact() -> None:
    recipe = recipe_of("fit", 1, "bicubic")
    rng = np.random.default_rng(5)
    for _ in range(10):
        size = (int(rng.integers(16, 300)), int(rng.integers(16, 300)))
        frames = [rng.integers(0, 256, (*size, 3), dtype=np.uint8)]
        expected = through(stream_of(size, recipe, "cpu", steps=0), frames)
        np.testing.assert_array_equal(through(stream_of(size, recipe, "cuda", steps=0), frames), expected)


@pytest.mark.parametrize("noise", ["fixed", "per-frame"])
def test_recorded_frames_are_those_that_are_called(noise: str) -> None:
    recipe = recipe_of("pad", 1, "bicubic")
    rng = np.random.default_rng(1)
    frames = [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(20)]
    called = stream_of((64, 64), recipe, "cuda", noise=noise, record=False, element="float16")
    recorded = stream_of((64, 64), recipe, "cuda", noise=noise, element="float16")
    np.testing.assert_array_equal(through(recorded, frames), through(called, frames))
    assert (called.way, recorded.way) == ("called", "recorded")


def test_two_streams_and_two_threads() -> None:
    recipe = recipe_of("pad", 1, "bicubic")
    rng = np.random.default_rng(2)
    frames = [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(200)]
    expected = through(stream_of((64, 64), recipe, "cuda", steps=0), frames)
    cores = [stream_of((64, 64), recipe, "cuda", steps=0) for _ in range(2)]
    threads = [threading.Thread(target=lambda core=core: [core.submit(f) for f in frames]) for core in cores]
    for thread in threads:
        thread.start()
    for right in expected:
        for core in cores:
            np.testing.assert_array_equal(core.result(timeout=30).frame, right)
    for thread in threads:
        thread.join()


def test_a_failing_part_is_told_and_the_stream_goes_on() -> None:
    recipe = recipe_of("pad", 1, "bicubic")
    broken = {"now": False}
    other = plan(recipe, (64, 64), size=recipe.size, fixed=False)
    core = _core.Stream(
        **other.arguments(),
        device="cuda",
        steps=0,
        sigma=0.0,
        table=np.zeros((0, 4), np.float32),
        record=False,
    )
    parts = cuda_parts(core)

    def decoder(handle: int) -> None:
        if broken["now"]:
            raise RuntimeError("out of order")
        parts["decoder"](handle)

    for part, run in parts.items():
        core.set_part(part, decoder if part == "decoder" else run)
    core.start()
    frame = np.zeros((64, 64, 3), np.uint8)
    for now in (False, True, False):
        broken["now"] = now
        core.submit(frame)
        found = core.result()
        assert (found.error is not None) == now
        if now:
            assert found.error == ("decoder", "out of order")


def test_memory_is_flat() -> None:
    recipe = recipe_of("pad", 1, "bicubic")
    core = stream_of((64, 64), recipe, "cuda", noise="per-frame")
    frame = np.zeros((64, 64, 3), np.uint8)
    through(core, [frame] * 100)
    before = torch.cuda.mem_get_info()[0]
    for _ in range(10000):
        core.submit(frame)
        core.result()
    assert before - torch.cuda.mem_get_info()[0] <= 0
