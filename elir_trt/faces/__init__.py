"""Faces: found, aligned, restored by a bundle for faces, and pasted back into frames that are otherwise untouched.

    detector   where faces are (detector.py): MTCNN from a wheel (mtcnn.py), YuNet from a file (yunet.py), or your own
    alignment  five landmarks to the template that such bundles were trained on (alignment.py)
    gates      which faces are left as they are (gates.py)
    tracks     faces of a film, smoothed over time (tracking.py)
    paste      back by the inverse transform under a soft mask (pasting.py)

:meth:`elir_trt.restorer.Restorer.faces` gives a :class:`FaceRestorer`, whose streams go wherever a restorer's go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from elir_trt.lazy import lazily

if TYPE_CHECKING:
    from elir_trt.faces.detector import Detection, Detector
    from elir_trt.faces.face import Face
    from elir_trt.faces.gates import Gates
    from elir_trt.faces.opening import open_detector
    from elir_trt.faces.restorer import FaceRestorer
    from elir_trt.faces.stream import FaceResult, FaceStream

__all__ = [
    "Detection",
    "Detector",
    "Face",
    "FaceRestorer",
    "FaceResult",
    "FaceStream",
    "Gates",
    "open_detector",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Detection": "elir_trt.faces.detector",
        "Detector": "elir_trt.faces.detector",
        "Face": "elir_trt.faces.face",
        "FaceRestorer": "elir_trt.faces.restorer",
        "FaceResult": "elir_trt.faces.stream",
        "FaceStream": "elir_trt.faces.stream",
        "Gates": "elir_trt.faces.gates",
        "open_detector": "elir_trt.faces.opening",
    },
)
