"""Gates and tracks: which faces are restored, and how they lie over time."""

from __future__ import annotations

import numpy as np
import pytest
from face_parts import face_at, smooth_picture

from elir_trt.faces import Detection, Face, Gates
from elir_trt.faces.tracking import FADE_S, Tracker, single_faces

FPS = 30
PICTURE = smooth_picture()


def follow(
    frames: list[list[Detection]], gates: Gates | None = None, pictures: list[np.ndarray] | None = None
) -> list[list[Face]]:
    """The faces of each frame of a film."""
    tracker = Tracker(gates or Gates())
    shown = pictures or [PICTURE] * len(frames)
    return [
        tracker.update(found, picture, n / FPS)
        for n, (found, picture) in enumerate(zip(frames, shown, strict=True))
    ]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (face_at(100, 100, 60, score=0.6), "its score is 0.60, less than 0.80"),
        (face_at(100, 100, 15), "its size is 15 pixels, less than 24"),
        (Detection((70, 70, 60, 60), np.full((5, 2), 100.0), 0.99), "its landmarks are one point"),
        (Detection((70, 70, 60, 60), face_at(-100, 100).landmarks * [-1, 1], 0.99), "its residual is"),
    ],
)
def test_gates_leave_a_face_as_it_is_and_say_why(found: Detection, words: str) -> None:
    (face,) = single_faces([found], Gates())
    assert face.reason.startswith(words)
    assert (face.opacity, face.restored) == (0.0, False)
    ((tracked,),) = follow([[found]])
    assert (tracked.reason, tracked.opacity) == (face.reason, 0.0)


def test_gates_can_be_opened() -> None:
    found = face_at(100, 100, 15, score=0.3)
    (face,) = single_faces([found], Gates(min_score=0.2, min_size_px=10))
    assert (face.reason, face.opacity, face.track) == ("", 1.0, None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"min_score": 1.5}, "min_score is 1.5; expected 0 to 1"),
        ({"min_size_px": -1}, "min_size_px is -1; expected 0 or more"),
        ({"max_residual": float("nan")}, "max_residual is nan; expected 0 or more"),
    ],
)
def test_gates_that_cannot_be(arguments: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Gates(**arguments)


def test_jitter_is_smoothed() -> None:
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(90):
        still = face_at(150, 120)
        noise = rng.normal(0, 1.0, (5, 2))
        box = tuple(np.asarray(still.box) + rng.normal(0, 1.0, 4))
        frames.append([Detection(box, still.landmarks + noise, 0.99)])
    found = follow(frames)
    settled = np.stack([faces[0].landmarks for faces in found[30:]])
    raw = np.stack([frame[0].landmarks for frame in frames[30:]])
    assert settled.std(axis=0).mean() < 0.55 * raw.std(axis=0).mean()
    boxes = np.stack([faces[0].box for faces in found[30:]])
    assert boxes.std(axis=0).mean() < 0.55 * np.stack([f[0].box for f in frames[30:]]).std(axis=0).mean()
    assert {face.track for faces in found for face in faces} == {0}


def test_what_moves_is_not_late() -> None:
    """A face that crosses the picture at two of its widths per second lies within 4 % of its width."""
    frames = [[face_at(50 + 4 * n, 120)] for n in range(50)]
    found = follow(frames)
    late = [
        np.abs(faces[0].landmarks - frame[0].landmarks).max()
        for faces, frame in zip(found, frames, strict=True)
    ]
    assert max(late[10:]) < 0.04 * 60
    assert {face.track for faces in found for face in faces} == {0}


def test_two_faces_keep_their_tracks_in_whatever_order_they_come() -> None:
    frames = []
    for n in range(20):
        pair = [face_at(80 + n, 100), face_at(220 - n, 110, 50)]
        frames.append(pair if n % 2 else pair[::-1])
    found = follow(frames)
    first = {face.track: face.box[0] for face in found[0]}
    for faces in found[1:]:
        assert len(faces) == 2
        for face in faces:
            assert abs(face.box[0] - first[face.track]) < 25


def test_a_face_comes_and_goes_softly() -> None:
    present = [face_at(150, 120)]
    frames = [[]] * 5 + [present] * 10 + [[]] * 10
    found = follow(frames)
    coming = [faces[0].opacity for faces in found[5:15]]
    assert coming[0] == pytest.approx(1 / FPS / FADE_S)
    assert coming == sorted(coming) and coming[-1] == 1.0
    going = [faces[0].opacity for faces in found[15:] if faces]
    assert going[0] == pytest.approx(1 - 1 / FPS / FADE_S)
    assert going == sorted(going, reverse=True) and len(going) <= 6
    assert found[15][0].reason == "it was not found in this frame"
    assert found[-1] == []


def test_a_face_that_is_lost_for_a_frame_stays() -> None:
    present = [face_at(150, 120)]
    found = follow([present] * 5 + [[]] + [present] * 5)
    opacities = [faces[0].opacity for faces in found]
    assert min(opacities) > 0.8
    assert {faces[0].track for faces in found} == {0}


def test_a_face_at_a_gate_does_not_flicker() -> None:
    """Passing every second frame, it is seen half at most steps of a tenth, not on and off."""
    frames = [[face_at(150, 120, score=0.9 if n % 2 else 0.7)] for n in range(40)]
    opacities = np.array([faces[0].opacity for faces in follow(frames)])
    assert np.abs(np.diff(opacities)).max() < 0.2


def test_after_a_cut_nothing_is_followed() -> None:
    dark, bright = np.full((240, 320, 3), 20, np.uint8), np.full((240, 320, 3), 200, np.uint8)
    face = face_at(150, 120)
    found = follow([[face], [face], [], [face]], pictures=[dark, dark, bright, bright])
    assert found[2] == []
    assert found[3][0].opacity < 1.0  # within a scene it comes softly
    again = follow([[face], [face]], pictures=[dark, bright])
    assert [faces[0].track for faces in again] == [0, 1]
    assert [faces[0].opacity for faces in again] == [1.0, 1.0]


@pytest.mark.parametrize("time_s", [-1.0, 0.0, 5.0])
def test_a_gap_in_time_begins_anew(time_s: float) -> None:
    tracker = Tracker(Gates())
    face = face_at(150, 120)
    tracker.update([face], PICTURE, 0.0)
    (after,) = tracker.update([face], PICTURE, time_s)
    assert (after.track, after.opacity) == (1, 1.0)
