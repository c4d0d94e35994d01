"""Every property of image files, in and out: what docs/media.md says is what happens.

The table there is the one that these rows make. After a change write it anew with:

    ELIR_TRT_WRITE_DOCS=1 python -m pytest tests/io/test_image_table.py
"""

from __future__ import annotations

import importlib.util
import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import PIL.ImageCms
import PIL.PngImagePlugin
import pytest
import tifffile
from media_files import ROOT, FakeRestorer, picture, real

from elir_trt.errors import ElirError, MediaError
from elir_trt.io.images import read_image, read_pages
from elir_trt.io.restore import restore_path

pytestmark = pytest.mark.filterwarnings("ignore::elir_trt.errors.ElirWarning")
DOCS = ROOT / "docs" / "media.md"
BEGIN, END = "<!-- table of images: tests/io/test_image_table.py -->", "<!-- end of the table of images -->"
#: sRGB's numbers in a profile that is not sRGB's own bytes, as cameras and editors put into their files.
PROFILE = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6" dc:title="gull"/></x:xmpmeta>'


def exif(orientation: int = 1) -> PIL.Image.Exif:
    """Maker, exposure and place, as cameras write them."""
    tags = PIL.Image.Exif()
    tags[0x010F] = "Maker"
    tags[0x0112] = orientation
    tags.get_ifd(0x8769)[0x829A] = 0.01
    tags.get_ifd(0x8769)[0x9003] = "2026:01:02 03:04:05"
    tags.get_ifd(0x8825)[1] = "N"
    tags.get_ifd(0x8825)[2] = (52.0, 30.0, 15.0)
    return tags


def save(path: Path, **options: Any) -> None:
    PIL.Image.fromarray(options.pop("pixels", picture())).save(path, **options)


def opened(path: Path) -> PIL.Image.Image:
    image = PIL.Image.open(io.BytesIO(path.read_bytes()))
    image.load()
    return image


def has_profile(path: Path) -> None:
    assert opened(path).info["icc_profile"] == PROFILE


def has_exif(path: Path) -> None:
    tags = opened(path).getexif()
    assert tags[0x010F] == "Maker"
    assert tags.get(0x0112, 1) == 1
    assert float(tags.get_ifd(0x8769)[0x829A]) == pytest.approx(0.01)
    assert tags.get_ifd(0x8769)[0x9003] == "2026:01:02 03:04:05"
    assert [float(part) for part in tags.get_ifd(0x8825)[2]] == [52.0, 30.0, 15.0]


def has_xmp(path: Path) -> None:
    image = opened(path)
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    packet = packet.encode() if isinstance(packet, str) else bytes(packet)
    assert b"gull" in packet
    assert b'tiff:Orientation="1"' in packet


def has_dpi(path: Path) -> None:
    assert [round(float(dots)) for dots in opened(path).info["dpi"]] == [300, 200]


def has_text(path: Path) -> None:
    assert opened(path).text["Title"] == "a gull"  # type: ignore[attr-defined]


def deep() -> np.ndarray:
    """A gradient of more levels than 8 bits have: ``[48, 64, 3]`` uint16."""
    y, x = np.mgrid[0:48, 0:64]
    return np.dstack([x * 1000 + 7, y * 1300 + 3, x * 500 + y * 600]).astype(np.uint16)


def write_deep(path: Path) -> None:
    assert cv2.imwrite(str(path), deep()[:, :, ::-1])


def is_deep(path: Path) -> None:
    found = read_image(path, deep=True).rgb
    np.testing.assert_array_equal(found, 65535 - deep())


def is_inverse(path: Path) -> None:
    np.testing.assert_array_equal(read_image(path).rgb, 255 - picture())


def write_upright(path: Path) -> None:
    save(path, exif=exif(6), xmp=XMP)


def is_upright(path: Path) -> None:
    assert opened(path).size == (48, 64)
    has_exif(path)
    has_xmp(path)


def write_gray(path: Path) -> None:
    save(path, pixels=picture()[:, :, 0])


def is_gray(path: Path) -> None:
    assert opened(path).mode == "L"
    np.testing.assert_array_equal(np.asarray(opened(path)), 255 - picture()[:, :, 0])


def write_alpha(path: Path) -> None:
    save(path, pixels=np.dstack([picture(), picture()[:, :, 0]]))


def has_alpha(path: Path) -> None:
    found = read_image(path)
    assert found.alpha is not None
    np.testing.assert_array_equal(found.alpha, picture()[:, :, 0])


def write_deep_alpha(path: Path) -> None:
    assert cv2.imwrite(str(path), np.dstack([deep(), deep()[:, :, 0]]))


def has_deep_alpha(path: Path) -> None:
    found = read_image(path, deep=True)
    assert found.alpha is not None
    np.testing.assert_array_equal(found.alpha, deep()[:, :, 0])


def write_palette(path: Path) -> None:
    PIL.Image.fromarray(picture()).quantize(64).save(path)


def is_rgb(path: Path) -> None:
    assert opened(path).mode == "RGB"


def write_cmyk(path: Path) -> None:
    PIL.Image.fromarray(picture()).convert("CMYK").save(path, quality=95)


def is_near_inverse(path: Path) -> None:
    assert np.abs(read_image(path).rgb.astype(int) - (255 - picture())).mean() < 6


def write_lab(path: Path) -> None:
    lab = PIL.ImageCms.createProfile("LAB")
    image = PIL.ImageCms.profileToProfile(
        PIL.Image.fromarray(picture()), PIL.ImageCms.createProfile("sRGB"), lab, outputMode="LAB"
    )
    assert image is not None
    image.save(path)


def write_pages(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        for n in range(3):
            writer.write(picture(48 + n, 64, seed=n), photometric="rgb", iccprofile=PROFILE)


def has_pages(path: Path) -> None:
    pages = read_pages(path)
    assert len(pages) == 3
    for n, page in enumerate(pages):
        np.testing.assert_array_equal(page.rgb, 255 - picture(48 + n, 64, seed=n))
    has_profile(path)


def has_first_page(path: Path) -> None:
    is_inverse(path)


def write_float(path: Path) -> None:
    tifffile.imwrite(path, deep().astype(np.float32) / 65535, photometric="rgb")


def is_near_deep(path: Path) -> None:
    found = read_image(path, deep=True).rgb.astype(int)
    assert np.abs(found - (65535 - deep().astype(int))).max() <= 1


def write_avif(path: Path) -> None:
    save(path, format="AVIF", quality=95, exif=exif(), icc_profile=PROFILE)


def is_avif_kept(path: Path) -> None:
    is_near_inverse(path)
    has_profile(path)
    has_exif(path)


def write_magic(magic: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(magic + bytes(64)) and None


def write_bomb(path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 1, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def write_cut(path: Path) -> None:
    save(path)
    path.write_bytes(path.read_bytes()[:-40])


def write_nan(path: Path) -> None:
    tifffile.imwrite(path, np.full((8, 8, 3), np.nan, np.float32), photometric="rgb")


def png_text() -> PIL.PngImagePlugin.PngInfo:
    info = PIL.PngImagePlugin.PngInfo()
    info.add_text("Title", "a gull")
    return info


def nothing(path: Path) -> None:
    assert path.is_file()


@dataclass(frozen=True)
class Row:
    """A property: how a file with it is written, what becomes of it, and what is said."""

    property: str
    input: str
    output: str
    verdict: str
    write: Callable[[Path], object]
    check: Callable[[Path], None] = nothing
    said: str = ""


def kept(what: str, input: str, output: str, write: Callable[[Path], object], check: Any) -> Row:
    return Row(what, input, output, "kept", write, check)


ROWS = [
    *[
        kept(
            "ICC profile; pixels stay in its space", a, b, lambda p: save(p, icc_profile=PROFILE), has_profile
        )
        for a, b in (
            (".png", ".png"),
            (".jpg", ".jpg"),
            (".webp", ".webp"),
            (".tif", ".tif"),
            (".jpg", ".png"),
        )
    ],
    *[
        kept("EXIF with GPS", a, b, lambda p: save(p, exif=exif()), has_exif)
        for a, b in (
            (".png", ".png"),
            (".jpg", ".jpg"),
            (".webp", ".webp"),
            (".jpg", ".tif"),
            (".jpg", ".png"),
        )
    ],
    *[
        kept("XMP", a, b, lambda p: save(p, xmp=XMP), has_xmp)
        for a, b in ((".jpg", ".jpg"), (".webp", ".webp"), (".jpg", ".png"), (".jpg", ".tif"))
    ],
    Row(
        "orientation",
        ".jpg",
        ".jpg",
        "converted",
        write_upright,
        is_upright,
        "turned upright (orientation 6)",
    ),
    *[
        kept("resolution", a, a, lambda p: save(p, dpi=(300, 200)), has_dpi)
        for a in (".png", ".jpg", ".tif", ".bmp")
    ],
    kept("text of a PNG", ".png", ".png", lambda p: save(p, pnginfo=png_text()), has_text),
    Row(
        "text of a PNG",
        ".png",
        ".jpg",
        "left out",
        lambda p: save(p, pnginfo=png_text()),
        nothing,
        "text is not kept in a .jpg file",
    ),
    Row(
        "ICC profile",
        ".png",
        ".bmp",
        "left out",
        lambda p: save(p, icc_profile=PROFILE),
        is_inverse,
        "ICC profile is not kept in a .bmp file",
    ),
    kept("16 bits per channel", ".png", ".png", write_deep, is_deep),
    kept("16 bits per channel", ".tif", ".tif", write_deep, is_deep),
    kept("16 bits and alpha", ".png", ".tif", write_deep_alpha, has_deep_alpha),
    Row(
        "16 bits per channel",
        ".png",
        ".jpg",
        "converted",
        write_deep,
        nothing,
        "16 bits per channel reduced to 8",
    ),
    Row(
        "float in 0 to 1",
        ".tif",
        ".tif",
        "converted",
        write_float,
        is_near_deep,
        "float in [0, 1] reduced to 16 bits",
    ),
    kept("transparency", ".png", ".png", write_alpha, has_alpha),
    kept(
        "transparency",
        ".webp",
        ".tif",
        lambda p: save(p, pixels=np.dstack([picture(), picture()[:, :, 0]]), lossless=True, exact=True),
        has_alpha,
    ),
    kept("one grey channel", ".png", ".png", write_gray, is_gray),
    kept("one grey channel", ".tif", ".tif", write_gray, is_gray),
    Row("palette", ".png", ".png", "RGB", write_palette, is_rgb),
    Row("palette", ".gif", ".png", "RGB", write_palette, is_rgb),
    Row(
        "CMYK without a profile",
        ".jpg",
        ".png",
        "converted",
        write_cmyk,
        is_near_inverse,
        "CMYK without a profile converted to RGB",
    ),
    Row("Lab", ".tif", ".png", "converted", write_lab, is_near_inverse, "Lab converted to sRGB"),
    kept("several pages, also of several sizes", ".tif", ".tif", write_pages, has_pages),
    Row(
        "several pages", ".tif", ".png", "first page", write_pages, has_first_page, "pages: first of 3 pages"
    ),
    Row("AVIF of 8 bits, with profile and EXIF", ".avif", ".png", "kept", write_avif, is_avif_kept),
    Row(
        "HEIC without its plugin",
        ".heic",
        ".png",
        "refused",
        write_magic(b"\0\0\0\x18ftypheic"),
        nothing,
        "HEIC is not read here: install pillow-heif",
    ),
    Row(
        "JPEG XL without its plugin",
        ".jxl",
        ".png",
        "refused",
        write_magic(b"\xff\x0a"),
        nothing,
        "JPEG XL is not read here: install pillow-jxl-plugin",
    ),
    Row("a file that was cut off", ".png", ".png", "refused", write_cut, nothing, "damaged: it is truncated"),
    Row("more than 178956970 pixels", ".png", ".png", "refused", write_bomb, nothing, "at most 178956970"),
    Row("NaN", ".tif", ".png", "refused", write_nan, nothing, "are not finite"),
]


def table() -> str:
    """The rows as the documentation has them: rows that differ in formats alone are one."""
    merged: dict[tuple[str, str, str], list[str]] = {}
    for row in ROWS:
        ways = merged.setdefault((row.property, row.verdict, row.said), [])
        ways.append(row.input if row.input == row.output else f"{row.input} to {row.output}")
    lines = ["| property | files | what becomes of it | what is said |", "|---|---|---|---|"]
    for (what, verdict, said), ways in merged.items():
        lines.append(f"| {what} | {', '.join(ways)} | {verdict} | {said} |")
    return "\n".join(lines)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.property} {row.input}{row.output}")
def test_what_becomes_of_a_property(
    row: Row, tmp_path: Path, restorer: FakeRestorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    if row.verdict == "refused" and "install" in row.said:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        for name in ("HEIF", "JXL"):
            monkeypatch.delitem(PIL.Image.OPEN, name, raising=False)
    source, target = tmp_path / f"in{row.input}", tmp_path / f"out{row.output}"
    row.write(source)
    if row.verdict == "refused":
        with pytest.raises(MediaError) as caught:
            restore_path(restorer, source, target)
        assert row.said in str(caught.value)
        assert source.name in str(caught.value)
        assert not target.exists()
        return
    report = restore_path(restorer, source, target)
    row.check(target)
    notes = " / ".join(report.notes)
    assert row.said in notes if row.said else not report.notes
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name, target.name]


def test_the_table_is_that_of_the_documentation() -> None:
    text = DOCS.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    wanted = f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"
    if os.environ.get("ELIR_TRT_WRITE_DOCS"):
        DOCS.write_text(wanted, encoding="utf-8")
    assert text == wanted, "write it with ELIR_TRT_WRITE_DOCS=1"


@pytest.mark.parametrize("path", real("bad_inputs") + real("clean_photos") + real("degraded_scenes"))
def test_real_files_keep_what_they_say(path: Path, tmp_path: Path, restorer: FakeRestorer) -> None:
    """Profile, EXIF and resolution of every real file that is an image and is not refused."""
    try:
        before = read_image(path, deep=True)
    except ElirError:
        return
    target = tmp_path / "out.png"
    restore_path(restorer, path, target)
    after = read_image(target, deep=True)
    assert after.metadata.icc == before.metadata.icc
    assert (after.metadata.exif is None) == (before.metadata.exif is None)
    assert (after.metadata.dpi is None) == (before.metadata.dpi is None)
    assert after.rgb.dtype == before.rgb.dtype
    assert after.gray == (before.gray and before.alpha is None)
    inverse = np.iinfo(before.rgb.dtype).max - before.rgb
    assert np.abs(after.rgb.astype(int) - inverse).max() <= 1


def test_a_profile_of_cmyk_is_used(tmp_path: Path, restorer: FakeRestorer) -> None:
    """There is no free CMYK profile to ship: one of RGB's class in its place is left out, and said to be none."""
    PIL.Image.fromarray(picture()).convert("CMYK").save(tmp_path / "a.jpg", icc_profile=PROFILE, quality=95)
    report = restore_path(restorer, tmp_path / "a.jpg", tmp_path / "b.png")
    assert "CMYK without a profile" in report.notes[0]
    assert opened(tmp_path / "b.png").info.get("icc_profile") is None


def test_a_broken_profile_is_left_out_and_said(tmp_path: Path, restorer: FakeRestorer) -> None:
    save(tmp_path / "a.png", icc_profile=b"no profile at all" * 20)
    report = restore_path(restorer, tmp_path / "a.png", tmp_path / "b.png")
    assert "ICC profile is left out" in report.notes[0]
    is_inverse(tmp_path / "b.png")


def test_a_folder_beside_its_outputs(tmp_path: Path, monkeypatch: Any, restorer: FakeRestorer) -> None:
    """``run few -o .``: what lies in the output folder is an input all the same."""
    (tmp_path / "few").mkdir()
    for n in range(2):
        save(tmp_path / "few" / f"{n}.png")
    monkeypatch.chdir(tmp_path)
    report = restore_path(restorer, "few", ".")
    assert report.frames == 2
    is_inverse(tmp_path / "0.png")
    again = restore_path(restorer, "few", ".")
    assert (again.frames, again.failed, len(again.skipped)) == (0, 0, 2)


def test_depths_in_one_folder(tmp_path: Path, restorer: FakeRestorer) -> None:
    (tmp_path / "in").mkdir()
    write_deep(tmp_path / "in" / "deep.png")
    save(tmp_path / "in" / "flat.png")
    shown: list[tuple[int, int | None]] = []
    report = restore_path(
        restorer,
        tmp_path / "in",
        tmp_path / "out",
        progress=lambda done, total, fps: shown.append((done, total)),
    )
    assert report.frames == 2
    assert shown == [(1, 2), (2, 2)]
    is_deep(tmp_path / "out" / "deep.png")
    is_inverse(tmp_path / "out" / "flat.png")


def test_an_avif_that_was_cut_off(tmp_path: Path) -> None:
    file = io.BytesIO()
    PIL.Image.fromarray(picture(200, 200)).save(file, "AVIF")
    data = file.getvalue()
    for length in (40, len(data) // 2, len(data) - 10):
        (tmp_path / "a.avif").write_bytes(data[:length])
        with pytest.raises(MediaError, match=r"a\.avif.*damaged"):
            read_image(tmp_path / "a.avif")
