"""The errors of the package: one base, a few named children.

Every message says what went wrong, the value that was seen, what is allowed, and where there is one, the
command to run next.
"""

from __future__ import annotations


class ElirError(Exception):
    """Base of every error that the package raises on purpose."""


class RecipeError(ElirError):
    """A recipe is missing, malformed, or asks for something that cannot be built."""


class CheckpointError(ElirError):
    """A checkpoint cannot be read, or does not hold the model that the recipe describes."""


class ExportError(ElirError):
    """A part could not be exported, or its exported form disagrees with the torch part."""


class BuildError(ElirError):
    """An engine could not be built."""


class CalibrationError(BuildError):
    """Frames to calibrate with are missing, too few, or no pictures."""


class BundleError(ElirError):
    """A bundle is missing, incomplete, changed, foreign, or newer than this package."""


class BackendError(ElirError):
    """A backend is not installed, or refuses an engine."""


class DeviceError(ElirError):
    """A device is not there or not usable."""


class StateError(ElirError):
    """What one stream carried from frame to frame does not fit another."""


class MediaError(ElirError):
    """An image, video or camera cannot be read or written."""


class MissingPackageError(ElirError, ImportError):
    """A package that this use needs is not installed; the message says which extra brings it."""


class FrameError(ElirError):
    """One frame failed; the stream goes on.

    Attributes:
        index: position of the frame in its stream, counted from 0, or None when it was never accepted.
        part: the stage that failed: "submit", "load", "encoder", "coarse", "start", "velocity", "step",
            "decoder", "direct" or "store"; of frames whose faces are restored also "detect", "align" and "paste".
    """

    def __init__(self, message: str, *, index: int | None = None, part: str = "submit") -> None:
        super().__init__(message)
        self.index = index
        self.part = part


class ElirWarning(UserWarning):
    """Something worth knowing that does not stop the work."""
