"""Tracks: which faces of a film are one, smoothed boxes and landmarks, and faces that come and go softly."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from elir_trt.extras import needs
from elir_trt.faces.alignment import align
from elir_trt.faces.detector import Detection, Points
from elir_trt.faces.face import Face
from elir_trt.faces.gates import Gates
from elir_trt.faces.smoothing import OneEuro
from elir_trt.formats import Frame

#: Least overlap (intersection over union) of a face with where it was in the last frame.
LEAST_OVERLAP = 0.3
#: In which a face that comes or goes is blended in or out.
FADE_S = 0.2
#: After that many seconds without a frame, or with time going back, another scene begins.
LONGEST_GAP_S = 1.0
#: Mean difference of two frames, of 255 and as grey pictures of 32x32, from which on they are two scenes.
CUT_LEVELS = 30.0
_THUMBNAIL = (32, 32)

Box = tuple[float, float, float, float]
Thumbnail = npt.NDArray[np.float32]


def single_faces(detections: Sequence[Detection], gates: Gates) -> list[Face]:
    """The faces of a picture that stands alone."""
    faces = []
    for found in detections:
        alignment = align(found.landmarks)
        reason = gates.reason(found.box, found.score, alignment)
        opacity = 0.0 if reason else 1.0
        faces.append(Face(found.box, found.landmarks, found.score, alignment, opacity=opacity, reason=reason))
    return faces


class Tracker:
    """Follows the faces of a film, frame by frame.

    A face that the detector misses, or that fails at a gate, is restored where it was until it is blended out, within
    :data:`FADE_S`; so one that is lost for a frame or two does not flicker. After a cut nothing is followed.
    """

    def __init__(self, gates: Gates) -> None:
        self._gates = gates
        self._tracks: list[_Track] = []
        self._numbers = itertools.count()
        self._time_s: float | None = None
        self._thumbnail: Thumbnail | None = None

    def update(self, detections: Sequence[Detection], image: Frame, time_s: float) -> list[Face]:
        """Take the detections of the next frame, ``[H, W, 3]`` uint8, shown at ``time_s`` seconds.

        Returns:
            Its faces, those included that are only blended out.
        """
        gone = 0.0 if self._time_s is None else time_s - self._time_s
        begins = self._cut(image) or self._time_s is None or not 0.0 < gone <= LONGEST_GAP_S
        self._time_s = time_s
        if begins:
            self._tracks = []
        pairs = dict(_pairs([track.box for track in self._tracks], detections))
        for number, track in enumerate(self._tracks):
            if number in pairs:
                track.see(detections[pairs[number]], gone)
            else:
                track.miss(gone)
        self._tracks = [track for track in self._tracks if track.seen or track.opacity > 0.0]
        known = set(pairs.values())
        for index, found in enumerate(detections):
            if index not in known:
                track = _Track(next(self._numbers), found, self._gates)
                # With the first frame of a scene a face is there; within a scene it comes.
                arrived = 1.0 if begins else min(1.0, gone / FADE_S)
                track.opacity = 0.0 if track.reason else arrived
                self._tracks.append(track)
        return [track.face() for track in self._tracks]

    def _cut(self, image: Frame) -> bool:
        """Whether another scene begins with this frame."""
        with needs("cv2", extra="faces", what="following faces"):
            import cv2
        small = cv2.resize(image, _THUMBNAIL, interpolation=cv2.INTER_AREA)
        now = np.asarray(small, dtype=np.float32).mean(axis=2)
        before, self._thumbnail = self._thumbnail, now
        if before is None:
            return True
        return float(np.abs(now - before).mean()) > CUT_LEVELS


class _Track:
    """One face over time."""

    def __init__(self, number: int, found: Detection, gates: Gates) -> None:
        self._number = number
        self._gates = gates
        self._corners = OneEuro(_corners(found.box))
        self._landmarks = OneEuro(found.landmarks)
        self.opacity = 0.0
        self.seen = True
        self._unseen_s = 0.0
        self._judge(found.score)

    @property
    def box(self) -> Box:
        (left, top), (right, bottom) = self._corners.points.tolist()
        return left, top, right - left, bottom - top

    def see(self, found: Detection, seconds: float) -> None:
        """Take the face's place in a frame that is ``seconds`` later."""
        size = max(1.0, math.sqrt(max(0.0, found.box[2]) * max(0.0, found.box[3])))
        passed = self._unseen_s + seconds
        self._corners.update(_corners(found.box), passed, size)
        self._landmarks.update(found.landmarks, passed, size)
        self.seen = True
        self._unseen_s = 0.0
        self._judge(found.score)
        step = seconds / FADE_S
        self.opacity = max(0.0, self.opacity - step) if self.reason else min(1.0, self.opacity + step)

    def miss(self, seconds: float) -> None:
        """It was not found in a frame that is ``seconds`` later."""
        self.seen = False
        self._unseen_s += seconds
        self.reason = "it was not found in this frame"
        self.opacity = max(0.0, self.opacity - seconds / FADE_S)

    def _judge(self, score: float) -> None:
        self._score = score
        self._alignment = align(self._landmarks.points)
        self.reason = self._gates.reason(self.box, score, self._alignment)

    def face(self) -> Face:
        return Face(
            self.box,
            self._landmarks.points.copy(),
            self._score,
            self._alignment,
            self._number,
            self.opacity,
            self.reason,
        )


def _corners(box: Box) -> Points:
    left, top, width, height = box
    return np.array([[left, top], [left + width, top + height]])


def _pairs(boxes: Sequence[Box], detections: Sequence[Detection]) -> list[tuple[int, int]]:
    """Which box is which detection, by their numbers: those that overlap most first."""
    overlaps = [
        (_overlap(box, found.box), track, index)
        for track, box in enumerate(boxes)
        for index, found in enumerate(detections)
    ]
    pairs: list[tuple[int, int]] = []
    for overlap, track, index in sorted(overlaps, reverse=True):
        if overlap < LEAST_OVERLAP:
            break
        if all(track != one and index != other for one, other in pairs):
            pairs.append((track, index))
    return pairs


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    across = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    down = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(0.0, across) * max(0.0, down)
    union = a[2] * a[3] + b[2] * b[3] - shared
    return shared / union if union > 0 else 0.0
