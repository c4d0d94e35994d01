"""Restoring image files: where each goes, which are done already, and which have 16 bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from elir_trt.errors import MediaError
from elir_trt.io.animation import is_animation
from elir_trt.io.encode import DEEP, PAGED
from elir_trt.io.folder import ImageSink, ImageSource, find_images
from elir_trt.io.images import image_depth
from elir_trt.io.paths import check_writable, image_name
from elir_trt.io.progress import ProgressCallback, after
from elir_trt.io.pumping import DEPTH, PumpReport


@dataclass
class ImageReport:
    """What became of image files.

    Attributes:
        outputs: files that were written.
        notes: what was changed or left out on the way.
        frames, seconds, fps: as in :class:`elir_trt.io.PumpReport`.
    """

    outputs: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    frames: int = 0
    seconds: float = 0.0
    fps: float = 0.0


def output_name(source: Path) -> str:
    """The name of what is made of an image: its own, where it can be written; a GIF that moves stays one."""
    return source.name if is_animation(source) else image_name(source)


def image_targets(source: Path, target: Path, *, recursive: bool = True) -> dict[Path, Path]:
    """The images of a folder and where each goes; the folders for that are made.

    Two images that would be written under one name, such as a.png and a.gif, both keep their whole names: the
    second becomes a.gif.png.

    Raises:
        MediaError: there are no images, or the folder cannot be the output's.
    """
    if target.exists() and not target.is_dir():
        raise MediaError(f"{target}: this is a file; a folder of images needs a folder as output")
    if target.exists() and target.samefile(source):
        raise MediaError(f"{target}: input and output are the same folder; give another output")
    # Results of an earlier run are no inputs; where the input lies in the output nothing is left out.
    inside = source.resolve() in target.resolve().parents
    paths = find_images(source, outside=target if inside else None, recursive=recursive)
    targets = unlike({path: target / path.parent.relative_to(source) / output_name(path) for path in paths})
    for folder in {to.parent for to in targets.values()}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MediaError(f"{folder}: cannot be made: {error.strerror or error}") from None
    return targets


def unlike(targets: Mapping[Path, Path]) -> dict[Path, Path]:
    """Outputs of which no two are one file: those that keep their name first, others under their whole name."""
    found: dict[Path, Path] = {}
    taken: set[Path] = set()
    for path, target in sorted(targets.items(), key=lambda pair: pair[0].name != pair[1].name):
        number = 1
        name = target
        while name in taken:
            extra = "" if number == 1 else f"-{number}"
            name = target.with_name(f"{path.name}{extra}{target.suffix}")
            number += 1
        taken.add(name)
        found[path] = name
    return {path: found[path] for path in targets}


def without_done(targets: Mapping[Path, Path]) -> tuple[dict[Path, Path], list[Path]]:
    """Images that are still to be restored, and those whose output is there: outputs are written whole or not."""
    left = {path: target for path, target in targets.items() if not target.exists()}
    return left, [path for path in targets if path not in left]


def restore_images(
    run: Callable[..., PumpReport],
    targets: Mapping[Path, Path],
    *,
    compare: bool,
    overwrite: bool,
    progress: ProgressCallback | None = None,
) -> ImageReport:
    """Restore images, those of 16 bits through 16 bits where their outputs hold them.

    Args:
        run: :func:`elir_trt.io.pump` with a restorer and its options.
        targets: the output of each input.
        compare: write before and after side by side.
        overwrite: replace existing files.
        progress: called after each frame.

    Raises:
        ElirError: an image failed, and ``run`` has no ``on_error``.
    """

    def check(path: Path) -> None:
        check_writable(targets[path], "image", overwrite=overwrite, source=path)

    def paged(path: Path) -> bool:
        return targets[path].suffix.lower() in PAGED

    report = ImageReport()
    deep = [path for path in targets if targets[path].suffix.lower() in DEEP and image_depth(path) > 8]
    shallow = [path for path in targets if path not in set(deep)]
    before = 0
    for paths, is_deep in ((shallow, False), (deep, True)):
        if not paths:
            continue
        sink = ImageSink(lambda frame: targets[Path(str(frame.origin))], compare=compare, deep=is_deep)
        shown = None if progress is None else after(progress, before, len(targets))
        try:
            with ImageSource(paths, check=check, deep=is_deep, paged=paged) as images:
                # Slots that no image fills would only take memory.
                done = run(images, sink=sink, progress=shown, depth=min(DEPTH, len(paths)))
        finally:
            report.outputs += sink.outputs
            report.notes += sink.notes
        before += len(paths)
        report.frames += done.frames
        report.seconds += done.seconds
        report.fps = done.fps
    return report
