"""A face of a frame, and what is to become of it."""

from __future__ import annotations

from dataclasses import dataclass

from elir_trt.faces.alignment import Alignment
from elir_trt.faces.detector import Points


@dataclass(frozen=True)
class Face:
    """A face.

    Attributes:
        box: left, top, width and height in pixels of the frame; smoothed over time on a track.
        landmarks: ``[5, 2]``, x and y, see :class:`elir_trt.faces.Detection`; smoothed over time on a track.
        score: the detector's, 0 to 1.
        alignment: to the template; None: the landmarks are one point.
        track: number of the face in its film, from 0; None: the frame stands alone.
        opacity: how much is seen of the restored face, 0 to 1; in a film it comes and goes slowly.
        reason: why it is left as it is, or being blended out; empty: it is restored.
    """

    box: tuple[float, float, float, float]
    landmarks: Points
    score: float
    alignment: Alignment | None
    track: int | None = None
    opacity: float = 1.0
    reason: str = ""

    @property
    def restored(self) -> bool:
        """Whether something of the restored face is seen."""
        return self.alignment is not None and self.opacity > 0
