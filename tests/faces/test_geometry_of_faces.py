"""Alignment, warping and pasting: a pasted identity gives the frame back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from face_parts import DATA, face_at, smooth_picture

from elir_trt.faces.alignment import SIDE, TEMPLATE, after, align, inverse, resizing
from elir_trt.faces.pasting import FEATHER, Patch, paste, soft_mask
from elir_trt.faces.warping import cut_out
from elir_trt.metrics import psnr


def aligned_patch(frame: np.ndarray, landmarks: np.ndarray) -> Patch:
    alignment = align(landmarks)
    assert alignment is not None
    pixels = np.clip(np.rint(cut_out(frame, alignment.matrix, (SIDE, SIDE))), 0, np.iinfo(frame.dtype).max)
    return Patch(pixels.astype(frame.dtype), alignment.matrix)


def levels(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a.astype(int) - b.astype(int)).max(axis=2)


@pytest.mark.parametrize("degrees", [0.0, 20.0, -75.0, 180.0])
@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_an_alignment_finds_the_similarity(degrees: float, scale: float) -> None:
    turn = np.radians(degrees)
    rotation = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    found = align(TEMPLATE @ rotation.T + [37.0, -12.0])
    assert found is not None
    assert found.scale == pytest.approx(1 / scale)
    assert found.residual == pytest.approx(0.0, abs=1e-9)
    np.testing.assert_allclose(inverse(found.matrix)[:, :2], rotation, atol=1e-9)


def test_a_profile_has_a_residual_and_is_never_mirrored() -> None:
    profile = TEMPLATE.copy()
    profile[:, 0] = 256 + 0.25 * (profile[:, 0] - 256)
    profile[2, 0] -= 50
    found = align(profile)
    assert found is not None and found.residual > 0.2
    mirrored = align(TEMPLATE * [-1, 1])
    assert mirrored is not None
    assert np.linalg.det(mirrored.matrix[:, :2]) > 0
    assert mirrored.residual > 0.2


def test_the_residual_is_least() -> None:
    """No similarity near the one that was found is better: it is that of least squares."""
    rng = np.random.default_rng(0)
    landmarks = face_at(100, 80).landmarks + rng.normal(0, 3, (5, 2))
    found = align(landmarks)
    assert found is not None

    def error(matrix: np.ndarray) -> float:
        return float(np.sum((landmarks @ matrix[:, :2].T + matrix[:, 2] - TEMPLATE) ** 2))

    for _ in range(50):
        a, b = rng.normal(0, 1e-3, 2)
        nudge = np.array([[1 + a, -b, rng.normal()], [b, 1 + a, rng.normal()]])
        assert error(after(nudge, found.matrix)) > error(found.matrix)


@pytest.mark.parametrize("landmarks", [np.zeros((5, 2)), np.full((5, 2), np.nan)])
def test_landmarks_that_are_one_point_align_with_nothing(landmarks: np.ndarray) -> None:
    assert align(landmarks) is None


@pytest.mark.parametrize("degrees", [0.0, 17.0, -40.0, 90.0, 180.0])
@pytest.mark.parametrize("size", [28.0, 60.0, 133.0])
def test_a_pasted_identity_gives_the_frame_back(degrees: float, size: float) -> None:
    """Smaller than the template, turned, and at places between pixels: within 1 level everywhere."""
    frame = smooth_picture()
    face = face_at(151.3, 118.7, size, degrees)
    pasted = paste(frame, [aligned_patch(frame, face.landmarks)])
    assert levels(pasted, frame).max() <= 1


def test_a_large_face_is_given_back_too() -> None:
    frame = smooth_picture(1400, 1500)
    frame = cv2.GaussianBlur(frame, (0, 0), 4)
    face = face_at(760.4, 711.1, 700.0, 10.0)  # more than twice as large as the template's
    patch = aligned_patch(frame, face.landmarks)
    # The template has half of its pixels.
    assert levels(paste(frame, [patch]), frame).max() <= 2


@pytest.mark.skipif(not DATA.is_dir(), reason="no real files (ELIR_TRT_DATA)")
@pytest.mark.parametrize(("size", "degrees"), [(40.0, 0.0), (90.0, 25.0), (250.0, -10.0)])
def test_in_photos_nothing_changes_outside_and_nothing_is_seen_of_the_seam(
    size: float, degrees: float
) -> None:
    frame = cv2.imread(str(DATA / "clean_photos" / "kodim04.png"))
    face = face_at(255.5, 300.2, size, degrees)
    patch = aligned_patch(frame, face.landmarks)
    difference = levels(paste(frame, [patch]), frame)
    aligned_mask = soft_mask()[:, :, 0]
    mask = cv2.warpAffine(aligned_mask, inverse(patch.matrix), frame.shape[1::-1], flags=cv2.INTER_LINEAR)
    assert difference[mask == 0].max() == 0
    assert difference[mask < 0.1].max() <= 1
    # In the middle the two kernels lose some of the finest detail.
    middle = np.broadcast_to(mask[:, :, np.newaxis] > 0.9, frame.shape)
    assert psnr(frame[middle], paste(frame, [patch])[middle]) > 44


@pytest.mark.parametrize(
    "at", [(5.0, 100.0), (315.0, 120.0), (160.0, 2.0), (160.0, 238.0), (0.0, 0.0), (-20.0, 250.0)]
)
def test_faces_at_the_border(at: tuple[float, float]) -> None:
    frame = smooth_picture()
    patch = aligned_patch(frame, face_at(*at, 80.0, 12.0).landmarks)
    assert levels(paste(frame, [patch]), frame).max() <= 1
    white = Patch(np.full((SIDE, SIDE, 3), 255, np.uint8), patch.matrix)
    assert (paste(frame, [white]) != frame).any()


def test_a_face_outside_changes_nothing() -> None:
    frame = smooth_picture()
    patch = aligned_patch(frame, face_at(-900.0, -900.0).landmarks)
    np.testing.assert_array_equal(paste(frame, [patch]), frame)


def test_overlapping_faces_are_each_their_own_in_the_middle_and_their_order_is_nothing() -> None:
    frame = np.full((240, 320, 3), 100, np.uint8)
    faces = [face_at(120, 120), face_at(165, 110, 55), face_at(140, 160, 70, 30)]
    patches = []
    for face, level in zip(faces, (0, 128, 255), strict=True):
        alignment = align(face.landmarks)
        assert alignment is not None
        patches.append(Patch(np.full((SIDE, SIDE, 3), level, np.uint8), alignment.matrix))
    pasted = paste(frame, patches)
    for face, level in zip(faces, (0, 128, 255), strict=True):
        x, y = np.rint(face.landmarks[2]).astype(int)
        assert abs(int(pasted[y, x, 0]) - level) < 60
    assert levels(paste(frame, patches[::-1]), pasted).max() <= 1
    same = [Patch(np.full_like(patch.pixels, 100), patch.matrix) for patch in patches]
    np.testing.assert_array_equal(paste(frame, same), frame)


def test_opacity_blends() -> None:
    frame = np.full((240, 320, 3), 100, np.uint8)
    alignment = align(face_at(160, 120).landmarks)
    assert alignment is not None
    white = np.full((SIDE, SIDE, 3), 200, np.uint8)
    assert paste(frame, [Patch(white, alignment.matrix, 0.5)])[120, 160, 0] == 150
    np.testing.assert_array_equal(paste(frame, [Patch(white, alignment.matrix, 0.0)]), frame)


def test_sixteen_bits_stay_sixteen() -> None:
    frame = smooth_picture().astype(np.uint16) * 257 + 3
    pasted = paste(frame, [aligned_patch(frame, face_at(150.2, 120.9, 70.0, 5.0).landmarks)])
    assert pasted.dtype == np.uint16
    assert levels(pasted, frame).max() <= 257


def test_fine_detail_of_a_restored_face_does_not_alias() -> None:
    """What is too fine for the frame is averaged, whatever grid it falls on."""
    stripes = np.zeros((SIDE, SIDE, 3), np.uint8)
    stripes[:, ::2] = 255
    frame = np.full((240, 320, 3), 127, np.uint8)
    for size in (40.0, 60.0, 75.0):
        alignment = align(face_at(160.3, 120.1, size, 3.0).landmarks)
        assert alignment is not None
        assert levels(paste(frame, [Patch(stripes, alignment.matrix)]), frame).max() <= 3


def test_the_mask_is_one_inside_and_zero_at_the_border() -> None:
    mask = soft_mask()[:, :, 0]
    assert mask[0].max() == mask[:, -1].max() == 0.0
    assert mask[FEATHER:-FEATHER, FEATHER:-FEATHER].min() == 1.0
    assert np.abs(np.diff(mask[256])).max() < 0.03


def test_a_resized_picture_keeps_its_edges() -> None:
    matrix = resizing((240, 320), (480, 960))
    np.testing.assert_allclose(matrix @ [-0.5, -0.5, 1], [-0.5, -0.5])
    np.testing.assert_allclose(matrix @ [319.5, 239.5, 1], [959.5, 479.5])
