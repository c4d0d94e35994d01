"""How frames may be stored: against the equations of ITU-T H.273 in float64, and against OpenCV."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from core_streams import make, wire

from elir_trt import _core

#: Weights of red and blue in luma.
WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}
RNG = np.random.default_rng(4)


def nv12_to_rgb(nv12: np.ndarray, matrix: str, full: bool) -> np.ndarray:
    height = nv12.shape[0] * 2 // 3
    kr, kb = WEIGHTS[matrix]
    luma = nv12[:height].astype(np.float64)
    chroma = nv12[height:].reshape(height // 2, -1, 2).astype(np.float64) - 128
    cb, cr = (np.repeat(np.repeat(chroma[:, :, i], 2, 0), 2, 1) for i in (0, 1))
    if not full:
        luma, cb, cr = (luma - 16) * 255 / 219, cb * 255 / 224, cr * 255 / 224
    red, blue = luma + 2 * (1 - kr) * cr, luma + 2 * (1 - kb) * cb
    green = (luma - kr * red - kb * blue) / (1 - kr - kb)
    return np.stack([red, green, blue], axis=2)


def rgb_to_nv12(rgb: np.ndarray, matrix: str, full: bool) -> np.ndarray:
    kr, kb = WEIGHTS[matrix]
    pixels = rgb.astype(np.float64)
    luma = pixels @ np.array([kr, 1 - kr - kb, kb])
    height, width = luma.shape
    mean = pixels.reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3))
    low = mean @ np.array([kr, 1 - kr - kb, kb])
    cb, cr = (mean[:, :, 2] - low) / (2 * (1 - kb)), (mean[:, :, 0] - low) / (2 * (1 - kr))
    if not full:
        luma, cb, cr = 16 + luma * 219 / 255, cb * 224 / 255, cr * 224 / 255
    chroma = np.stack([cb, cr], axis=2).reshape(height // 2, width) + 128
    return np.concatenate([luma, chroma])


def through(frame: np.ndarray, size: tuple[int, int], **options: Any) -> np.ndarray:
    stream = wire(make(size, (32, 32), **options))
    stream.submit(frame)
    found = stream.result()
    assert found.error is None, found.error
    return found.frame


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", WEIGHTS)
def test_nv12_is_read_and_written_as_h273_says(matrix: str, full: bool) -> None:
    size = (18, 30)
    options: dict[str, Any] = {"matrix": matrix, "full_range": full}
    nv12 = RNG.integers(0, 256, (27, 30), dtype=np.uint8)
    found = through(nv12, size, format="nv12", **options)
    expected = np.clip(nv12_to_rgb(nv12, matrix, full), 0, 255)
    assert found.shape == (18, 30, 3)
    assert np.abs(found - expected).max() <= 0.501
    rgb = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    written = through(rgb, size, output_format="nv12", **options)
    assert written.shape == (27, 30)
    assert np.abs(written - rgb_to_nv12(rgb, matrix, full)).max() <= 0.501


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
    assert np.abs(found - rgb_to_nv12(expected, "bt709", True)).max() <= 0.501


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
