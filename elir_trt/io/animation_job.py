"""Restoring animations: into an animation, or into a video; and videos into animations."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from elir_trt.errors import MediaError
from elir_trt.io.animation import AnimationSink, AnimationSource
from elir_trt.io.paths import WRITABLE_VIDEOS, check_writable
from elir_trt.io.progress import ProgressCallback
from elir_trt.io.pumping import PumpReport

if TYPE_CHECKING:
    from elir_trt.io.reader import Damage
    from elir_trt.io.video_job import VideoOptions

# Of the videos that are made of animations, whose times are in milliseconds.
_TIME_BASE = Fraction(1, 1000)


def restore_animation(
    run: Callable[..., PumpReport],
    source: Path,
    target: Path,
    *,
    compare: bool,
    overwrite: bool,
    options: VideoOptions | None,
    progress: ProgressCallback | None = None,
) -> tuple[PumpReport, list[str]]:
    """Restore an animated GIF, PNG or WebP into another, or into a video.

    Args:
        run: the pump, with a restorer.
        source: the animation.
        target: an animation or a video, by its extension.
        compare, overwrite, progress: see :func:`elir_trt.io.restore_path`.
        options: of a video that is made: how it is encoded. Nothing else of it has a place here.

    Returns:
        What went through, and what was changed on the way.

    Raises:
        MediaError: the input cannot be read, or the output not written.
    """
    if options is not None and not options.selection.is_all:
        raise MediaError(f"{source}: --start, --duration and --every are of videos; this is an animation")
    is_video = target.suffix.lower() in WRITABLE_VIDEOS
    check_writable(target, "video" if is_video else "animation", overwrite=overwrite, source=source)
    with AnimationSource(source) as frames:
        if not is_video:
            sink = AnimationSink(
                target, plays=frames.plays, metadata=frames.metadata, compare=compare, overwrite=overwrite
            )
            done = run(frames, sink=sink, progress=progress)
            return done, [*frames.notes, *sink.notes]
        from elir_trt.io.video import VideoSink

        video = VideoSink(
            target,
            rate=frames.rate,
            time_base=_TIME_BASE,
            compare=compare,
            options=None if options is None else options.encode,
            overwrite=overwrite,
        )
        done = run(frames, sink=video, progress=progress)
        notes = [*frames.notes, *video.notes]
        if frames.has_alpha:
            notes.append("transparency is left out; .gif, .png and .webp keep it")
        if frames.plays != 1:
            often = "for ever" if frames.plays == 0 else f"{frames.plays} times"
            notes.append(f"it is shown {often}: a video is shown once")
        return done, notes


def animate_video(
    run: Callable[..., PumpReport],
    source: str | Path,
    target: Path,
    *,
    compare: bool,
    overwrite: bool,
    options: VideoOptions,
    damaged: Damage,
    progress: ProgressCallback | None = None,
) -> tuple[PumpReport, list[str]]:
    """Restore a video into an animation, which is shown for ever; see :func:`restore_animation`.

    Raises:
        MediaError: the input cannot be read, or the output not written.
    """
    from elir_trt.io.reader import VideoReader

    check_writable(target, "animation", overwrite=overwrite)
    with VideoReader(
        source, damaged=damaged, deinterlace=options.deinterlace, selection=options.selection, count=True
    ) as reader:
        if reader.colour.hdr:
            raise MediaError(
                f"{source}: it is high dynamic range, and {target.suffix} has none: give a video, such as .mp4"
            )
        step_s = 1 / Fraction(reader.rate or 25)
        sink = AnimationSink(target, step_s=step_s, compare=compare, overwrite=overwrite)
        sink.pixel_format = reader.pixel_format
        done = run(reader, sink=sink, progress=progress)
        notes = [*reader.notes, *sink.notes]
        if len(reader.container.streams) > 1:
            notes.append("sound and other streams are left out: an animation has none")
        if reader.pixel_format != "rgb24":
            notes.append("more than 8 bits per channel reduced to 8")
        return done, notes
