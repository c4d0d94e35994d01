"""HEIC and JPEG XL, which plugins of Pillow read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest
from media_files import FakeRestorer, picture

from elir_trt.errors import MediaError
from elir_trt.io.images import read_image
from elir_trt.io.restore import restore_path

PROFILE = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()


def written(path: Path) -> Path:
    """With a profile and EXIF."""
    exif = PIL.Image.Exif()
    exif[0x010F] = "Maker"
    image = PIL.Image.fromarray(picture(64, 96))
    if path.suffix == ".heic":
        pytest.importorskip("pillow_heif", reason="pillow-heif is not installed").register_heif_opener()
        image.save(path, quality=-1, chroma=444, matrix_coefficients=0, exif=exif, icc_profile=PROFILE)
    else:
        pytest.importorskip("pillow_jxl", reason="pillow-jxl-plugin is not installed")
        image.save(path, lossless=True, exif=exif.tobytes(), icc_profile=PROFILE)
    return path


@pytest.mark.parametrize("suffix", [".heic", ".jxl"])
def test_pixels_profile_and_exif_are_kept(tmp_path: Path, suffix: str) -> None:
    source = written(tmp_path / f"a{suffix}")
    restore_path(FakeRestorer(), source, tmp_path / "b.png")
    found = read_image(tmp_path / "b.png")
    assert np.abs(found.rgb.astype(int) - (255 - picture(64, 96).astype(int))).max() <= 1
    # JPEG XL keeps what a profile means, and its reader writes one that means it.
    assert found.metadata.icc is not None
    assert found.metadata.icc == PROFILE or suffix == ".jxl"
    assert found.metadata.space == "RGB"
    with PIL.Image.open(tmp_path / "b.png") as image:
        assert image.getexif()[0x010F] == "Maker"


@pytest.mark.parametrize("suffix", [".heic", ".jxl"])
def test_a_file_that_was_cut_off_is_an_error(tmp_path: Path, suffix: str) -> None:
    source = written(tmp_path / f"a{suffix}")
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 2 // 3])
    with pytest.raises(MediaError, match=rf"a\{suffix}.*damaged"):
        restore_path(FakeRestorer(), source, tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()
