"""Restoring files: an image, a folder of images, or a video. Chooses source and sink; the pump does the work."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from elir_trt.errors import ElirError
from elir_trt.io.addresses import comes_once, is_file
from elir_trt.io.paths import check_writable, image_name, media_kind, video_name
from elir_trt.io.progress import ProgressCallback
from elir_trt.io.pumping import PumpReport, SupportsStream, pump
from elir_trt.io.source import Frame, Unreadable

if TYPE_CHECKING:
    from elir_trt.io.video_job import VideoOptions
    from elir_trt.still import Still
    from elir_trt.stream import Noise, Temporal

Damage = Literal["error", "warn"]


@dataclass
class RestoreReport:
    """What became of the files.

    Attributes:
        outputs: files that were written.
        failures: inputs that could not be restored, with the reason. Only a folder goes on after a failure.
        frames: frames or images that were restored.
        seconds: of all the work.
        fps: frames per second, without the time until the first was ready.
        skipped: images of a folder whose outputs were there already.
        notes: what was changed on the way, such as "photo.jpg: CMYK converted to sRGB by its profile".
    """

    outputs: list[Path] = field(default_factory=list)
    failures: list[tuple[Path, ElirError]] = field(default_factory=list)
    frames: int = 0
    seconds: float = 0.0
    fps: float = 0.0
    skipped: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """How many inputs could not be restored."""
        return len(self.failures)


def restore_path(
    restorer: SupportsStream,
    input: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    compare: bool = False,
    steps: int | None = None,
    seed: int = 0,
    noise: Noise = "fixed",
    temporal: Temporal = "off",
    still: Still = "off",
    overwrite: bool = False,
    damaged: Damage = "error",
    video: VideoOptions | None = None,
    progress: ProgressCallback | None = None,
    on_error: Callable[[Path, ElirError], None] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> RestoreReport:
    """Restore an image, a folder of images, or a video.

    Args:
        restorer: from :func:`elir_trt.open`.
        input: a file, or a folder whose images are all restored, those in its folders too; for a video also a named
            pipe, "-" for standard input, or an address (http, https, rtsp).
        output: the file to write, or an existing folder for it; for a folder a folder, made if need be.
            Names and folders are kept; what cannot be written, such as a .gif, becomes a .png.
        compare: write before and after side by side.
        temporal, still: of videos, see :meth:`elir_trt.restorer.Restorer.stream`; images are restored one by one.
        steps, seed, noise: see :meth:`elir_trt.restorer.Restorer.stream`.
        overwrite: replace existing files. Else an image of a folder whose output is there is skipped, and one
            that was given by its name is an error.
        damaged: what to do with a damaged video: "error", or "warn" and keep what can be decoded.
        video: how videos are read and written; None: so that they keep what they have.
        progress: called after each frame or image.
        on_error: called for each image of a folder that could not be restored; the others go on.
        say: called with a line where a video goes on that an earlier run left, or cannot.

    Returns:
        What was done; ``failed`` is not 0 if images of a folder failed.

    Raises:
        MediaError: the input cannot be read, or the output not written.
        MissingPackageError: the package for such files is not installed; the message says which.
        ElirError: the restorer failed.
        KeyboardInterrupt, SystemExit: Ctrl-C and SIGTERM. What was done of a video file is kept: the same call
            goes on there, as after a kill. From a pipe or an address the video is finished, so that what was done
            is playable.
    """
    name = os.fspath(input)
    source, target = Path(name), Path(output)
    kind = "video" if comes_once(name) else media_kind(source)
    if kind != "folder" and target.is_dir():
        target = target / (image_name(source) if kind == "image" else video_name(source))
    run = partial(pump, restorer=restorer, steps=steps, seed=seed, noise=noise)
    if kind == "video":
        from elir_trt.io.job import remove_finished, restorer_identity
        from elir_trt.io.video_job import VideoOptions, restore_video

        if is_file(name):
            remove_finished(target)
            check_writable(target, "video", overwrite=overwrite, source=source)  # before the source is opened
        done, notes = restore_video(
            partial(run, temporal=temporal, still=still),
            name,
            target,
            compare=compare,
            overwrite=overwrite,
            options=video or VideoOptions(),
            damaged=damaged,
            command={
                **restorer_identity(restorer),
                "steps": steps,
                "seed": seed,
                "noise": noise,
                "temporal": temporal,
                "still": still,
            },
            averages=temporal != "off",
            whole=still not in ("off", "exact") or getattr(restorer, "stateful", False),
            progress=progress,
            say=say,
        )
        return RestoreReport(
            outputs=[target],
            frames=done.frames,
            seconds=done.seconds,
            fps=done.fps,
            notes=[f"{name}: {note}" for note in notes],
        )
    if kind == "image":
        return _images(run, {source: target}, compare=compare, overwrite=overwrite, progress=progress)
    failures: list[tuple[Path, ElirError]] = []

    def fail(item: Frame | Unreadable, error: ElirError) -> None:
        path = Path(str(item.origin))
        failures.append((path, error))
        if on_error is not None:
            on_error(path, error)

    run = partial(run, on_error=fail)
    from elir_trt.io.image_job import image_targets, without_done

    targets, skipped = image_targets(source, target), list[Path]()
    if not overwrite:
        targets, skipped = without_done(targets)
    report = _images(run, targets, compare=compare, overwrite=overwrite, progress=progress)
    report.failures = failures
    report.skipped = skipped
    return report


def _images(run: Callable[..., PumpReport], targets: Mapping[Path, Path], **options: Any) -> RestoreReport:
    from elir_trt.io.image_job import restore_images

    done = restore_images(run, targets, **options)
    return RestoreReport(
        outputs=done.outputs, frames=done.frames, seconds=done.seconds, fps=done.fps, notes=done.notes
    )
