"""Restoring one video: in segments that a killed run goes on with, or in one go where the input comes only once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from elir_trt.errors import MediaError, StateError
from elir_trt.io.addresses import is_file
from elir_trt.io.encoding import EncodeOptions
from elir_trt.io.job import Job, input_identity
from elir_trt.io.progress import ProgressCallback, after
from elir_trt.io.pumping import PumpReport
from elir_trt.io.reader import VideoReader
from elir_trt.io.resuming import ResumableSink
from elir_trt.io.selection import Selection
from elir_trt.io.video import VideoSink
from elir_trt.stream_state import StreamState

if TYPE_CHECKING:
    from elir_trt.io.reader import Damage


@dataclass(frozen=True)
class VideoOptions:
    """How a video is read and written.

    Attributes:
        encode: codec, quality, pixel format.
        selection: the part that is restored.
        deinterlace: "auto" or "off", see :class:`elir_trt.io.VideoReader`.
        restart: do not go on with a run that was stopped.
    """

    encode: EncodeOptions = field(default_factory=EncodeOptions)
    selection: Selection = field(default_factory=Selection)
    deinterlace: Literal["auto", "off"] = "auto"
    restart: bool = False


def restore_video(
    run: Callable[..., PumpReport],
    source: str | Path,
    target: Path,
    *,
    compare: bool,
    overwrite: bool,
    options: VideoOptions,
    damaged: Damage,
    command: Mapping[str, Any],
    averages: bool = False,
    whole: bool = False,
    progress: ProgressCallback | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[PumpReport, list[str]]:
    """Restore a video.

    Args:
        run: the pump, with a restorer.
        source: a file, a named pipe, "-" or an address.
        target: the file to write.
        compare, overwrite, options, damaged, progress: see :func:`elir_trt.io.restore_path`.
        command: what else decides the frames, as JSON: bundle, steps, seed.
        averages: over time: results depend on the frames before them, of which the stream's state is kept.
        whole: results depend on the frames before them in ways of which no state is kept: a film that was stopped
            begins again.
        say: called with a line about a run that is gone on with.

    Returns:
        What went through in this run, and what was changed on the way.

    Raises:
        MediaError: the input cannot be read, or the output not written.
        KeyboardInterrupt, SystemExit: Ctrl-C and SIGTERM; their first argument says how to go on.
    """
    resumable = is_file(source)
    reader = VideoReader(
        source,
        damaged=damaged,
        copy=not resumable,
        deinterlace=options.deinterlace,
        selection=options.selection,
        count=True,
    )
    with reader:
        if not resumable:
            sink = VideoSink(
                target, template=reader, compare=compare, options=options.encode, overwrite=overwrite
            )
            done = run(reader, sink=sink, progress=progress)
            return done, [*reader.notes, *sink.notes]
        job, state = _open_job(reader, target, compare, options, command, averages, whole, say)
        try:
            sink_ = ResumableSink(
                target,
                template=reader,
                job=job,
                compare=compare,
                options=options.encode,
                keeps_state=averages,
            )
        except BaseException:
            job.close()
            raise
        before = job.frames
        try:
            shown = None if progress is None else after(progress, before)
            done = run(reader, sink=sink_, state=state, progress=shown)
        except StateError as error:
            raise StateError(
                f"{target}: cannot go on where it was stopped, tiles are cut in another way now: {error}; "
                "give the same --max-memory, or --restart"
            ) from None
        except (KeyboardInterrupt, SystemExit) as error:
            total = f" of {reader.frames}" if reader.frames else ""
            how = "the film is finished" if job.finished else "run the same command to go on"
            error.args = (f"interrupted, {job.frames}{total} frames; {how}",)
            raise
        if not job.finished:
            length = f": it is {reader.duration:.2f} s long" if reader.duration else ""
            raise MediaError(f"{source}: it holds no frame there{length}")
        return done, [*reader.notes, *sink_.notes]


def _open_job(
    reader: VideoReader,
    target: Path,
    compare: bool,
    options: VideoOptions,
    command: Mapping[str, Any],
    averages: bool,
    whole: bool,
    say: Callable[[str], None],
) -> tuple[Job, StreamState | None]:
    """The job, and where the stream that restored its segments was; None: there are none."""
    import av

    from elir_trt import __version__

    try:
        identity = input_identity(reader.path)
    except OSError as error:
        raise MediaError(f"{reader.path}: cannot be read: {error.strerror or error}") from None
    full = {
        **command,
        "input": identity,
        "compare": compare,
        "encoder": asdict(options.encode),
        "part": asdict(options.selection),
        "deinterlace": options.deinterlace,
        "version": f"elir_trt {__version__}, PyAV {av.__version__}",
    }
    job = Job(target, full, restart=options.restart)
    if job.segments and whole:
        job.start_afresh(
            "its results depend on the frames before them, as with --faces or a tolerance for --still"
        )
    # Noise per frame is drawn by the number of the frame alone.
    state = job.go_back_to_state() if averages else StreamState(job.frames, None) if job.segments else None
    if job.restarted is not None:
        say(f"{target}: starts afresh: what is there of it cannot be gone on with, {job.restarted}")
    if job.segments:
        total = f" of {reader.frames}" if reader.frames else ""
        say(f"{target}: goes on behind frame {job.frames}{total}")
        reader.go_to(job.segments[-1].end)
    return job, state
