"""The stages of the core against plain numpy and torch, with parts that are Python functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from core_streams import RNG, frame_of, make, nothing, wire

from elir_trt import _core


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
            scaled=scaled,
            scale=(scaled[0] / frame[0], scaled[1] / frame[1]),
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
            scaled=(32, 32),
            scale=(8.0, 8.0),
            interpolation="nearest",
        )
    )
    frame = frame_of(4, 4)
    stream.submit(frame)
    assert np.array_equal(stream.result().frame, frame.repeat(8, 0).repeat(8, 1))


def hann_weights(starts: list[int], tile: int, length: int) -> list[np.ndarray]:
    """How much each tile along one axis counts before all are scaled to a sum of 1."""
    weights = []
    for start in starts:
        end = min(start + tile, length)
        ramp = np.ones(end - start)
        before = [s for s in starts if s < start]
        after = [s for s in starts if s > start]
        if before and (over := max(before) + tile - start) > 0:
            ramp[:over] *= 0.5 - 0.5 * np.cos(np.pi * (np.arange(min(over, len(ramp))) + 0.5) / over)
        if after and (over := end - min(after)) > 0:
            ramp[-over:] *= (0.5 - 0.5 * np.cos(np.pi * (np.arange(over) + 0.5) / over))[::-1]
        weights.append(ramp)
    return weights


# The last tiles are shifted back inside, so that up to three lie over one place.
ROWS, COLUMNS = [0, 8, 12], [0, 8, 16]


@pytest.mark.parametrize("batch", [1, 2, 4, 9, 16])
def test_tiles_are_blended_where_they_overlap(batch: int) -> None:
    """With raised cosines, whatever the tiles show, and however many of them go through the engines together."""
    tiles = [(y, x) for y in ROWS for x in COLUMNS]
    stream = make((28, 32), (16, 16), tiles=tiles, batch=batch)
    decoded = stream.buffer("decoded")
    assert decoded.shape == (batch, 3, 16, 16)
    shown = RNG.random((len(tiles), 3, 16, 16)).astype(np.float32)
    calls = iter(range(0, len(tiles), batch))

    def decoder(handle: int) -> None:
        first = next(calls)
        decoded[...] = np.nan  # what no tile of the run is in must not count
        decoded[: len(shown[first : first + batch])] = shown[first : first + batch]

    wire(stream, decoder=decoder)
    stream.submit(frame_of(28, 32))
    rows, columns = hann_weights(ROWS, 16, 28), hann_weights(COLUMNS, 16, 32)
    sums, total = np.zeros((28, 32, 3)), np.zeros((28, 32, 1))
    for index, (y, x) in enumerate(tiles):
        weight = np.outer(rows[index // 3], columns[index % 3])[:, :, None]
        height, width = weight.shape[:2]
        sums[y : y + 16, x : x + 16] += weight * shown[index].transpose(1, 2, 0)[:height, :width]
        total[y : y + 16, x : x + 16] += weight
    assert np.abs(stream.result().frame - np.rint(255 * sums / total)).max() <= 1


def test_blending_gives_back_what_all_tiles_agree_on() -> None:
    """Weights sum to 1 everywhere: parts that pass frames through give them back bit for bit, in every batch."""
    frame = frame_of(28, 32)
    for batch in (1, 2, 9):
        stream = wire(make((28, 32), (16, 16), tiles=[(y, x) for y in ROWS for x in COLUMNS], batch=batch))
        stream.submit(frame)
        assert np.array_equal(stream.result().frame, frame)


def test_a_step_between_tiles_becomes_a_ramp() -> None:
    stream = make((16, 48), (16, 32), tiles=[(0, 0), (0, 16)])
    decoded = stream.buffer("decoded")
    values = iter([0.25, 0.75])
    wire(stream, decoder=lambda handle: decoded.fill(next(values)))
    stream.submit(frame_of(16, 48))
    row = stream.result().frame[0, :, 0].astype(int)
    assert (row[:16] == 64).all() and (row[32:] == 191).all()
    steps = np.diff(row[15:33])
    assert (
        steps >= 0
    ).all() and steps.max() <= 13  # a raised cosine's steepest place; a mean would jump by 64


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
    table = RNG.standard_normal((10, 3)).astype(np.float32)  # of 1, 2, 3 and 4 steps
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
    for row in table[6:]:
        expected = expected + (expected * row.sum()) * np.float32(0.25)
    np.testing.assert_allclose(latent, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("noise", ["fixed", "per-frame"])
def test_steps_differ_from_frame_to_frame(noise: str) -> None:
    """Each frame gets the steps, the rows and the step width it was submitted with, and noise if it has steps."""
    table = RNG.standard_normal((6, 3)).astype(np.float32)
    stream = make((8, 8), (8, 8), steps=2, table=table, sigma=0.5, noise=noise, depth=4)
    latent, velocity, condition = (stream.buffer(n) for n in ("latent", "velocity", "condition"))
    coarse = stream.buffer("coarse")
    latents = []
    wire(
        stream,
        coarse=lambda handle: coarse.fill(1.0),
        velocity=lambda handle: velocity.fill(condition.sum()),
        decoder=lambda handle: latents.append(latent.copy()),
    )
    asked = [None, 0, 3, 1, 0, 2]
    for steps in asked:
        stream.submit(frame_of(8, 8), steps=steps)
        expected = 2 if steps is None else steps
        assert stream.result().steps == expected
        rows = table[expected * (expected - 1) // 2 :][:expected]
        moved = 1.0 + (rows.sum() / expected if expected else 0.0)
        difference = latents[-1] - moved
        assert difference.any() == (expected > 0)
        assert abs(difference.mean()) < 0.5
    for steps in (-1, 4):
        with pytest.raises(ValueError, match=f"steps is {steps}; this stream allows 0 to 3"):
            stream.submit(frame_of(8, 8), steps=steps)
    assert stream.stats()["submitted"] == len(asked)


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
        ({"frame": (0, 32)}, "frame_height is 0"),
        ({"engine": (32, 30)}, "multiples of downscale 4"),
        ({"tiles": []}, "tiles is empty"),
        ({"tiles": [(0, 16)]}, "gaps"),
        ({"tiles": [(0, 2)]}, "multiples of downscale"),
        ({"scale": (1.0, 2.0)}, "scale_x is 2"),
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
        make(**{"frame": (32, 32), "engine": (32, 32), **changes})


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


def test_compiled_devices_are_more_than_usable_ones() -> None:
    assert set(_core.devices()) <= set(_core.compiled_devices())
    assert "cpu" in _core.compiled_devices()


def test_frames_without_steps_take_the_direct_way_where_there_is_one() -> None:
    calls: list[str] = []
    stream = make((16, 16), (16, 16), table=np.zeros((1, 4), np.float32))
    parts = {
        name: (lambda handle, name=name: calls.append(name)) for name in ("encoder", "coarse", "velocity")
    }

    def decoder(handle: int) -> None:
        calls.append("decoder")
        stream.buffer("decoded").fill(0.25)

    def direct(handle: int) -> None:
        calls.append("direct")
        stream.buffer("decoded").fill(0.75)

    stream.set_part("direct", direct)
    wire(stream, decoder=decoder, **parts)
    for steps, level, way in ((0, 191, ["direct"]), (1, 64, ["encoder", "coarse", "velocity", "decoder"])):
        calls.clear()
        stream.submit(frame_of(16, 16), None, steps, None)
        result = stream.result()
        assert calls == way and (result.frame == level).all()
        assert (result.stages["direct"] > 0) == (steps == 0) and (result.stages["decoder"] > 0) == (
            steps == 1
        )


def test_a_direct_way_that_fails_is_named() -> None:
    def broken(handle: int) -> None:
        raise RuntimeError("no way")

    stream = make((16, 16), (16, 16))
    stream.set_part("direct", broken)
    wire(stream)
    stream.submit(frame_of(16, 16), None, 0, None)
    assert stream.result().error == ("direct", "no way")
