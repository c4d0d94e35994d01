"""``elir-trt run``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Optional, get_args

import typer

from elir_trt.cli.faces import FaceBundle, FaceDetector, Faces, FacesOnly, open_restorer
from elir_trt.cli.shared import BundleOption, Steps, complain, one_of, still_of
from elir_trt.errors import ElirError

Text = Optional[str]  # noqa: UP045  (Typer reads it at run time, on every Python)
Number = Optional[int]  # noqa: UP045
Seconds = Optional[float]  # noqa: UP045
_VIDEOS, _OUTPUT = "Videos", "What is said"


def run(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Images, videos, folders, patterns, addresses (http, https, rtsp), or - for stdin."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file; for several inputs or a folder the folder.")
    ],
    bundle: BundleOption = "camera",
    steps: Steps = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0,
    noise: Annotated[str, typer.Option(help="fixed, per-frame or off.")] = "fixed",
    temporal: Annotated[
        str, typer.Option(help="Of videos: auto averages still places over time against flicker; or off.")
    ] = "off",
    still: Annotated[
        str,
        typer.Option(
            help="Of videos: take still regions from before: off, exact, or levels they may differ by."
        ),
    ] = "off",
    compare: Annotated[bool, typer.Option("--compare", help="Write before and after side by side.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    max_memory: Annotated[
        Text,
        typer.Option(
            help="That this process stays below, such as 2GB: smaller tiles. Default: what is free."
        ),
    ] = None,
    faces: Faces = False,
    faces_only: FacesOnly = False,
    face_bundle: FaceBundle = None,
    face_detector: FaceDetector = None,
    damaged: Annotated[
        str, typer.Option(help="error, or warn and keep what can be decoded.", rich_help_panel=_VIDEOS)
    ] = "error",
    codec: Annotated[
        Text,
        typer.Option(
            help="h264, hevc, av1, vp9, ffv1, prores, or an encoder of FFmpeg such as hevc_nvenc. "
            "Default: what keeps the source's pixels.",
            rich_help_panel=_VIDEOS,
        ),
    ] = None,
    crf: Annotated[
        Number, typer.Option(help="Quality, 0 (best) to 63; default 17.", rich_help_panel=_VIDEOS)
    ] = None,
    preset: Annotated[
        Text, typer.Option(help="Of the encoder, such as fast or slow.", rich_help_panel=_VIDEOS)
    ] = None,
    pix_fmt: Annotated[
        Text, typer.Option("--pix-fmt", help="FFmpeg's name, such as yuv422p10le.", rich_help_panel=_VIDEOS)
    ] = None,
    container: Annotated[
        Text, typer.Option(help="mp4, mov, mkv or webm, for outputs in a folder.", rich_help_panel=_VIDEOS)
    ] = None,
    start: Annotated[float, typer.Option(help="Seconds to begin at.", rich_help_panel=_VIDEOS)] = 0.0,
    duration: Annotated[
        Seconds, typer.Option(help="Seconds to restore; default: to the end.", rich_help_panel=_VIDEOS)
    ] = None,
    every: Annotated[int, typer.Option(help="Each so many frames only.", rich_help_panel=_VIDEOS)] = 1,
    deinterlace: Annotated[
        str,
        typer.Option(help="auto: whole pictures of fields; off: fields stay.", rich_help_panel=_VIDEOS),
    ] = "auto",
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Do not go on with a run that was stopped.", rich_help_panel=_VIDEOS),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Progress and results as lines of JSON.", rich_help_panel=_OUTPUT),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Errors and warnings alone.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Restore images and videos. A video that was stopped goes on when the same command is run again."""
    from elir_trt.io.batch import plan
    from elir_trt.io.restore import Damage
    from elir_trt.stream import Noise, Temporal

    one_of("--noise", noise, get_args(Noise))
    one_of("--temporal", temporal, get_args(Temporal))
    regions = still_of("--still", still)
    one_of("--damaged", damaged, get_args(Damage))
    one_of("--deinterlace", deinterlace, ("auto", "off"))
    given = (codec, crf, preset, pix_fmt, start, duration, every, deinterlace, restart)
    # Without them PyAV is not needed here: images go without it.
    video = None if given == (None, None, None, None, 0.0, None, 1, "auto", False) else _video_options(*given)
    planned = plan(inputs, output, container=container)  # before the engines are loaded
    for path in planned.skipped:
        _say(f"skipped: {path} is neither an image nor a video", quiet)
    if len(planned.items) > 1:
        output.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {
        "compare": compare,
        "steps": steps,
        "seed": seed,
        "noise": noise,
        "temporal": temporal,
        "still": regions,
        "damaged": damaged,
        "video": video,
        "say": lambda text: _say(text, quiet),
    }
    failed = 0
    if temporal != "off" and faces_only:
        raise ElirError(
            f"--temporal {temporal} is of the rest of the frames, which --faces-only leaves as it is"
        )
    opened = open_restorer(
        bundle,
        faces=faces,
        faces_only=faces_only,
        face_bundle=face_bundle,
        face_detector=face_detector,
        max_memory=_bytes(max_memory),
    )
    with opened as restorer:
        if steps is not None and not 0 <= steps <= restorer.recipe.steps:
            raise ElirError(f"--steps is {steps}; this bundle allows 0 to {restorer.recipe.steps}")
        for item in planned.items:
            if item.found and item.target.exists() and not overwrite:
                _say(f"skipped: {item.target} is there already; --overwrite restores it again", quiet)
                continue
            try:
                failed += _restore(restorer, item, options, overwrite, as_json, quiet)
            except ElirError as error:
                if len(planned.items) == 1:
                    raise
                complain(error)
                failed += 1
    if failed:
        total = f" of {len(planned.items)}" if len(planned.items) > 1 else ""
        raise ElirError(f"{failed}{total} inputs could not be restored")


def _restore(
    restorer: Any, item: Any, options: dict[str, Any], overwrite: bool, as_json: bool, quiet: bool
) -> int:
    """Restore an input and say what came of it; gives how many of its files failed."""
    from elir_trt.io.progress import JsonProgress, NoProgress, RichProgress
    from elir_trt.io.restore import restore_path

    if item.found:
        item.target.parent.mkdir(parents=True, exist_ok=True)
    name = Path(item.source).name or item.source
    progress: JsonProgress | NoProgress | RichProgress = NoProgress()
    if as_json:
        progress = JsonProgress(sys.stdout, name)
    elif not quiet and sys.stderr.isatty():
        progress = RichProgress(name)
    try:
        with progress:
            report = restore_path(
                restorer,
                item.source,
                item.target,
                overwrite=overwrite,
                progress=progress,
                on_error=(lambda _, error: complain(error)) if Path(item.source).is_dir() else None,
                **options,
            )
    except (KeyboardInterrupt, SystemExit) as interrupt:
        print(_of_interrupt(interrupt), file=sys.stderr)
        sys.exit(interrupt.code if isinstance(interrupt, SystemExit) else 130)
    for note in report.notes:
        _say(f"note: {note}", quiet)
    if report.skipped:
        _say(f"{len(report.skipped)} done before and skipped; --overwrite restores them again", quiet)
    if as_json:
        outputs = [str(path) for path in report.outputs]
        done = {
            "outputs": outputs,
            "frames": report.frames,
            "fps": round(report.fps, 2),
            "failed": report.failed,
        }
        print(json.dumps(done), flush=True)
    elif not quiet:
        written = report.outputs
        what = str(written[0]) if len(written) == 1 else f"{len(written)} files in {item.target}"
        print(f"{report.frames} frames at {report.fps:.2f} frames/s: {what}")
    return report.failed


def _of_interrupt(interrupt: BaseException) -> str:
    text = str(interrupt.args[0]) if interrupt.args else ""
    return text if text.startswith("interrupted") else "interrupted"


def _video_options(
    codec: str | None,
    crf: int | None,
    preset: str | None,
    pixel_format: str | None,
    start_s: float,
    duration_s: float | None,
    every: int,
    deinterlace: str,
    restart: bool,
) -> Any:
    from elir_trt.io.encoding import EncodeOptions
    from elir_trt.io.selection import Selection
    from elir_trt.io.video_job import VideoOptions

    return VideoOptions(
        encode=EncodeOptions(codec, crf, preset, pixel_format),
        selection=Selection(start_s, duration_s, every),
        deinterlace=deinterlace,  # type: ignore[arg-type]
        restart=restart,
    )


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        print(text, file=sys.stderr)


def _bytes(text: str | None) -> int | None:
    """Bytes of ``--max-memory``."""
    from elir_trt.memory import parse_bytes

    try:
        return None if text is None else parse_bytes(text, "--max-memory")
    except ValueError as error:
        raise ElirError(str(error)) from None
