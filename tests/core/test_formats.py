"""How frames may be stored: against the equations of ITU-T H.273 in float64, and against OpenCV."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from core_streams import make, wire
from pixels import array_shape, plane_shapes, planes_of, random_frame

from elir_trt import _core
from elir_trt.errors import FrameError
from elir_trt.formats import FORMATS, Pixels

CHROMA = [name for name, format in FORMATS.items() if not format.channels]
#: Weights of red and blue in luma.
WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}
RNG = np.random.default_rng(4)


def levels(format: str, full: bool) -> tuple[float, float, float, float]:
    """Black, the range of luma, the middle and the range of chroma, as H.273 says for the format's depth."""
    depth = FORMATS[format].depth
    unit, whole = 2 ** (depth - 8), 2**depth - 1
    return (0, whole, 128 * unit, whole) if full else (16 * unit, 219 * unit, 128 * unit, 224 * unit)


def to_rgb(frame: np.ndarray, format: str, size: tuple[int, int], matrix: str, full: bool) -> np.ndarray:
    """A frame of luma and chroma as red, green and blue in [0, 1] but for overshoot, in float64."""
    kr, kb = WEIGHTS[matrix]
    black, luma_range, middle, chroma_range = levels(format, full)
    luma, cb, cr = (plane.astype(np.float64) for plane in planes_of(frame, format, *size))
    down, across = FORMATS[format].subsampling
    cb, cr = (np.repeat(np.repeat((c - middle) / chroma_range, down, 0), across, 1) for c in (cb, cr))
    luma = (luma - black) / luma_range
    red, blue = luma + 2 * (1 - kr) * cr, luma + 2 * (1 - kb) * cb
    return np.stack([red, (luma - kr * red - kb * blue) / (1 - kr - kb), blue], axis=2)


def from_rgb(rgb: np.ndarray, format: str, matrix: str, full: bool) -> tuple[np.ndarray, ...]:
    """Luma, Cb and Cr of red, green and blue in [0, 1], not rounded, in float64."""
    kr, kb = WEIGHTS[matrix]
    weights = np.array([kr, 1 - kr - kb, kb])
    black, luma_range, middle, chroma_range = levels(format, full)
    height, width, _ = rgb.shape
    down, across = FORMATS[format].subsampling
    mean = rgb.reshape(height // down, down, width // across, across, 3).mean(axis=(1, 3))
    low = mean @ weights
    cb, cr = (mean[:, :, 2] - low) / (2 * (1 - kb)), (mean[:, :, 0] - low) / (2 * (1 - kr))
    return black + (rgb @ weights) * luma_range, middle + cb * chroma_range, middle + cr * chroma_range


def through(frame: np.ndarray, size: tuple[int, int], **options: Any) -> np.ndarray:
    stream = wire(make(size, (32, 32), **options))
    stream.submit(frame)
    found = stream.result()
    assert found.error is None, found.error
    return found.frame


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("format", CHROMA)
def test_luma_and_chroma_are_read_and_written_as_h273_says(format: str, matrix: str, full: bool) -> None:
    size = (18, 30)
    options: dict[str, Any] = {"matrix": matrix, "full_range": full}
    frame = random_frame(format, *size, RNG)
    expected = np.clip(to_rgb(frame, format, size, matrix, full), 0, 1)
    found = through(frame, size, format=format, **options)
    assert found.shape == (18, 30, 3) and found.dtype == np.uint8
    assert np.abs(found - 255 * expected).max() <= 0.51
    deep = FORMATS[format].depth > 8
    rgb = RNG.integers(0, 65536 if deep else 256, (*size, 3), dtype=np.uint16 if deep else np.uint8)
    written = through(rgb, size, format="rgb48le" if deep else "rgb24", output_format=format, **options)
    assert written.shape == frame.shape and written.dtype == frame.dtype
    assert not (written & ((1 << FORMATS[format].shift) - 1)).any()
    reference = from_rgb(rgb / (65535 if deep else 255), format, matrix, full)
    for plane, wanted in zip(planes_of(written, format, *size), reference, strict=True):
        assert np.abs(plane - np.clip(wanted, 0, 2 ** FORMATS[format].depth - 1)).max() <= 0.51


def test_more_bits_are_not_rounded_to_eight_on_the_way() -> None:
    frame = random_frame("p010le", 16, 24, RNG)
    found = through(frame, (16, 24), format="p010le", output_format="rgb48le")
    expected = np.clip(to_rgb(frame, "p010le", (16, 24), "bt709", False), 0, 1)
    assert np.abs(found - 65535 * expected).max() <= 0.6
    rgb = RNG.integers(0, 65536, (9, 13, 3), dtype=np.uint16)
    np.testing.assert_array_equal(through(rgb, (9, 13), format="rgb48le", output_format="rgb48le"), rgb)
    np.testing.assert_array_equal(
        through(rgb, (9, 13), format="rgb48le"), np.rint(rgb.astype(np.float32) / 257).astype(np.uint8)
    )


def test_planes_are_the_same_picture_however_they_lie() -> None:
    nv12 = random_frame("nv12", 32, 32, RNG)
    luma, cb, cr = planes_of(nv12, "nv12", 32, 32)
    planar = np.concatenate([luma.ravel(), cb.ravel(), cr.ravel()]).reshape(48, 32)
    np.testing.assert_array_equal(
        through(planar, (32, 32), format="yuv420p"), through(nv12, (32, 32), format="nv12")
    )
    rgb = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for one, other in zip(
        planes_of(through(rgb, (32, 32), output_format="yuv420p"), "yuv420p", 32, 32),
        planes_of(through(rgb, (32, 32), output_format="nv12"), "nv12", 32, 32),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_i420_is_opencvs_to_one_unit() -> None:
    frame = RNG.integers(16, 236, (48, 32), dtype=np.uint8)
    found = through(frame, (32, 32), format="yuv420p", matrix="bt601").astype(int)
    assert np.abs(found - cv2.cvtColor(frame, cv2.COLOR_YUV2RGB_I420)).max() <= 1


@pytest.mark.parametrize("format", ["nv12", "p010le", "yuv420p"])
def test_planes_that_lie_apart_are_one_frame(format: str) -> None:
    frame = random_frame(format, 32, 32, RNG)
    word = frame.itemsize
    apart = []
    at = 0
    for height, width in plane_shapes(format, 32, 32):
        room = np.full((height, width + 5), 99, frame.dtype)
        room[:, :width] = frame.reshape(-1)[at : at + height * width].reshape(height, width)
        at += height * width
        apart.append(room)
    stream = wire(make((32, 32), (32, 32), format=format))
    index = stream.submit_planes(
        [(plane.ctypes.data, plane.shape[1] * word) for plane in apart], owner=apart, timestamp=2.5
    )
    found = stream.result()
    assert found.error is None and (index, found.timestamp) == (0, 2.5)
    np.testing.assert_array_equal(found.frame, through(frame, (32, 32), format=format))


@pytest.mark.parametrize(
    ("planes", "message"),
    [
        ([(64, 32)], r"planes are 1; p010le has 2"),
        ([(0, 64), (64, 64)], r"plane 0 of p010le is at address 0; expected memory"),
        ([(64, 64), (65, 64)], r"plane 1 of p010le is at address 65; expected a multiple of 2"),
        ([(64, 62), (64, 64)], r"plane 0 of p010le has a pitch of 62; expected 64 bytes or more, and a mult"),
        ([(64, 64), (64, 65)], r"plane 1 of p010le has a pitch of 65; expected 64 bytes or more, and a mult"),
    ],
)
def test_planes_that_cannot_be_are_refused(planes: list[tuple[int, int]], message: str) -> None:
    stream = wire(make((32, 32), (32, 32), format="p010le"))
    with pytest.raises(ValueError, match=message):
        stream.submit_planes(planes)


def test_the_table_is_the_one_of_the_core() -> None:
    rows = {format.name: format for format in _core.formats()}
    assert list(rows) == list(FORMATS)
    assert repr(rows["nv12"]) == "<PixelFormat nv12>"
    found = {
        name: (row.depth, row.dtype, row.channels, row.planes, row.subsampling) for name, row in rows.items()
    }
    assert found["rgb24"] == (8, "uint8", 3, 1, (1, 1))
    assert found["yuv420p"] == (8, "uint8", 0, 3, (2, 2))
    assert found["p010le"] == (10, "uint16", 0, 2, (2, 2))
    assert rows["p010le"].shift == 6
    with pytest.raises(ValueError, match=r"format is 'yuyv422'; allowed: rgb24, .*rgb48le"):
        make((32, 32), (32, 32), format="yuyv422")


@pytest.mark.parametrize("format", list(FORMATS))
def test_the_size_of_a_picture_is_told_by_its_array(format: str) -> None:
    pixels = Pixels(format, "rgb24", "bt709", False)
    frame = np.zeros(array_shape(format, 6, 10), FORMATS[format].dtype)
    assert pixels.size_of(frame) == (6, 10)
    for wrong in (frame.astype(np.float32), frame[None], frame[:0]):
        with pytest.raises(FrameError, match=rf"expected {FORMATS[format].dtype} of shape"):
            pixels.size_of(wrong)


def test_nv12_is_opencvs_to_one_unit() -> None:
    nv12 = RNG.integers(16, 236, (48, 32), dtype=np.uint8)
    found = through(nv12, (32, 32), format="nv12", matrix="bt601").astype(int)
    assert np.abs(found - cv2.cvtColor(nv12, cv2.COLOR_YUV2RGB_NV12)).max() <= 1


def test_a_picture_survives_nv12() -> None:
    flat = np.repeat(np.repeat(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8), 4, 0), 4, 1)
    nv12 = through(flat, (32, 32), output_format="nv12")
    back = through(nv12, (32, 32), format="nv12")
    assert np.abs(back.astype(int) - flat).max() <= 3


def test_alpha_is_ignored_and_comes_back_opaque() -> None:
    rgba = RNG.integers(0, 256, (9, 13, 4), dtype=np.uint8)
    np.testing.assert_array_equal(through(rgba, (9, 13), format="rgba"), rgba[:, :, :3])
    swapped = through(rgba, (9, 13), format="rgba", output_format="bgra")
    np.testing.assert_array_equal(swapped[:, :, :3], rgba[:, :, 2::-1])
    assert (swapped[:, :, 3] == 255).all()


def test_gray_stands_for_three_equal_channels_and_back() -> None:
    gray = RNG.integers(0, 256, (11, 17), dtype=np.uint8)
    np.testing.assert_array_equal(through(gray, (11, 17), format="gray"), np.repeat(gray[:, :, None], 3, 2))
    np.testing.assert_array_equal(through(gray, (11, 17), format="gray", output_format="gray"), gray)


def test_scaling_reads_the_same_pixels_in_any_format() -> None:
    rgba = RNG.integers(0, 256, (10, 12, 4), dtype=np.uint8)
    double: dict[str, Any] = {"scaled": (20, 24), "scale": (2.0, 2.0)}
    expected = through(np.ascontiguousarray(rgba[:, :, :3]), (10, 12), **double)
    np.testing.assert_array_equal(through(rgba, (10, 12), format="rgba", **double), expected)


def test_tiles_are_packed_when_the_last_is_done() -> None:
    rgb = RNG.integers(0, 256, (40, 48, 3), dtype=np.uint8)
    tiles = {"tiles": [(0, 0), (0, 16), (8, 0), (8, 16)]}
    expected = through(rgb, (40, 48), **tiles)
    found = through(rgb, (40, 48), output_format="nv12", full_range=True, **tiles)
    reference = from_rgb(expected / 255, "nv12", "bt709", True)
    for plane, wanted in zip(planes_of(found, "nv12", 40, 48), reference, strict=True):
        assert np.abs(plane - wanted).max() <= 0.501


@pytest.mark.parametrize("side", ["format", "output_format"])
def test_nv12_of_odd_sides_is_refused(side: str) -> None:
    with pytest.raises(ValueError, match=r"nv12 of 31x32; expected even sides"):
        make((32, 31), (32, 32), **{side: "nv12"})


def test_rows_of_any_format_may_be_apart() -> None:
    wide = RNG.integers(0, 256, (48, 64), dtype=np.uint8)
    np.testing.assert_array_equal(
        through(wide[:, :32], (32, 32), format="nv12"),
        through(np.ascontiguousarray(wide[:, :32]), (32, 32), format="nv12"),
    )


@pytest.mark.parametrize(
    ("format", "shape", "expected"),
    [("nv12", (32, 32), "48x32"), ("gray", (32, 32, 3), "32x32"), ("rgba", (32, 32, 3), "32x32x4")],
)
def test_a_frame_of_another_format_is_refused(format: str, shape: tuple[int, ...], expected: str) -> None:
    stream = wire(make((32, 32), (32, 32), format=format))
    with pytest.raises(ValueError, match=f"expected uint8 of shape {expected}$"):
        stream.submit(np.zeros(shape, np.uint8))


def test_results_stay_on_a_gpu_alone() -> None:
    with pytest.raises(ValueError, match="on the device where that is a GPU alone"):
        make((32, 32), (32, 32), results="device")


def test_a_view_is_the_tensor_itself() -> None:
    stream = make((32, 32), (32, 32))
    view = stream.view("image")
    assert (view.shape, view.dtype, view.__dlpack_device__()) == ((1, 3, 32, 32), "float32", (1, 0))
    tensor = torch.from_dlpack(view)
    tensor.fill_(0.5)
    assert (stream.buffer("image") == 0.5).all()
    array = np.from_dlpack(view)
    assert array[0, 0, 0, 0] == np.float32(0.5)
    del stream, view, array
    tensor.fill_(0.25)  # The memory outlives the stream.
    assert float(tensor.sum()) == 0.25 * 3 * 32 * 32


def test_a_view_that_nobody_takes_is_given_back() -> None:
    stream = make((32, 32), (32, 32))
    for _ in range(1000):
        stream.view("image").__dlpack__(stream=None)
    with pytest.raises(AttributeError, match="float32 on the CPU"):
        _ = stream.view("image").__cuda_array_interface__


def test_an_object_that_is_no_array_is_refused() -> None:
    stream: _core.Stream = wire(make((32, 32), (32, 32)))
    with pytest.raises(ValueError, match="frame is a str; expected a numpy array"):
        stream.submit("picture")
