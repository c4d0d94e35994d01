"""Restoring files: an image, a folder of images, or a video. Chooses source and sink; the pump does the work."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from elir_trt.errors import ElirError, MediaError
from elir_trt.io.addresses import STDIN, STDOUT, comes_once, is_file
from elir_trt.io.paths import WRITABLE_ANIMATIONS, WRITABLE_VIDEOS, check_writable, media_kind, video_name
from elir_trt.io.progress import ProgressCallback
from elir_trt.io.pumping import PumpReport, SupportsStream, pump
from elir_trt.io.source import Frame, Unreadable
from elir_trt.io.standard import image_for_standard_output, image_of_standard_input, standard_input

if TYPE_CHECKING:
    from elir_trt.io.video_job import VideoOptions
    from elir_trt.still import Still
    from elir_trt.stream import Noise, Result, Temporal

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
    recursive: bool = True,
    progress: ProgressCallback | None = None,
    preview: Callable[[Result, Frame], None] | None = None,
    on_error: Callable[[Path, ElirError], None] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> RestoreReport:
    """Restore an image, an animation, a folder of images, or a video.

    Args:
        restorer: from :func:`elir_trt.open`.
        input: a file, or a folder whose images are all restored, those in its folders too; for a video also a named
            pipe, or an address (http, https, rtsp); "-" is standard input, an image or a video.
        output: the file to write, or an existing folder for it; for a folder a folder, made if need be.
            Names and folders are kept; what cannot be written becomes a .png. "-" is standard output: images
            are PNG there, and videos raw frames (yuv4mpeg). Videos and animations become what the extension says,
            .gif, .png and .webp being animations then.
        compare: write before and after side by side.
        temporal, still: of videos and animations, see :meth:`elir_trt.restorer.Restorer.stream`; images are
            restored one by one.
        steps, seed, noise: see :meth:`elir_trt.restorer.Restorer.stream`.
        overwrite: replace existing files. Else an image of a folder whose output is there is skipped, and one
            that was given by its name is an error.
        damaged: what to do with a damaged video: "error", or "warn" and keep what can be decoded.
        video: how videos are read and written; None: so that they keep what they have.
        recursive: of a folder also what is in its folders.
        progress: called after each frame or image.
        preview: called with each result and its frame, such as :class:`elir_trt.io.preview.Preview`.
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
    name, to = os.fspath(input), os.fspath(output)
    options: dict[str, Any] = {
        "compare": compare,
        "steps": steps,
        "seed": seed,
        "noise": noise,
        "temporal": temporal,
        "still": still,
        "overwrite": overwrite,
        "damaged": damaged,
        "video": video,
        "progress": progress,
        "preview": preview,
        "on_error": on_error,
        "say": say,
    }
    if name == STDIN and standard_input().holds_image():
        with image_of_standard_input() as path:
            return restore_path(restorer, path, output, **options)
    source, target = Path(name), Path(output)
    kind = "video" if comes_once(name) else media_kind(source)
    if to == STDOUT and kind == "folder":
        raise MediaError(f"{source}: this is a folder; standard output takes one image or video")
    if to == STDOUT and kind == "image":
        with image_for_standard_output() as path:
            report = restore_path(restorer, source, path, **options)
        report.outputs = [target]
        return report
    run = partial(pump, restorer=restorer, steps=steps, seed=seed, noise=noise, preview=preview)
    run_moving = partial(run, temporal=temporal, still=still)
    if kind != "folder" and to != STDOUT and target.is_dir():
        target = target / (_image_name(source) if kind == "image" else video_name(source))
    if kind == "image" and _moves(source, target):
        from elir_trt.io.animation_job import restore_animation

        moved = restore_animation(
            run_moving,
            source,
            target,
            compare=compare,
            overwrite=overwrite,
            options=video,
            progress=progress,
        )
        return _report(name, target, *moved)
    if kind == "image":
        return _images(run, {source: target}, compare=compare, overwrite=overwrite, progress=progress)
    if kind == "video":
        done = _video(restorer, run_moving, name, target, options)
        return _report(name, target, *done)
    return _folder(run, run_moving, source, target, recursive, options)


def _moves(source: Path, target: Path) -> bool:
    """Whether an image is an animation, and its output can be one or a video."""
    from elir_trt.io.animation import is_animation

    return target.suffix.lower() in (*WRITABLE_ANIMATIONS, *WRITABLE_VIDEOS) and is_animation(source)


def _image_name(source: Path) -> str:
    from elir_trt.io.image_job import output_name

    return output_name(source)


def _video(
    restorer: SupportsStream,
    run: Callable[..., PumpReport],
    name: str,
    target: Path,
    options: Mapping[str, Any],
) -> tuple[PumpReport, list[str]]:
    """Restore a video into a video, an animation, or standard output."""
    from elir_trt.io.job import remove_finished, restorer_identity
    from elir_trt.io.video_job import VideoOptions, restore_video, stream_video

    overwrite, temporal, still = (options[key] for key in ("overwrite", "temporal", "still"))
    own = options["video"] or VideoOptions()
    common = {
        "compare": options["compare"],
        "damaged": options["damaged"],
        "options": own,
        "progress": options["progress"],
    }
    if os.fspath(target) == STDOUT:
        return stream_video(run, name, **common)
    if target.suffix.lower() in WRITABLE_ANIMATIONS:
        from elir_trt.io.animation_job import animate_video

        return animate_video(run, name, target, overwrite=overwrite, **common)
    if is_file(name):
        remove_finished(target)
        check_writable(target, "video", overwrite=overwrite, source=name)  # before the source is opened
    return restore_video(
        run,
        name,
        target,
        overwrite=overwrite,
        command={
            **restorer_identity(restorer),
            **{key: options[key] for key in ("steps", "seed", "noise", "temporal", "still")},
        },
        averages=temporal != "off",
        whole=still not in ("off", "exact") or getattr(restorer, "stateful", False),
        say=options["say"],
        **common,
    )


def _folder(
    run: Callable[..., PumpReport],
    run_moving: Callable[..., PumpReport],
    source: Path,
    target: Path,
    recursive: bool,
    options: Mapping[str, Any],
) -> RestoreReport:
    """Restore the images of a folder, those that move one by one."""
    from elir_trt.io.animation_job import restore_animation
    from elir_trt.io.image_job import image_targets, without_done

    compare, overwrite, progress = (options[key] for key in ("compare", "overwrite", "progress"))
    failures: list[tuple[Path, ElirError]] = []

    def failed(path: Path, error: ElirError) -> None:
        failures.append((path, error))
        if options["on_error"] is not None:
            options["on_error"](path, error)

    def fail(item: Frame | Unreadable, error: ElirError) -> None:
        failed(Path(str(item.origin)), error)

    targets, skipped = image_targets(source, target, recursive=recursive), list[Path]()
    if not overwrite:
        targets, skipped = without_done(targets)
    moving = {path: to for path, to in targets.items() if _moves(path, to)}
    still = {path: to for path, to in targets.items() if path not in moving}
    report = _images(
        partial(run, on_error=fail), still, compare=compare, overwrite=overwrite, progress=progress
    )
    for path, to in moving.items():
        try:
            done, notes = restore_animation(
                run_moving, path, to, compare=compare, overwrite=overwrite, options=None
            )
        except ElirError as error:
            failed(path, error)
            continue
        report.outputs.append(to)
        report.frames += done.frames
        report.seconds += done.seconds
        report.notes += [f"{path}: {note}" for note in notes]
    report.failures = failures
    report.skipped = skipped
    return report


def _report(name: str, target: Path, done: PumpReport, notes: list[str]) -> RestoreReport:
    return RestoreReport(
        outputs=[target],
        frames=done.frames,
        seconds=done.seconds,
        fps=done.fps,
        notes=[f"{name}: {note}" for note in notes],
    )


def _images(run: Callable[..., PumpReport], targets: Mapping[Path, Path], **options: Any) -> RestoreReport:
    from elir_trt.io.image_job import restore_images

    done = restore_images(run, targets, **options)
    return RestoreReport(
        outputs=done.outputs, frames=done.frames, seconds=done.seconds, fps=done.fps, notes=done.notes
    )
