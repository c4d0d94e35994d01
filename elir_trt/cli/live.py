"""``elir-trt live``."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from elir_trt.cli.faces import FaceBundle, FaceDetector, Faces, open_restorer
from elir_trt.cli.shared import BundleOption, Steps, complain, one_of, size_of
from elir_trt.errors import ElirError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from elir_trt.live.monitor import Monitor

Text = Optional[str]  # noqa: UP045  (Typer reads it at run time, on every Python)
Number = Optional[float]  # noqa: UP045
Whole = Optional[int]  # noqa: UP045
_SOURCE, _PAGE, _OUTPUT, _SAID = "Source", "Page", "Outputs", "What is said"
_LINE_S = 1.0


def live(
    source: Annotated[
        str,
        typer.Argument(
            help="/dev/video0, an address (rtsp, rtmp, http, udp), gst:PIPELINE, a video file with --realtime, "
            "or test:640x360@30."
        ),
    ],
    output: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--output",
            "-o",
            help="window, a file, /dev/video9 (loopback), or an address (rtsp, rtmp, srt, udp). Several are allowed.",
        ),
    ] = None,
    serve: Annotated[
        Text, typer.Option(help="Show a page at HOST:PORT, such as 127.0.0.1:8080.", rich_help_panel=_PAGE)
    ] = None,
    bundle: BundleOption = "camera",
    steps: Steps = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0,
    noise: Annotated[str, typer.Option(help="fixed, per-frame or off.")] = "fixed",
    temporal: Annotated[
        str, typer.Option(help="auto averages still places over time against flicker; or off.")
    ] = "off",
    deadline: Annotated[
        Number, typer.Option(help="Milliseconds for a frame; fewer steps where there is no time.")
    ] = None,
    max_age_ms: Annotated[
        Number, typer.Option("--max-age-ms", help="Frames that are older are given up.")
    ] = None,
    depth: Annotated[int, typer.Option(min=1, help="Frames in the stream's ring.")] = 2,
    duration: Annotated[
        Number, typer.Option(help="Seconds to run from the first result on; default: until it is stopped.")
    ] = None,
    size: Annotated[
        Text, typer.Option(help="HEIGHTxWIDTH to ask a camera for.", rich_help_panel=_SOURCE)
    ] = None,
    rate: Annotated[
        Number, typer.Option(help="Frames a second to ask a camera for.", rich_help_panel=_SOURCE)
    ] = None,
    fourcc: Annotated[
        Text, typer.Option(help="How a camera sends pixels, such as MJPG.", rich_help_panel=_SOURCE)
    ] = None,
    transport: Annotated[str, typer.Option(help="Of RTSP: tcp or udp.", rich_help_panel=_SOURCE)] = "tcp",
    faces: Faces = False,
    face_bundle: FaceBundle = None,
    face_detector: FaceDetector = None,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Play a file as a camera.", rich_help_panel=_SOURCE)
    ] = False,
    loop: Annotated[bool, typer.Option("--loop", help="Play it for ever.", rich_help_panel=_SOURCE)] = False,
    stall: Annotated[
        float,
        typer.Option(
            help="Seconds without a frame until the source is opened again.", rich_help_panel=_SOURCE
        ),
    ] = 5.0,
    tries: Annotated[
        Whole,
        typer.Option(min=0, help="To open a lost source again; default: for ever.", rich_help_panel=_SOURCE),
    ] = None,
    token: Annotated[
        Text,
        typer.Option(
            envvar="ELIR_TRT_TOKEN",
            help="That viewers need; auto makes one up. Required beyond the loopback.",
            rich_help_panel=_PAGE,
        ),
    ] = None,
    origin: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Of other pages that may use this one.", rich_help_panel=_PAGE),
    ] = None,
    offer: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Another bundle that the page may choose.", rich_help_panel=_PAGE),
    ] = None,
    quality: Annotated[
        int, typer.Option(min=1, max=100, help="Of the page's pictures.", rich_help_panel=_PAGE)
    ] = 85,
    codec: Annotated[
        Text, typer.Option(help="Of files and addresses; default h264.", rich_help_panel=_OUTPUT)
    ] = None,
    crf: Annotated[Whole, typer.Option(help="Quality, 0 (best) to 63.", rich_help_panel=_OUTPUT)] = None,
    preset: Annotated[
        Text, typer.Option(help="Of the encoder, such as fast.", rich_help_panel=_OUTPUT)
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing files.", rich_help_panel=_OUTPUT)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="A line of JSON a second.", rich_help_panel=_SAID)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Errors and warnings alone.", rich_help_panel=_SAID)
    ] = False,
) -> None:
    """Restore a camera: into windows, files, other programs, the network, and a page. Ctrl-C ends it."""
    from elir_trt.live import Fanout, Monitor, Page, Reconnecting, Session, Settings, open_sink, open_source
    from elir_trt.live.sources.opening import SourceOptions

    one_of("--transport", transport, ("tcp", "udp"))
    if not output and serve is None:
        raise ElirError("nobody would see it: give --serve 127.0.0.1:8080, -o window, or -o FILE")
    say = _speaker(quiet or as_json)
    try:
        reconnecting = Reconnecting(tries=tries, stall_s=stall)
    except ValueError as error:
        raise ElirError(str(error)) from None
    options = SourceOptions(
        size=None if size is None else size_of(size),
        rate=rate,
        fourcc=fourcc,
        transport=transport,  # type: ignore[arg-type]
        realtime=realtime,
        loop=loop,
    )
    settings = Settings(bundle, steps, seed, noise, temporal, deadline)  # type: ignore[arg-type]
    monitor = Monitor()
    with ExitStack() as stack:
        sinks: dict[str, Any] = {}
        try:
            page = None
            if serve is not None:
                page = sinks["page"] = Page(serve, token=token, origins=origin or (), quality=quality)
            for text in output or ():
                sinks[text] = open_sink(
                    text, codec=codec, crf=crf, preset=preset, rate=rate or 30.0, overwrite=overwrite, say=say
                )
            camera = stack.enter_context(
                open_source(
                    source,
                    options,
                    max_age_ms=_positive("--max-age-ms", max_age_ms),
                    reconnecting=reconnecting,
                    monitor=monitor,
                    say=say,
                )
            )
            sink = Fanout(sinks, max_age_ms=max_age_ms, monitor=monitor, say=say)
        except BaseException:
            for opened in sinks.values():
                opened.abort()
            raise
        try:
            session = Session(
                camera,
                sink,
                lambda name: open_restorer(
                    name, faces=faces, face_bundle=face_bundle, face_detector=face_detector
                ),
                settings,
                offered=tuple(offer or ()),
                depth=depth,
                duration_s=_positive("--duration", duration),
                say=say,
            )
        except BaseException:
            sink.abort()
            raise
        stack.callback(session.close)
        if page is not None:
            page.serve(session)
            say(f"the page is at {page.url}")
        with _reporting(monitor, as_json, quiet):
            session.run()


def _positive(option: str, value: float | None) -> float | None:
    if value is not None and not value > 0:
        raise ElirError(f"{option} is {value:g}; expected more than 0")
    return value


def _speaker(quiet: bool) -> Callable[[str], None]:
    def say(text: str) -> None:
        if not quiet:
            sys.stderr.write(f"\r\x1b[K{text}\n" if sys.stderr.isatty() else f"{text}\n")
            sys.stderr.flush()

    return say


@contextmanager
def _reporting(monitor: Monitor, as_json: bool, quiet: bool) -> Iterator[None]:
    """Say once a second how it goes: a line of JSON, or one on the terminal that is written over; at the end a last
    one."""
    from elir_trt.live.monitor import as_line

    ended = threading.Event()
    on_terminal = sys.stderr.isatty() and not quiet and not as_json

    def tell() -> None:
        while not ended.wait(_LINE_S):
            if as_json:
                print(json.dumps(monitor.snapshot()), flush=True)
            elif on_terminal:
                sys.stderr.write(f"\r\x1b[K{as_line(monitor.snapshot())[:200]}")
                sys.stderr.flush()

    thread = threading.Thread(target=tell, name="elir-report", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if on_terminal:
            sys.stderr.write("\r\x1b[K")
        if as_json:
            print(json.dumps(monitor.snapshot()), flush=True)
        elif not quiet:
            print(as_line(monitor.snapshot()))
        for name, sink in monitor.snapshot()["sinks"].items():
            if sink["error"] and quiet:
                complain(ElirError(f"{name}: {sink['error']}"))
