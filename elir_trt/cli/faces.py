"""The options of commands that restore faces, and the restorer that they ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from elir_trt.errors import ElirError

if TYPE_CHECKING:
    from elir_trt.faces.restorer import FaceRestorer
    from elir_trt.restorer import Restorer

DEFAULT_FACE_BUNDLE = "bfr"
_FACES = "Faces"

# Typer reads these annotations at run time; Optional is what it understands on every Python.
Faces = Annotated[
    bool,
    typer.Option(
        "--faces", help="Restore faces with --face-bundle, the rest with --bundle.", rich_help_panel=_FACES
    ),
]
FacesOnly = Annotated[
    bool,
    typer.Option(
        "--faces-only", help="Restore faces, and leave the rest bit by bit.", rich_help_panel=_FACES
    ),
]
FaceBundle = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Bundle's folder, or a task, for faces. Default: bfr.", rich_help_panel=_FACES),
]
FaceDetector = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="ONNX file of YuNet. Default: MTCNN.", rich_help_panel=_FACES),
]


def open_restorer(
    bundle: str,
    *,
    faces: bool = False,
    faces_only: bool = False,
    face_bundle: str | None = None,
    face_detector: Path | None = None,
    **options: Any,
) -> Restorer | FaceRestorer:
    """Open what the options ask for.

    Args:
        bundle: of whole frames.
        faces, faces_only, face_bundle, face_detector: the options of the same names.
        options: of :func:`elir_trt.open`.

    Raises:
        ElirError: a bundle or the detector cannot be opened, or options lack --faces.
    """
    import elir_trt

    if not (faces or faces_only):
        for option, value in (("--face-bundle", face_bundle), ("--face-detector", face_detector)):
            if value is not None:
                raise ElirError(f"{option} {value} is of faces: give --faces or --faces-only too")
        return elir_trt.open(bundle, **options)
    from elir_trt.faces import open_detector

    detector = open_detector(face_detector)  # before the engines are loaded
    restorer = elir_trt.open(face_bundle or DEFAULT_FACE_BUNDLE, **options)
    background = None if faces_only else elir_trt.open(bundle, **options)
    return restorer.faces(detector=detector, background=background)
