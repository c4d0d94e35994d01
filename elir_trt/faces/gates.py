"""Gates: which faces are left as they are, because a restorer would make them worse."""

from __future__ import annotations

import math
from dataclasses import dataclass

from elir_trt.faces.alignment import Alignment


@dataclass(frozen=True)
class Gates:
    """What a face must have to be restored.

    Attributes:
        min_score: of the detector, 0 to 1.
        min_size_px: pixels of the face's box, the root of its area. A smaller face holds too little to restore.
        max_residual: of the alignment, see :class:`elir_trt.faces.alignment.Alignment`: profiles, and landmarks that
            were guessed, do not fit the template.
    """

    min_score: float = 0.8
    min_size_px: float = 24.0
    max_residual: float = 0.2

    def __post_init__(self) -> None:
        for name, least, most in (
            ("min_score", 0.0, 1.0),
            ("min_size_px", 0.0, math.inf),
            ("max_residual", 0.0, math.inf),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                to = f" to {most:g}" if math.isfinite(most) else " or more"
                raise ValueError(f"{name} is {value}; expected {least:g}{to}")

    def reason(
        self, box: tuple[float, float, float, float], score: float, alignment: Alignment | None
    ) -> str:
        """Why a face is left as it is; empty: it passes."""
        size = math.sqrt(max(0.0, box[2]) * max(0.0, box[3]))
        if score < self.min_score:
            return f"its score is {score:.2f}, less than {self.min_score:.2f}"
        if size < self.min_size_px:
            return f"its size is {size:.0f} pixels, less than {self.min_size_px:.0f}"
        if alignment is None:
            return "its landmarks are one point"
        if alignment.residual > self.max_residual:
            return f"its residual is {alignment.residual:.2f}, more than {self.max_residual:.2f}"
        return ""
