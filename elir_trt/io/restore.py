"""Restoring files: an image, a folder of images, or a video."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from elir_trt.errors import ElirError, FrameError, MediaError
from elir_trt.io import images, writer
from elir_trt.io.headers import image_format
from elir_trt.io.images import Image, read_image, write_image
from elir_trt.io.progress import ProgressCallback, Rate
from elir_trt.io.reader import Damage, VideoFrame, VideoReader
from elir_trt.io.writer import VideoWriter

DEPTH = 3
"""Frames in the ring of a stream: one is decoded and one encoded while one is restored."""

# Waiting is done in pieces, because Ctrl-C is noticed between them only.
_PATIENCE = 0.2

Pixels = npt.NDArray[np.uint8]
Noise = Literal["fixed", "per-frame", "off"]


class SupportsStream(Protocol):
    """What is needed of a restorer: :meth:`elir_trt.restorer.Restorer.stream`."""

    @property
    def order(self) -> Literal["rgb", "bgr"]:
        """Channel order of its frames."""

    def stream(
        self,
        *,
        depth: int = ...,
        steps: int | None = ...,
        seed: int = ...,
        noise: Noise = ...,
        size: tuple[int, int] | None = ...,
    ) -> Any:
        """Open a stream."""


@dataclass
class RestoreReport:
    """What became of the files.

    Attributes:
        outputs: files that were written.
        failures: inputs that could not be restored, with the reason. Only a folder goes on after a failure.
        frames: frames or images that were restored.
        seconds: of all the work.
        fps: frames per second, without the time until the first was ready.
        notes: what was changed on the way, such as "photo.png: 16 bits per channel reduced to 8".
    """

    outputs: list[Path] = field(default_factory=list)
    failures: list[tuple[Path, ElirError]] = field(default_factory=list)
    frames: int = 0
    seconds: float = 0.0
    fps: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """How many inputs could not be restored."""
        return len(self.failures)


@dataclass(frozen=True)
class _Job:
    restorer: SupportsStream
    compare: bool
    options: dict[str, Any]
    overwrite: bool
    damaged: Damage
    progress: ProgressCallback | None
    on_error: Callable[[Path, ElirError], None] | None

    def stream(self, size: tuple[int, int]) -> Any:
        return self.restorer.stream(depth=DEPTH, size=size, **self.options)

    def ordered(self, frame: Pixels) -> Pixels:
        """To the restorer's channel order, or back."""
        return frame[:, :, ::-1] if self.restorer.order == "bgr" else frame


def restore_path(
    restorer: SupportsStream,
    input: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    compare: bool = False,
    steps: int | None = None,
    seed: int = 0,
    noise: Noise = "fixed",
    overwrite: bool = False,
    damaged: Damage = "error",
    progress: ProgressCallback | None = None,
    on_error: Callable[[Path, ElirError], None] | None = None,
) -> RestoreReport:
    """Restore an image, a folder of images, or a video.

    Args:
        restorer: from :func:`elir_trt.open`.
        input: a file, or a folder whose images are all restored, those in its folders too.
        output: the file to write, or an existing folder for it; for a folder a folder, made if need be.
            Names and folders are kept; a .gif becomes a .png.
        compare: write before and after side by side.
        steps, seed, noise: see :meth:`elir_trt.restorer.Restorer.stream`.
        overwrite: replace existing files.
        damaged: what to do with a damaged video: "error", or "warn" and keep what can be decoded.
        progress: called after each frame or image.
        on_error: called for each image of a folder that could not be restored; the others go on.

    Returns:
        What was done; ``failed`` is not 0 if images of a folder failed.

    Raises:
        MediaError: the input cannot be read, or the output not written.
        ElirError: the restorer failed.
        KeyboardInterrupt: passed on; a video is finished first, so that what was done is playable.
    """
    job = _Job(
        restorer,
        compare,
        {"steps": steps, "seed": seed, "noise": noise},
        overwrite,
        damaged,
        progress,
        on_error,
    )
    source, target = Path(input), Path(output)
    kind = media_kind(source)
    rate = Rate()
    if kind == "folder":
        report = _restore_folder(job, source, target)
    else:
        if target.is_dir():
            target = target / (_image_name(source) if kind == "image" else _video_name(source))
        restore = _restore_image if kind == "image" else _restore_video
        report = restore(job, source, target)
    report.seconds = rate.seconds
    return report


def media_kind(path: Path) -> Literal["folder", "image", "video"]:
    """What a path holds: by its first bytes, and by its name where they say nothing.

    Raises:
        MediaError: there is nothing, or it cannot be read.
    """
    if path.is_dir():
        return "folder"
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except FileNotFoundError:
        raise MediaError(f"{path}: there is no such file or folder") from None
    except OSError as error:
        raise MediaError(f"{path}: cannot be read: {error.strerror or error}") from None
    return "image" if image_format(start) or path.suffix.lower() in images.READABLE else "video"


def _image_name(source: Path) -> Path:
    return Path(source.name if source.suffix.lower() in images.WRITABLE else f"{source.stem}.png")


def _video_name(source: Path) -> Path:
    return Path(source.name if source.suffix.lower() in writer.WRITABLE else f"{source.stem}.mp4")


# Images


def _restore_image(job: _Job, source: Path, target: Path) -> RestoreReport:
    report = RestoreReport()
    _restore_images(job, [(source, target)], report)
    if report.failures:
        raise report.failures[0][1]
    return report


def _restore_folder(job: _Job, source: Path, target: Path) -> RestoreReport:
    if target.exists() and not target.is_dir():
        raise MediaError(f"{target}: this is a file; a folder of images needs a folder as output")
    if target.exists() and target.samefile(source):
        raise MediaError(f"{target}: input and output are the same folder; give another output")
    inside = target.resolve()
    found = [
        path
        for path in sorted(source.rglob("*"))
        if path.suffix.lower() in images.READABLE and path.is_file() and inside not in path.resolve().parents
    ]
    if not found:
        raise MediaError(f"{source}: this folder holds no images; allowed: {', '.join(images.READABLE)}")
    report = RestoreReport()
    jobs: list[tuple[Path, Path]] = []
    taken: dict[Path, Path] = {}
    for path in found:
        to = target / path.parent.relative_to(source) / _image_name(path)
        if to in taken:
            _fail(job, report, path, MediaError(f"{path}: its output {to} is that of {taken[to]} already"))
            continue
        taken[to] = path
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MediaError(f"{to.parent}: cannot be made: {error.strerror or error}") from None
        jobs.append((path, to))
    _restore_images(job, jobs, report)
    return report


def _restore_images(job: _Job, pairs: Iterable[tuple[Path, Path]], report: RestoreReport) -> None:
    """Restore images in turn, with as many in work as the ring holds while their size stays the same."""
    pairs = list(pairs)
    rate = Rate()
    pending: deque[tuple[Image, Path]] = deque()

    def step() -> None:
        report.fps = rate.step()
        if job.progress is not None:
            job.progress(rate.done, len(pairs), report.fps)

    def collect() -> None:
        image, target = pending.popleft()
        try:
            after = job.ordered(wait_for_result(stream).frame)
        except FrameError as error:
            _fail(job, report, image.path, error)
        else:
            # Not caught: a full disk would fail for every further image too.
            _write(target, image, after, job.compare)
            report.outputs.append(target)
            report.frames += 1
            report.notes += [f"{image.path}: {note}" for note in image.notes]
        step()

    stream: Any = None
    size: tuple[int, int] | None = None
    try:
        for source, target in pairs:
            try:
                images.check_writable(target, overwrite=job.overwrite)
                if target.exists() and target.samefile(source):
                    raise MediaError(f"{target}: input and output are the same file; give another output")
                image = read_image(source)
                if image.rgb.shape[:2] != size:
                    while pending:
                        collect()
                    if stream is not None:
                        stream.close()
                        stream = None
                    size = None
                    wanted = (image.rgb.shape[0], image.rgb.shape[1])
                    stream = job.stream(wanted)
                    size = wanted
                if len(pending) >= DEPTH:
                    collect()
                stream.submit(job.ordered(image.rgb))
            except _OutputError:
                raise
            except ElirError as error:
                _fail(job, report, source, error)
                step()
                continue
            pending.append((image, target))
        while pending:
            collect()
    finally:
        if stream is not None:
            stream.close()


class _OutputError(MediaError):
    """The output cannot be written, whatever the input."""


def _fail(job: _Job, report: RestoreReport, source: Path, error: ElirError) -> None:
    report.failures.append((source, error))
    if job.on_error is not None:
        job.on_error(source, error)


def _write(target: Path, image: Image, after: Pixels, compare: bool) -> None:
    alpha = image.alpha
    if alpha is not None:
        alpha = _resize(alpha, after.shape)
    if compare:
        after = _side_by_side(image.rgb, after)
        alpha = None if alpha is None else np.hstack([alpha, alpha])
    try:
        write_image(target, after, alpha)
    except MediaError as error:
        raise _OutputError(str(error)) from None


def _side_by_side(before: Pixels, after: Pixels) -> Pixels:
    return np.hstack([_resize(before, after.shape), after])


def _resize(pixels: Pixels, shape: tuple[int, ...]) -> Pixels:
    if pixels.shape[:2] == shape[:2]:
        return pixels
    return np.asarray(cv2.resize(pixels, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def wait_for_result(stream: Any) -> Any:
    """The next result; Ctrl-C is noticed while waiting."""
    while True:
        try:
            return stream.result(timeout=_PATIENCE)
        except TimeoutError:
            continue


# Videos


class _Feeder:
    """Decodes and submits in a thread of its own, while the caller collects and encodes."""

    def __init__(self, reader: VideoReader, stream: Any, job: _Job) -> None:
        self._reader = reader
        self._stream = stream
        self._job = job
        self._stop = threading.Event()
        self.submitted: deque[VideoFrame] = deque()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="elir-decode", daemon=True)

    def _run(self) -> None:
        try:
            for frame in self._reader:
                self.submitted.append(frame)
                while not self._stop.is_set():
                    with contextlib.suppress(TimeoutError):
                        self._stream.submit(self._job.ordered(frame.rgb), frame.time, timeout=_PATIENCE)
                        break
                if self._stop.is_set():
                    return
        except BaseException as error:
            self.error = error
        finally:
            self._stream.close()

    def __enter__(self) -> _Feeder:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()


def _restore_video(job: _Job, source: Path, target: Path) -> RestoreReport:
    # Before the first frame is restored, not after the last.
    writer.check_writable(target, overwrite=job.overwrite, source=source)
    report = RestoreReport()
    with VideoReader(source, damaged=job.damaged, copy=True) as reader:
        report.notes += [f"{source}: {note}" for note in reader.notes]
        stream = job.stream(reader.size)
        rate = Rate()
        output: VideoWriter | None = None
        with _Feeder(reader, stream, job) as feeder, contextlib.ExitStack() as stack:
            while True:
                try:
                    result = wait_for_result(stream)
                except EOFError:
                    break
                before = feeder.submitted.popleft()
                after = job.ordered(result.frame)
                if job.compare:
                    after = _side_by_side(before.rgb, after)
                if output is None:
                    size = (after.shape[0], after.shape[1])
                    output = VideoWriter(target, size=size, template=reader, overwrite=job.overwrite)
                    stack.enter_context(output)
                output.write(after, before.pts, before.duration)
                report.frames += 1
                report.fps = rate.step()
                if job.progress is not None:
                    job.progress(report.frames, reader.frames, report.fps)
            if feeder.error is not None:
                raise feeder.error
    report.outputs.append(target)
    return report
