"""What a stream carries from frame to frame, so that another one goes on behind it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from elir_trt import _core
from elir_trt.errors import StateError


@dataclass(frozen=True)
class StreamState:
    """What a stream carries from frame to frame, so that another one goes on behind it.

    Attributes:
        frames: that were restored, from the first on; noise of "per-frame" is counted by it.
        temporal: with averaging over time ``[tiles, 4, H, W]`` float32, of tiles of the engine's size: the three
            planes of the last frame, in [0, 1], and of how many frames each pixel is the mean; else None.
    """

    frames: int
    temporal: npt.NDArray[np.float32] | None

    def put_into(self, core: _core.Stream) -> None:
        """Let a stream that is not started go on here.

        Raises:
            StateError: the stream averages nothing over time, or its tiles are others.
        """
        if self.temporal is None:
            return
        try:
            core.set_temporal_state(self.temporal)
        except ValueError as error:
            raise StateError(str(error)) from None
