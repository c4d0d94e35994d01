from __future__ import annotations

import importlib.util
import struct
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from media_files import picture, real

from elir_trt.errors import ElirWarning, MediaError
from elir_trt.io import jpeg
from elir_trt.io.images import read_image, write_image

FORMATS = (".png", ".jpg", ".webp", ".tiff", ".bmp")


def encoded(suffix: str, image: np.ndarray, *options: int) -> bytes:
    done, data = cv2.imencode(suffix, image, list(options))
    assert done
    return bytes(data)


def with_exif(data: bytes, orientation: int) -> bytes:
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_written_can_be_read(tmp_path: Path, suffix: str) -> None:
    rgb = picture()
    path = tmp_path / f"a{suffix}"
    write_image(path, rgb)
    found = read_image(path)
    assert found.alpha is None
    assert found.notes == ()
    worst = np.abs(found.rgb.astype(int) - rgb).max()
    assert worst <= (8 if suffix == ".jpg" else 0)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", (*FORMATS, ".gif"))
def test_every_truncation_is_an_error(tmp_path: Path, suffix: str) -> None:
    data = encoded(suffix, picture())
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data)
    read_image(path)
    for length in (*range(0, len(data) - 2, max(1, len(data) // 40)), len(data) - 2):
        path.write_bytes(data[:length])
        with pytest.raises(MediaError, match="a"):
            read_image(path)


@pytest.mark.parametrize(
    "options",
    [
        (),
        (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        (cv2.IMWRITE_JPEG_RST_INTERVAL, 3),
        (cv2.IMWRITE_JPEG_OPTIMIZE, 1),
        (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411),
        (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440),
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (17, 33), (96, 128)])
def test_good_jpegs_pass(options: tuple[int, ...], size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for array in (image, image[:, :, 0]):
        data = encoded(".jpg", array, *options)
        jpeg.check_codes(data)
        jpeg.check_codes(data + b"what some cameras leave behind")


def test_an_overwritten_jpeg_is_an_error(tmp_path: Path) -> None:
    data = bytearray(encoded(".jpg", np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)))
    middle = len(data) // 2
    data[middle : middle + 400] = np.random.default_rng(1).bytes(400)
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(MediaError, match="damaged"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_opencv_does(tmp_path: Path, orientation: int) -> None:
    data = with_exif(encoded(".jpg", picture(24, 40)), orientation)
    (tmp_path / "a.jpg").write_bytes(data)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg").rgb, expected)


def test_a_wrong_checksum_is_an_error(tmp_path: Path) -> None:
    data = bytearray(encoded(".png", picture()))
    data[data.index(b"IDAT") + 20] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(MediaError, match=r"a\.png.*checksum of its IDAT"):
        read_image(tmp_path / "a.png")


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 30000, 30000, 1, 0, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(MediaError, match="900000000 pixels; at most"):
        read_image(tmp_path / "bomb.png")
    write_image(tmp_path / "small.png", picture(10, 10))
    with pytest.raises(MediaError, match="at most 99"):
        read_image(tmp_path / "small.png", pixel_limit=99)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "HTML page"),
        (b"just a few words\n", "text file"),
        (b"%PDF-1.7\n", "PDF"),
        (b"PK\x03\x04....", "ZIP"),
        (b"\0\0\0\x20ftypisom\0\0\0\0", "video"),
        (b"\0\0\0\x20ftypheic\0\0\0\0", "HEIC"),
        (bytes(range(256)) * 4, "no image format"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "a.png").write_bytes(data)
    # With the plugin for such files installed they are read, and then they are damaged.
    readable = words == "HEIC" and importlib.util.find_spec("pillow_heif")
    with pytest.raises(MediaError, match=rf"a\.png.*{words}.*" + ("damaged" if readable else "JPEG, PNG")):
        read_image(tmp_path / "a.png")


def test_folders_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="folder"):
        read_image(tmp_path)
    with pytest.raises(MediaError, match="no such file"):
        read_image(tmp_path / "a.png")


def test_16_bits_grey_and_alpha(tmp_path: Path) -> None:
    small = picture(8, 9)
    cv2.imwrite(str(tmp_path / "deep.png"), small.astype(np.uint16)[:, :, ::-1] * 257)
    found = read_image(tmp_path / "deep.png")
    np.testing.assert_array_equal(found.rgb, small)
    assert found.notes == ("16 bits per channel reduced to 8",)

    cv2.imwrite(str(tmp_path / "grey.png"), small[:, :, 0])
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png").rgb, small[:, :, :1].repeat(3, 2))

    for suffix in (".png", ".webp", ".tiff"):
        path = tmp_path / f"alpha{suffix}"
        write_image(path, small, small[:, :, 1])
        found = read_image(path)
        assert found.alpha is not None
        np.testing.assert_array_equal(found.alpha, small[:, :, 1])


def test_float_must_be_finite_and_in_range(tmp_path: Path) -> None:
    path = str(tmp_path / "a.tiff")
    values = picture(8, 9).astype(np.float32) / 255
    cv2.imwrite(path, values[:, :, ::-1])
    np.testing.assert_array_equal(read_image(path).rgb, picture(8, 9))
    for bad, words in ((np.nan, "not finite"), (np.inf, "not finite"), (1.5, "0 to 1"), (-0.5, "0 to 1")):
        values[3, 4, 1] = bad
        cv2.imwrite(path, values)
        with pytest.raises(MediaError, match=words):
            read_image(path)


def test_alpha_that_cannot_be_kept_is_a_warning(tmp_path: Path) -> None:
    with pytest.warns(ElirWarning, match="transparency"):
        write_image(tmp_path / "a.jpg", picture(), picture()[:, :, 0])


def test_unwritable_names_and_folders(tmp_path: Path) -> None:
    for name in ("a.gif", "a", "a.xyz"):
        with pytest.raises(MediaError, match=r"allowed.*\.png"):
            write_image(tmp_path / name, picture())
    with pytest.raises(MediaError, match="no folder"):
        write_image(tmp_path / "none" / "a.png", picture())
    with pytest.raises(MediaError, match="cannot hold"):
        write_image(tmp_path / "a.webp", np.zeros((1, 20000, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "a.png", picture())
    before = (tmp_path / "a.png").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(MediaError, match="No space left"):
        write_image(tmp_path / "a.png", picture(seed=1))
    assert (tmp_path / "a.png").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


BAD = {
    "corrupt_crc.png": "checksum",
    "corrupt_middle.jpg": "damaged",
    "decompression_bomb_30000x30000.png": "900000000 pixels",
    "float32_nan_inf.tiff": "not finite",
    "html_error_page.jpg": "HTML",
    "random_bytes.png": "no image format",
    "text_renamed.png": "text file",
    "truncated_half.jpg": "truncated",
    "truncated_half.png": "truncated",
    "truncated_header.jpg": "truncated",
    "zero_bytes.png": "empty",
}
VIDEOS = {".mp4", ".mkv", ".ts", ".mov", ".avi"}


@pytest.mark.parametrize("path", real("bad_inputs"))
def test_real_bad_inputs(path: Path) -> None:
    if path.suffix in VIDEOS:
        with pytest.raises(MediaError):
            read_image(path)
    elif path.name in BAD:
        with pytest.raises(MediaError, match=rf"{path.name}.*{BAD[path.name]}"):
            read_image(path)
    else:
        found = read_image(path)
        assert found.rgb.dtype == np.uint8
        if path.name.startswith("exif_orientation"):
            upright = read_image(path.parents[1] / "clean_photos" / "bsds_368037.jpg").rgb
            assert np.abs(found.rgb.astype(int) - upright).mean() < 3


@pytest.mark.parametrize("path", real("clean_photos") + real("degraded_faces") + real("degraded_scenes"))
def test_real_photos_are_read_without_a_word(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_image(path)
    np.testing.assert_array_equal(found.rgb, cv2.imread(str(path), cv2.IMREAD_COLOR_RGB))
