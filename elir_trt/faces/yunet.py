"""YuNet (Wu et al., Machine Intelligence Research 2023), through OpenCV, from a file that OpenCV's model zoo has."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import numpy as np

from elir_trt.errors import MediaError
from elir_trt.extras import needs
from elir_trt.faces.detector import Detection, enlarged, shrunk
from elir_trt.formats import Frame

#: Pictures are shrunk to that before faces are looked for, which bounds the time for it.
LONGEST_SIDE = 1280
#: What scores less is not even looked at by the gates.
LEAST_SCORE = 0.5
_OVERLAP, _MOST = 0.3, 5000


class YuNet:
    """Finds faces turned further away, and smaller ones, than MTCNN, in a fraction of its time."""

    def __init__(self, path: Path) -> None:
        """Load the network.

        Args:
            path: such as ``face_detection_yunet_2023mar.onnx``.

        Raises:
            MediaError: there is no such file, or OpenCV cannot use it as YuNet.
            MissingPackageError: OpenCV is not installed.
        """
        with needs("cv2", extra="faces", what="finding faces"):
            import cv2
        try:
            content = path.read_bytes()
        except OSError as error:
            raise MediaError(f"{path}: the face detector cannot be read: {error.strerror or error}") from None
        if not hasattr(cv2, "FaceDetectorYN"):
            raise MediaError(f"{path}: OpenCV {cv2.__version__} has no FaceDetectorYN; 4.8 or newer has")
        before = cv2.utils.logging.getLogLevel()
        try:
            # OpenCV 5 warns that its new engine does not know the CPU by name, and runs there.
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
            self._net = cv2.FaceDetectorYN.create(str(path), "", (64, 64), LEAST_SCORE, _OVERLAP, _MOST)
            self._net.detect(np.zeros((64, 64, 3), np.uint8))
        except cv2.error as error:
            reason = " ".join(str(error.err or error).split())
            raise MediaError(
                f"{path}: OpenCV {cv2.__version__} cannot use this file as the face detector YuNet: {reason}"
            ) from None
        finally:
            cv2.utils.logging.setLogLevel(before)
        self.name = f"yunet {hashlib.sha256(content).hexdigest()[:16]}"
        self._lock = threading.Lock()

    def detect(self, image: Frame) -> list[Detection]:
        """See :class:`elir_trt.faces.Detector`."""
        small, scale = shrunk(image, LONGEST_SIDE)
        bgr = np.ascontiguousarray(small[:, :, ::-1])
        with self._lock:
            self._net.setInputSize((bgr.shape[1], bgr.shape[0]))
            found = self._net.detect(bgr)[1]
        return [] if found is None else [enlarged(_detection(row), scale) for row in found.astype(np.float64)]


def _detection(row: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Detection:
    """From a row of FaceDetectorYN: box, five points, score."""
    left, top, width, height = (float(side) for side in row[:4])
    return Detection((left, top, width, height), row[4:14].reshape(5, 2).copy(), float(row[14]))
