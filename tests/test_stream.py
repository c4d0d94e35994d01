"""The whole way of a frame, through bundle and core, against the torch pipeline with the same noise."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from bundles import small_recipe

import elir_trt
from elir_trt import _core
from elir_trt.building import build
from elir_trt.errors import BundleError, FrameError
from elir_trt.model import load_model

RNG = np.random.default_rng(5)


def frame_of(height: int = 64, width: int = 128) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-12)))


def torch_restored(checkpoint: Path, frame: np.ndarray, steps: int) -> np.ndarray:
    """What the torch pipeline makes of a frame whose sides need no padding, with the core's noise of seed 0."""
    model = load_model(checkpoint)
    height, width = frame.shape[:2]
    noise = torch.from_numpy(_core.noise_field(0, 16, height // 8, width // 8))[None]
    x = torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        y = model.restore(x, steps=steps, sigma=0.1, noise=noise)
    return np.rint(255 * y[0].permute(1, 2, 0).numpy()).astype(np.uint8)


@pytest.mark.parametrize(("precision", "least"), [("fp32", 50.0), ("bf16", 38.0)])
def test_pipeline_against_torch(small_checkpoint: Path, tmp_path: Path, precision: str, least: float) -> None:
    report = build(
        small_recipe(), small_checkpoint, output=tmp_path / "b", backends=["openvino"], precision=precision
    )
    with elir_trt.open(report.path) as restorer:
        for size in ((64, 128), (96, 64)):
            for steps in (0, 1, 3):
                frame = frame_of(*size)
                restored = restorer(frame, steps=steps)
                assert psnr(restored, torch_restored(small_checkpoint, frame, steps)) >= least


def test_stream_maps_in_order_and_reports(small_bundle: Path) -> None:
    frames = [frame_of() for _ in range(7)]
    with elir_trt.open(small_bundle) as restorer, restorer.stream(depth=3) as stream:
        results = list(stream.map((frame, index / 25) for index, frame in enumerate(frames)))
        assert [result.index for result in results] == list(range(7))
        assert stream.execution_mode == "eager"
        assert [result.timestamp for result in results] == [index / 25 for index in range(7)]
        for frame, result in zip(frames, results, strict=True):
            assert np.array_equal(restorer(frame), result.frame)
            assert result.steps == 3
            parts = sum(value for name, value in result.stages.items() if name != "total")
            assert 0 < parts <= result.stages["total"] * 1.01 <= result.latency_ms * 1.02
        stats = stream.stats()
    assert (stats["submitted"], stats["completed"], stats["dropped"], stats["failed"]) == (7, 7, 0, 0)
    assert stats["latency_ms"]["p50"] <= stats["latency_ms"]["p95"] <= stats["latency_ms"]["p99"]


def test_padding_and_channel_order(small_bundle: Path) -> None:
    frame = frame_of(50, 70)
    padded = np.pad(frame, ((0, 14), (0, 26), (0, 0)), mode="reflect")
    with elir_trt.open(small_bundle) as rgb, elir_trt.open(small_bundle, order="bgr") as bgr:
        restored = rgb(frame)
        assert np.array_equal(restored, rgb(padded)[:50, :70])
        assert np.array_equal(restored, bgr(frame[:, :, ::-1])[:, :, ::-1])


def test_seed_and_noise(small_bundle: Path) -> None:
    frame = frame_of()
    with elir_trt.open(small_bundle) as restorer:
        same = restorer(frame, seed=1)
        assert np.array_equal(same, restorer(frame, seed=1))
        assert not np.array_equal(same, restorer(frame, seed=2))
        assert not np.array_equal(same, restorer(frame, noise="off"))
        with restorer.stream(noise="per-frame") as stream:
            first, second = stream.map([frame, frame])
        assert not np.array_equal(first.frame, second.frame)


def test_another_size_and_bad_frames_fail_alone(small_bundle: Path) -> None:
    with elir_trt.open(small_bundle) as restorer, restorer.stream() as stream:
        stream.submit(frame_of())
        with pytest.raises(FrameError, match="frame is 64x64; this stream takes 128x64"):
            stream.submit(frame_of(64, 64))
        for bad in (
            np.zeros((64, 128), np.uint8),
            np.zeros((64, 128, 3)),
            np.zeros((0, 4, 3), np.uint8),
            "text",
        ):
            with pytest.raises(FrameError, match="expected"):
                stream.submit(bad)
        stream.submit(frame_of())
        assert [stream.result(30).index, stream.result(30).index] == [0, 1]


def test_result_before_the_first_frame_and_after_close(small_bundle: Path) -> None:
    with elir_trt.open(small_bundle) as restorer:
        stream = restorer.stream()
        with pytest.raises(TimeoutError):
            stream.result(0.05)
        threading.Timer(0.2, lambda: stream.submit(frame_of())).start()
        assert stream.result(30).index == 0
        stream.close()
        with pytest.raises(EOFError):
            stream.result()
        with pytest.raises(ValueError, match="closed"):
            stream.submit(frame_of())
        never = restorer.stream()
        never.close()
        with pytest.raises(EOFError):
            never.result()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 4}, "steps is 4; this bundle allows 0 to 3"),
        ({"depth": 0}, "depth is 0"),
        ({"drop": "some"}, "drop is 'some'; allowed: block, oldest, newest"),
        ({"noise": "pink"}, "noise is 'pink'"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_options_are_named(small_bundle: Path, options: dict[str, object], message: str) -> None:
    with elir_trt.open(small_bundle) as restorer, pytest.raises(ValueError, match=message):
        restorer.stream(**options)


def test_open_names_what_there_is() -> None:
    with pytest.raises(BundleError, match=r"no bundle named 'bfr'.*elir-trt build bfr"):
        elir_trt.open("bfr")


def test_memory_of_a_stream_is_flat(small_bundle: Path) -> None:
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4

    # Threads take their scratch memory one by one; a frame that leaked, 24 KiB,, would show each time.
    frame, grown = frame_of(), []
    with elir_trt.open(small_bundle) as restorer, restorer.stream() as stream:
        for _ in range(8):
            before = resident()
            for _ in stream.map(frame for _ in range(300)):
                pass
            grown.append(resident() - before)
            if grown[-1] < 2048:  # KiB
                break
    assert grown[-1] < 2048, grown


def test_a_restorer_used_after_fork_raises(small_bundle: Path) -> None:
    """Threads do not survive a fork: every call says so, none hangs, and the parent goes on."""
    code = """
import os, sys
import numpy as np
import elir_trt
frame = np.zeros((32, 32, 3), np.uint8)
restorer = elir_trt.open(sys.argv[1])
stream = restorer.stream()
stream.submit(frame)
child = os.fork()
if child == 0:
    calls = (lambda: restorer(frame), restorer.stream, lambda: stream.submit(frame), stream.result, stream.stats)
    for call in calls:
        try:
            call()
        except elir_trt.DeviceError as error:
            assert "forked from it" in str(error), error
        else:
            os._exit(3)
    stream.close()
    restorer.close()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stream.result()
restorer(frame)
print("parent goes on")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(small_bundle)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=small_bundle,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "parent goes on"
