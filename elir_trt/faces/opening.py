"""Opening a detector: the one of the wheel, or one from a file."""

from __future__ import annotations

import os
from pathlib import Path

from elir_trt.faces.detector import Detector


def open_detector(file: str | os.PathLike[str] | None = None) -> Detector:
    """Open a detector of faces.

    Args:
        file: an ONNX file of YuNet, which OpenCV's model zoo has (``models/face_detection_yunet``); None: MTCNN, from
            the extra "faces".

    Raises:
        MediaError: the file cannot be read or used.
        MissingPackageError: the packages are not installed; the message says which extra brings them.
    """
    if file is None:
        from elir_trt.faces.mtcnn import Mtcnn

        return Mtcnn()
    from elir_trt.faces.yunet import YuNet

    return YuNet(Path(file))
