"""The core against plain numpy and torch, with parts that are Python functions."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from elir_trt import _core

HERE = Path(__file__).resolve().parent
RNG = np.random.default_rng(0)


def make(frame: tuple[int, int], engine: tuple[int, int], **changes: Any) -> _core.Stream:
    options: dict[str, Any] = {
        "frame_height": frame[0],
        "frame_width": frame[1],
        "engine_height": engine[0],
        "engine_width": engine[1],
        "scaled_height": frame[0],
        "scaled_width": frame[1],
        "scale_y": 1.0,
        "scale_x": 1.0,
        "interpolation": "bicubic",
        "tiles": [(0, 0)],
        "downscale": 4,
        "latent_channels": 5,
        "sigma": 0.0,
        "steps": 0,
        "table": np.zeros((0, 3), np.float32),
    }
    options.update(changes)
    return _core.Stream(**options)


def nothing(handle: int) -> None:
    assert handle == 0


def wire(stream: _core.Stream, **parts: Any) -> _core.Stream:
    """Parts that do nothing, and a decoder that passes the image through, unless others are given."""
    image, decoded = stream.buffer("image"), stream.buffer("decoded")
    all_parts = {"encoder": nothing, "coarse": nothing, "velocity": nothing}
    all_parts["decoder"] = lambda handle: np.copyto(decoded, image)
    for name, part in {**all_parts, **parts}.items():
        stream.set_part(name, part)
    stream.start()
    return stream


def frame_of(height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 3), (16, 16), (13, 31)])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_pads_by_reflection_and_gives_the_frame_back(size: tuple[int, int], order: str) -> None:
    stream = wire(make(size, (32, 32), format=f"{order}24", output_format=f"{order}24"))
    frame = frame_of(*size)
    stream.submit(frame)
    assert np.array_equal(stream.result().frame, frame)
    shown = frame[:, :, ::-1] if order == "bgr" else frame
    padding = ((0, 32 - size[0]), (0, 32 - size[1]), (0, 0))
    expected = np.pad(shown, padding, mode="reflect").transpose(2, 0, 1) / np.float32(255)
    np.testing.assert_allclose(stream.buffer("image")[0], expected, atol=1e-7)


@pytest.mark.parametrize("frame", [(20, 28), (64, 48), (100, 36)])
def test_bicubic_is_torchs_with_antialias(frame: tuple[int, int]) -> None:
    ratio = min(64 / frame[0], 64 / frame[1])
    scaled = (round(frame[0] * ratio), round(frame[1] * ratio))
    stream = wire(
        make(
            frame,
            (64, 64),
            scaled_height=scaled[0],
            scaled_width=scaled[1],
            scale_y=scaled[0] / frame[0],
            scale_x=scaled[1] / frame[1],
        )
    )
    pixels = frame_of(*frame)
    stream.submit(pixels)
    assert stream.result().frame.shape == (*scaled, 3)
    source = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    wanted = torch.nn.functional.interpolate(source, size=scaled, mode="bicubic", antialias=True).clamp(0, 1)
    found = stream.buffer("image")[0, :, : scaled[0], : scaled[1]]
    np.testing.assert_allclose(found, wanted[0].numpy(), atol=2e-6)


def test_nearest_repeats_pixels() -> None:
    stream = wire(
        make(
            (4, 4),
            (32, 32),
            scaled_height=32,
            scaled_width=32,
            scale_y=8.0,
            scale_x=8.0,
            interpolation="nearest",
        )
    )
    frame = frame_of(4, 4)
    stream.submit(frame)
    assert np.array_equal(stream.result().frame, frame.repeat(8, 0).repeat(8, 1))


def test_tiles_are_averaged_where_they_overlap() -> None:
    stream = make((24, 32), (16, 16), tiles=[(y, x) for y in (0, 8) for x in (0, 8, 16)])
    decoded = stream.buffer("decoded")
    calls = iter(range(6))
    wire(stream, decoder=lambda handle: decoded.fill(next(calls) / 10))
    stream.submit(frame_of(24, 32))
    total, count = np.zeros((24, 32)), np.zeros((24, 32))
    for index, (y, x) in enumerate((y, x) for y in (0, 8) for x in (0, 8, 16)):
        total[y : y + 16, x : x + 16] += index / 10
        count[y : y + 16, x : x + 16] += 1
    expected = np.rint(255 * np.float32(total / count))
    assert np.abs(stream.result().frame - expected[:, :, None]).max() <= 1


def test_frames_that_are_not_contiguous() -> None:
    stream = wire(make((10, 12), (12, 12), depth=4))
    big = frame_of(20, 24)
    views = [big[::2, ::2], big[9::-1, 11::-1], big[:10, :12, ::-1], big.transpose(1, 0, 2)[:10, :12]]
    for view in views:
        stream.submit(view)
    for view in views:
        assert np.array_equal(stream.result().frame, view)


def test_philox_known_answers() -> None:
    """The vectors that Random123 is published with."""
    assert _core.philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ones = 0xFFFFFFFF
    assert _core.philox([ones] * 4, [ones] * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


def test_noise_is_normal_and_belongs_to_its_place() -> None:
    field = _core.noise_field(3, 6, 200, 160)
    assert abs(field.mean()) < 0.01
    assert abs(field.std() - 1) < 0.01
    assert abs((field**4).mean() - 3) < 0.1
    assert np.array_equal(_core.noise_field(3, 6, 50, 70), field[:, :50, :70])
    assert not np.array_equal(_core.noise_field(4, 6, 200, 160), field)
    assert not np.array_equal(_core.noise_field(3, 6, 200, 160, frame=1), field)


def test_noise_of_a_tile_is_that_of_its_place() -> None:
    stream = make(
        (16, 40), (16, 24), tiles=[(0, 0), (0, 16)], sigma=0.5, steps=1, table=np.zeros((1, 3), np.float32)
    )
    latents = []
    latent = stream.buffer("latent")
    wire(stream, velocity=lambda handle: latents.append(latent.copy()))
    stream.submit(frame_of(16, 40))
    stream.result()
    field = 0.5 * _core.noise_field(0, 5, 4, 10)
    np.testing.assert_array_equal(latents[0][0], field[:, :, :6])
    np.testing.assert_array_equal(latents[1][0], field[:, :, 4:10])


@pytest.mark.parametrize("noise", ["fixed", "per-frame", "off"])
def test_noise_over_frames(noise: str) -> None:
    stream = make((8, 8), (8, 8), sigma=1.0, steps=1, table=np.zeros((1, 3), np.float32), noise=noise)
    latent, seen = stream.buffer("latent"), []
    wire(stream, velocity=lambda handle: seen.append(latent.copy()))
    for _ in range(2):
        stream.submit(frame_of(8, 8))
        stream.result()
    if noise == "off":
        assert not seen[0].any() and not seen[1].any()
    else:
        assert np.array_equal(seen[0], seen[1]) == (noise == "fixed")
        assert abs(seen[0]).max() > 0.5


def test_euler_steps_use_their_rows() -> None:
    table = RNG.standard_normal((4, 3)).astype(np.float32)
    stream = make((8, 8), (8, 8), steps=4, table=table)
    latent, velocity, condition = (stream.buffer(n) for n in ("latent", "velocity", "condition"))
    coarse = stream.buffer("coarse")
    start = RNG.standard_normal(coarse.shape).astype(np.float32)

    def field(handle: int) -> None:
        velocity[...] = latent * condition.sum()

    wire(stream, coarse=lambda handle: np.copyto(coarse, start), velocity=field)
    stream.submit(frame_of(8, 8))
    assert stream.result().steps == 4
    expected = start.copy()
    for row in table:
        expected = expected + (expected * row.sum()) * np.float32(0.25)
    np.testing.assert_allclose(latent, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("part", ["encoder", "coarse", "velocity", "decoder"])
def test_a_failing_part_fails_its_frame_alone(part: str) -> None:
    calls = iter(range(9))

    def sometimes(handle: int) -> None:
        if next(calls) == 1:
            raise RuntimeError("out of order")

    stream = wire(make((8, 8), (8, 8), steps=1, table=np.zeros((1, 3), np.float32)), **{part: sometimes})
    for _ in range(3):
        stream.submit(frame_of(8, 8))
    results = [stream.result() for _ in range(3)]
    assert [result.error for result in results] == [None, (part, "out of order"), None]
    assert results[1].frame is None
    stats = stream.stats()
    assert (stats["completed"], stats["failed"], stats["pending"]) == (2, 1, 0)


def test_output_that_is_not_finite_fails_the_frame() -> None:
    stream = make((8, 8), (8, 8))
    decoded = stream.buffer("decoded")
    values = iter([np.nan, np.inf, 0.5])
    wire(stream, decoder=lambda handle: decoded.fill(next(values)))
    for _ in range(3):
        stream.submit(frame_of(8, 8))
    errors = [stream.result().error for _ in range(3)]
    assert errors[0] is not None and errors[0][0] == "decoder" and "NaN" in errors[0][1]
    assert errors[1] is not None and errors[2] is None


def held(**changes: Any) -> tuple[_core.Stream, threading.Event, threading.Event]:
    """A stream whose encoder waits for leave; tells when it was entered."""
    entered, leave = threading.Event(), threading.Event()

    def encoder(handle: int) -> None:
        entered.set()
        assert leave.wait(20)

    return wire(make((8, 8), (8, 8), **changes), encoder=encoder), entered, leave


def test_newest_gives_up_the_frame_at_hand() -> None:
    stream, entered, leave = held(depth=2, drop="newest")
    assert stream.submit(frame_of(8, 8)) == 0
    assert entered.wait(10)
    assert stream.submit(frame_of(8, 8)) == 1
    assert stream.submit(frame_of(8, 8)) is None
    leave.set()
    assert [stream.result().index for _ in range(2)] == [0, 1]
    assert stream.stats()["dropped"] == 1


def test_oldest_gives_up_the_oldest_waiting_frame() -> None:
    stream, entered, leave = held(depth=3, drop="oldest")
    assert stream.submit(frame_of(8, 8)) == 0
    assert entered.wait(10)
    for index in range(1, 6):
        assert stream.submit(frame_of(8, 8), timestamp=float(index)) == index
    leave.set()
    results = [stream.result() for _ in range(3)]
    assert [result.index for result in results] == [0, 4, 5]
    assert [result.timestamp for result in results] == [None, 4.0, 5.0]
    assert stream.stats()["dropped"] == 3


def test_oldest_gives_up_an_uncollected_result_when_nothing_waits() -> None:
    stream = wire(make((8, 8), (8, 8), depth=1, drop="oldest"))
    for index in range(50):
        assert stream.submit(frame_of(8, 8)) == index
    assert stream.result(10).index == 49


def test_block_waits_and_times_out() -> None:
    stream, entered, leave = held(depth=1)
    stream.submit(frame_of(8, 8))
    assert entered.wait(10)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        stream.submit(frame_of(8, 8), timeout=0.1)
    with pytest.raises(TimeoutError):
        stream.result(0.1)
    assert time.monotonic() - began >= 0.2
    leave.set()
    assert stream.result().index == 0


def test_submit_and_result_from_two_threads() -> None:
    stream = wire(make((8, 8), (8, 8), depth=2))
    frames = [frame_of(8, 8) for _ in range(300)]

    def submit_all() -> None:
        for frame in frames:
            stream.submit(frame)
        stream.close()

    thread = threading.Thread(target=submit_all)
    thread.start()
    for index, frame in enumerate(frames):
        result = stream.result(20)
        assert result.index == index and np.array_equal(result.frame, frame)
    with pytest.raises(_core.Closed):
        stream.result(20)
    thread.join()


def test_closed_takes_no_more_and_finishes_what_it_has() -> None:
    stream = wire(make((8, 8), (8, 8), depth=3))
    stream.submit(frame_of(8, 8))
    stream.close()
    with pytest.raises(_core.Closed):
        stream.submit(frame_of(8, 8))
    assert stream.result().index == 0
    with pytest.raises(_core.Closed):
        stream.result()


def test_result_into_an_array() -> None:
    stream = wire(make((8, 8), (8, 8)))
    frame, out = frame_of(8, 8), np.zeros((8, 8, 3), np.uint8)
    stream.submit(frame)
    assert stream.result(out=out).frame is out
    assert np.array_equal(out, frame)
    with pytest.raises(ValueError, match=r"out is .*expected uint8 of shape 8x8x3"):
        stream.result(out=np.zeros((8, 9, 3), np.uint8))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frame_height": 0}, "frame_height is 0"),
        ({"engine_width": 30}, "multiples of downscale 4"),
        ({"tiles": []}, "tiles is empty"),
        ({"tiles": [(0, 16)]}, "gaps"),
        ({"tiles": [(0, 2)]}, "multiples of downscale"),
        ({"scale_x": 2.0}, "scale_x is 2"),
        ({"steps": 2}, "table has 0 rows"),
        ({"sigma": -1.0}, "sigma is -1"),
        ({"depth": 0}, "depth is 0"),
        ({"noise": "some"}, "noise is 'some'; allowed: fixed, per-frame, off"),
        ({"drop": "all"}, "drop is 'all'"),
        ({"format": "yuv"}, "format is 'yuv'; allowed: rgb24, bgr24, rgba, bgra, gray, nv12"),
        ({"matrix": "bt2020"}, "matrix is 'bt2020'; allowed: bt601, bt709"),
        ({"element": "float16"}, "element is 'float16'"),
        ({"interpolation": "area"}, "interpolation is 'area'"),
    ],
)
def test_wrong_arguments_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make((32, 32), (32, 32), **changes)


@pytest.mark.parametrize(
    "frame", [np.zeros((8, 9, 3), np.uint8), np.zeros((8, 8, 3)), np.zeros((8, 8), np.uint8)]
)
def test_wrong_frames_are_refused_and_the_stream_goes_on(frame: np.ndarray) -> None:
    stream = wire(make((8, 8), (8, 8)))
    with pytest.raises(ValueError, match=r"frame is .*expected uint8 of shape 8x8x3"):
        stream.submit(frame)
    good = frame_of(8, 8)
    stream.submit(good)
    assert np.array_equal(stream.result().frame, good)


def test_a_missing_part_is_an_error_at_start() -> None:
    stream = make((8, 8), (8, 8))
    stream.set_part("encoder", nothing)
    with pytest.raises(RuntimeError, match="a part is missing"):
        stream.start()


def test_buffers_outlive_the_stream_and_nothing_leaks() -> None:
    stream = wire(make((8, 8), (8, 8)))
    buffer = stream.buffer("image")
    stream.submit(np.full((8, 8, 3), 255, np.uint8))
    stream.result()
    del stream
    gc.collect()
    assert buffer.min() == 1.0


def test_memory_is_flat_over_frames() -> None:
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1])

    stream = wire(make((64, 64), (64, 64)))
    frame, out = frame_of(64, 64), np.empty((64, 64, 3), np.uint8)
    before = 0
    for index in range(3000):
        stream.submit(frame)
        stream.result(out=out)
        if index == 500:
            before = resident()
    assert resident() - before < 128  # pages


def test_depth_is_checked_before_memory_is_taken() -> None:
    with pytest.raises(ValueError, match="depth is 1000000000; expected 1 to 4096"):
        make((8, 8), (16, 16), depth=10**9)
    with pytest.raises(ValueError, match="depth is 4096, of 96 MiB a frame; this machine has"):
        make((4096, 4096), (4096, 4096), depth=4096)


def test_a_stream_collected_on_its_own_worker_ends() -> None:
    """A part drops the last reference: the worker must not join itself, and the process must go on."""
    code = """
import gc, sys, time, weakref
sys.path.insert(0, ".")
from test_core import make, nothing, wire, frame_of

class Holder: pass
holder = Holder()
holder.stream = make((16, 16), (16, 16))
ended = weakref.ref(holder)
def encoder(handle):
    holder_of.clear()
    gc.collect()
holder_of = [holder]
wire(holder.stream, encoder=encoder)
holder.stream.submit(frame_of(16, 16))
del holder
deadline = time.monotonic() + 20
while ended() is not None and time.monotonic() < deadline:
    time.sleep(0.01)
assert ended() is None
again = wire(make((16, 16), (16, 16)))
frame = frame_of(16, 16)
again.submit(frame)
assert (again.result().frame == frame).all()
print("went on")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, cwd=HERE
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "went on"


def test_a_forked_process_is_told_and_ends() -> None:
    code = """
import os, sys
sys.path.insert(0, ".")
from test_core import make, wire, frame_of
stream = wire(make((16, 16), (16, 16)))
stream.submit(frame_of(16, 16))
stream.result()
child = os.fork()
if child == 0:
    for call in (lambda: stream.submit(frame_of(16, 16)), stream.result, stream.close, stream.stats):
        try:
            call()
        except RuntimeError as error:
            assert "forked from it" in str(error), error
        else:
            os._exit(3)
    del stream, call
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stream.submit(frame_of(16, 16))
stream.result()
print("parent goes on")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=HERE,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "parent goes on"


def test_compiled_devices_are_more_than_usable_ones() -> None:
    assert set(_core.devices()) <= set(_core.compiled_devices())
    assert "cpu" in _core.compiled_devices()
