"""Calls that fail, recordings that break, threads that meddle: what a stream makes of it, and leaves behind."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from emulated_cuda.emulated import Gpu
from libraries import EmulatedLibrary
from streams import recipe_of, results, stream_of, through

SIZE = (47, 61)
Part = Callable[[int], None]


def frames_of(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(count)]


def living(gpu: Gpu) -> dict[str, int]:
    gc.collect()
    return {kind: count for kind, count in gpu.counts()["objects"].items() if kind != "nodes"}


def restored(gpu_results: list[Any], right: list[np.ndarray]) -> int:
    """How many frames failed; those that did not are right."""
    failed = 0
    for found, expected in zip(gpu_results, right, strict=True):
        if found.error is not None:
            failed += 1
        else:
            assert int(np.abs(found.frame.astype(int) - expected.astype(int)).max()) <= 1
    return failed


#: Calls of frames, and whether one that fails costs a frame. Recording is only an attempt.
CALLS = {
    "cudaMemcpyAsync": True,
    "cudaLaunchKernel": True,
    "cudaEventRecord": True,
    "cudaStreamWaitEvent": True,
    "cudaEventSynchronize": True,
    "cudaGraphLaunch": True,
    "cudaHostGetDevicePointer": True,
    "cudaStreamBeginCapture": False,
    "cudaStreamEndCapture": False,
    "cudaGraphInstantiate": False,
    "cudaGraphDestroy": False,
    "cudaSetDevice": False,
    "cudaThreadExchangeStreamCaptureMode": False,
}


@pytest.mark.parametrize("schedule", ["at_once", "uploads_last", "random"])
@pytest.mark.parametrize("call", CALLS)
def test_one_failed_call_costs_one_frame(
    library: EmulatedLibrary, gpu: Gpu, call: str, schedule: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whichever call it is, in frames that are eager, recorded and replayed, of two in flight."""
    right = through(stream_of(SIZE, recipe_of("tile")), frames_of(7))
    for nth in (1, 2, 3, 5, 8, 13, 21):
        gpu.reset(schedule, nth)
        core = stream_of(SIZE, recipe_of("tile"), library, depth=4)
        gpu.fail(call, nth)
        failed = restored(list(results(core, frames_of(7), 4)), right)
        assert failed <= (1 if CALLS[call] else 0), f"{call} {nth}: {failed} frames failed"
        assert core.execution_mode == "graph"
        core.abort()
        del core


@pytest.mark.parametrize("record", [True, False])
def test_tiles_of_a_failed_frame_are_not_blended_into_the_next(
    library: EmulatedLibrary, gpu: Gpu, record: bool
) -> None:
    size = (90, 131)
    rng = np.random.default_rng(4)
    frames = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(4)]
    right = through(stream_of(size, recipe_of("tile"), steps=1), frames)
    costs = 0
    for nth in (4, 9, 14, 20):
        gpu.reset("random", nth)
        core = stream_of(size, recipe_of("tile"), library, steps=1, depth=4, record=record)
        gpu.fail("cudaLaunchKernel", nth)
        costs += restored(list(results(core, frames, 4)), right)
        core.abort()
    assert costs == 4


@pytest.mark.parametrize("nth", range(1, 7))
def test_a_failed_frame_is_let_go_when_nothing_reads_it(library: EmulatedLibrary, gpu: Gpu, nth: int) -> None:
    """The memory of a frame of the GPU is free as soon as its result is collected, whatever failed when."""
    (frame,) = frames_of(1)
    gpu.reset("lazy")
    core = stream_of(SIZE, recipe_of("pad"), library, depth=1, steps=1)
    gpu.fail("cudaMemcpyAsync", nth + 1)  # after the copy that the frame is made with
    core.submit(library.array(frame, "dlpack"))
    failed = core.result().error is not None
    assert failed == (not gpu.failure_is_pending)
    gpu.reset("lazy")
    assert len(through(core, frames_of(2))) == 2


def test_a_failed_copy_is_not_blamed_on_the_next_frame(library: EmulatedLibrary, gpu: Gpu) -> None:
    core = stream_of(SIZE, recipe_of("pad"), library)
    gpu.fail("cudaMemcpyAsync")
    found = list(results(core, frames_of(3)))
    assert found[0].error is not None and "cudaMemcpyAsync" in found[0].error[1]
    assert [result.error for result in found[1:]] == [None, None]


def test_an_error_that_a_part_leaves_is_not_blamed_on_our_kernels(library: EmulatedLibrary, gpu: Gpu) -> None:
    def change(name: str, part: Part) -> Part:
        def run(stream: int) -> None:
            gpu.library.cudaEventDestroy(7)  # no such event; who calls does not look
            part(stream)

        return run

    core = stream_of(SIZE, recipe_of("pad"), library, change, record=False)
    assert len(through(core, frames_of(3))) == 3


def test_what_cannot_be_made_leaves_nothing_behind(library: EmulatedLibrary, gpu: Gpu) -> None:
    before = living(gpu)
    for call in (
        "cudaMalloc",
        "cudaHostAlloc",
        "cudaStreamCreateWithPriority",
        "cudaEventCreateWithFlags",
        "cudaMemcpyAsync",
        "cudaMemsetAsync",
        "cudaStreamSynchronize",
        "cudaDeviceGetAttribute",
        "cudaGetDeviceCount",
        "cudaLaunchKernel",
    ):
        made = False
        for nth in range(1, 200):
            gpu.fail(call, nth)
            try:
                core = stream_of(
                    SIZE, recipe_of("tile"), library, format="rgba", output_format="bgra", results="device"
                )
            except (RuntimeError, ValueError) as error:
                assert "out of memory" in str(error), error
            else:
                made = gpu.failure_is_pending
                gpu.reset()
                core.abort()
                del core
            assert living(gpu) == before, f"{call} {nth}"
            if made:
                break
        assert made, f"{call} never succeeds"


def test_streams_dropped_while_another_records(library: EmulatedLibrary, gpu: Gpu) -> None:
    """By Python's garbage collector, on the recording thread."""
    before = living(gpu)
    others = [stream_of(SIZE, recipe_of("pad"), library, results="device") for _ in range(3)]
    assert [len(through(other, frames_of(2))) for other in others] == [2, 2, 2]

    def change(name: str, part: Part) -> Part:
        def run(stream: int) -> None:
            if name == "coarse" and others:
                others.pop()
            part(stream)

        return run

    core = stream_of(SIZE, recipe_of("pad"), library, change)
    assert len(through(core, frames_of(8), 2)) == 8
    assert core.execution_mode == "graph" and not others
    core.abort()
    del core
    assert living(gpu) == before


@pytest.mark.parametrize("breaks", [1, 2])
def test_a_broken_recording_is_tried_once_more(
    library: EmulatedLibrary, gpu: Gpu, breaks: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """A part that allocates ends a recording; at the second time in a row frames are eager for good."""
    left = {"count": 0}

    def change(name: str, part: Part) -> Part:
        def run(stream: int) -> None:
            if name == "coarse" and left["count"] and gpu.is_capturing(stream):
                left["count"] -= 1
                gpu.library.cudaFree(0)
            part(stream)

        return run

    right = through(stream_of(SIZE, recipe_of("pad")), frames_of(9))
    core = stream_of(SIZE, recipe_of("pad"), library, change)
    left["count"] = breaks
    found = list(results(core, frames_of(9), 2))
    assert restored(found, right) == 0
    assert left["count"] == 0
    told = [line for line in capfd.readouterr().err.splitlines() if "elir_trt" in line]
    launches = gpu.counts()["calls"].get("cudaGraphLaunch", 0)
    if breaks == 1:
        assert core.execution_mode == "graph" and not told and launches > 0
    else:
        assert core.execution_mode.startswith("eager: ")
        assert len(told) == 1 and "not replayed" in told[0]


def test_after_one_frame_recorded_the_mode_is_that_of_all(library: EmulatedLibrary, gpu: Gpu) -> None:
    """The first of two recordings holds, the second does not: then no frame is replayed."""
    seen = {"recordings": 0}

    def change(name: str, part: Part) -> Part:
        def run(stream: int) -> None:
            if name == "decoder" and gpu.is_capturing(stream):
                seen["recordings"] += 1
                if seen["recordings"] > 1:
                    gpu.library.cudaFree(0)
            part(stream)

        return run

    core = stream_of(SIZE, recipe_of("pad"), library, change)
    through(core, frames_of(9), 2)
    assert core.execution_mode.startswith("eager: ")
    gpu.counts(clear=True)
    through(core, frames_of(4), 2)
    assert gpu.counts()["calls"].get("cudaGraphLaunch", 0) == 0


def test_buffers_are_read_while_another_thread_records(library: EmulatedLibrary, gpu: Gpu) -> None:
    held: dict[str, Any] = {}

    def change(name: str, part: Part) -> Part:
        def run(stream: int) -> None:
            if name == "velocity" and "core" in held:
                reader = threading.Thread(target=lambda: held.update(read=held["core"].read("latent")))
                reader.start()
                reader.join(30)
                assert not reader.is_alive()
            part(stream)

        return run

    core = stream_of(SIZE, recipe_of("pad"), library, change)
    held["core"] = core
    through(core, frames_of(6), 2)
    assert core.execution_mode == "graph" and held["read"].shape == (1, 3, 64, 64)
    held.clear()


def test_frames_fail_and_streams_end_on_a_broken_gpu(library: EmulatedLibrary, gpu: Gpu) -> None:
    core = stream_of(SIZE, recipe_of("pad"), library, depth=3)
    through(core, frames_of(4), 2)
    gpu.break_down()
    for result in results(core, frames_of(3)):
        assert result.error is not None and "illegal memory access" in result.error[1]
    core.abort()
    del core
    gc.collect()
    gpu.reset()
    assert len(through(stream_of(SIZE, recipe_of("pad"), library), frames_of(2))) == 2


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ({"devices": 0, "problem": 100}, "no CUDA-capable device is detected"),
        ({"devices": 0}, "no CUDA device"),
        ({"devices": 1, "problem": 35}, "driver version is insufficient"),
    ],
)
def test_a_missing_gpu_is_told(
    library: EmulatedLibrary, gpu: Gpu, device: dict[str, int], words: str
) -> None:
    from elir_trt import _core

    gpu.set_device(**device)
    assert words in _core.cuda_problem() and _core.devices() == ["cpu"]
    with pytest.raises(RuntimeError, match=words):
        stream_of(SIZE, recipe_of("pad"), library)


def test_an_integrated_gpu_reads_frames_in_place(library: EmulatedLibrary, gpu: Gpu) -> None:
    gpu.set_device(integrated=True)
    right = through(stream_of(SIZE, recipe_of("pad")), frames_of(5))
    core = stream_of(SIZE, recipe_of("pad"), library)
    gpu.counts(clear=True)
    assert restored(list(results(core, frames_of(5), 2)), right) == 0
    counts = gpu.counts()
    assert counts["executed"].get("download", 0) == 0 and counts["bytes"]["upload"] < 1000
