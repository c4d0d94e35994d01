"""Animated images, GIF, APNG and WebP, as a source and as a sink of frames with times."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from elir_trt.errors import MediaError
from elir_trt.extras import needs
from elir_trt.files import write_whole
from elir_trt.io.compare import resized, side_by_side
from elir_trt.io.decode import opened
from elir_trt.io.images import PIXEL_LIMIT, checked
from elir_trt.io.metadata import Metadata, read_metadata
from elir_trt.io.paths import check_writable
from elir_trt.io.sink import Sink
from elir_trt.io.source import Frame, Source
from elir_trt.io.video_frame import VideoFrame

with needs("PIL", extra="image", what="reading and writing images"):
    import PIL.Image

if TYPE_CHECKING:
    from elir_trt.stream import Result

_FORMATS = ("GIF", "PNG", "WebP")
_SUFFIXES = (".gif", ".png", ".apng", ".webp")
# What browsers show a GIF's frame for that states no time.
_UNSTATED_MS = 100
_MS = Fraction(1, 1000)
# All of it is in memory until it is written.
_MOST_BYTES = 2 << 30


def is_animation(path: Path) -> bool:
    """Whether a file is a GIF, PNG or WebP of several pictures; False too where it cannot be read."""
    if path.suffix.lower() not in _SUFFIXES:
        return False
    with contextlib.suppress(Exception), PIL.Image.open(path, formats=[n.upper() for n in _FORMATS]) as image:
        return getattr(image, "n_frames", 1) - bool(image.info.get("default_image")) > 1
    return False


class AnimationSource(Source):
    """The frames of an animation, each whole, with their times in milliseconds.

    Attributes:
        plays: how often it is shown; 0: for ever.
        metadata: what the file says beside its frames.
        has_alpha: a frame has transparent places; known when they are read.
        notes: what was changed on the way.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the file and look at its first frame.

        Raises:
            MediaError: there is no such file, it is damaged, too large, or no animation.
        """
        self.path = Path(path)
        self._data, header = checked(self.path, PIXEL_LIMIT)
        if header.format not in _FORMATS:
            raise MediaError(f"{path}: this is a {header.format} image; animations are GIF, PNG and WebP")
        self._format = header.format
        self.size = (header.height, header.width)
        self.frames: int
        self.has_alpha = False
        with opened(self.path, self._data, header.format) as image:
            # A PNG may have a picture for those who know no animations.
            self._first = int(bool(image.info.get("default_image")))
            self.frames = getattr(image, "n_frames", 1) - self._first
            self.metadata, notes = read_metadata(image)
            loop = image.info.get("loop")
        if self._format == "GIF":
            # It states how often it is shown again; without that once.
            self.plays = 1 if loop is None else 0 if loop == 0 else int(loop) + 1
        else:
            self.plays = int(loop or 0)
        if header.bits > 8:
            notes.append(f"{header.bits} bits per channel reduced to 8")
        self.notes = notes

    @property
    def rate(self) -> Fraction:
        """Frames per second, on average."""
        with opened(self.path, self._data, self._format) as image:
            total = 0
            for number in range(self._first, self._first + self.frames):
                image.seek(number)
                total += _duration_ms(image)
        return Fraction(1000 * self.frames, total)

    def __iter__(self) -> Iterator[Frame]:
        """Decode it.

        Raises:
            MediaError: it is damaged.
        """
        at = 0
        with opened(self.path, self._data, self._format) as image:
            for number in range(self._first, self._first + self.frames):
                image.seek(number)
                pixels = np.asarray(image.convert("RGBA"))
                duration = _duration_ms(image)
                alpha = pixels[:, :, 3]
                opaque = bool((alpha == 255).all())
                self.has_alpha = self.has_alpha or not opaque
                yield VideoFrame(
                    np.ascontiguousarray(pixels[:, :, :3]),
                    at / 1000,
                    self.path,
                    pts=at,
                    time_base=_MS,
                    duration=duration,
                    alpha=None if opaque else np.ascontiguousarray(alpha),
                )
                at += duration


def _duration_ms(image: PIL.Image.Image) -> int:
    return max(0, round(image.info.get("duration") or 0)) or _UNSTATED_MS


@dataclass(frozen=True)
class _Shown:
    pixels: Any
    from_s: Fraction
    for_s: Fraction


class AnimationSink(Sink):
    """Writes results to an animated GIF, PNG or WebP, when all are there; PNG and WebP are lossless.

    Attributes:
        notes: what is not kept.
    """

    finish_on_interrupt = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        plays: int = 0,
        metadata: Metadata | None = None,
        step_s: Fraction = Fraction(1, 25),
        compare: bool = False,
        overwrite: bool = False,
    ) -> None:
        """Check the name; writes nothing yet.

        Args:
            path: ending in .gif, .png, .apng or .webp.
            plays: how often it is shown; 0: for ever.
            metadata: of the source, of which the profile is kept, by PNG and WebP.
            step_s: seconds that the last frame is shown for where that is not stated.
            compare: write before and after side by side.
            overwrite: replace an existing file.

        Raises:
            MediaError: the name or the folder does not allow it.
        """
        self.path = check_writable(path, "animation", overwrite=overwrite)
        self.notes: list[str] = []
        self._plays = plays
        self._metadata = metadata or Metadata()
        self._step_s = step_s
        self._compare = compare
        self._frames: list[_Shown] = []
        self._bytes = 0

    def write(self, result: Result, frame: Frame) -> None:
        """Take a frame.

        Raises:
            MediaError: there are more than fit into memory.
        """
        assert isinstance(frame, VideoFrame)
        pixels, alpha = result.frame, frame.alpha
        if self._compare:
            pixels, alpha = side_by_side(frame.pixels, pixels), None
        if alpha is not None:
            pixels = np.dstack([pixels, resized(alpha, pixels.shape)])
        self._bytes += pixels.nbytes
        if self._bytes > _MOST_BYTES:
            raise MediaError(
                f"{self.path}: an animation is made in memory, and this one is more than 2 GB after "
                f"{len(self._frames)} frames; give a video, such as .webm, or a --duration"
            )
        step = frame.duration * frame.time_base or self._step_s
        self._frames.append(_Shown(np.array(pixels), frame.pts * frame.time_base, step))

    def close(self, *, complete: bool = True) -> None:
        """Write the file; there is none without frames.

        Raises:
            MediaError: the format refuses the size, or the disk is full.
        """
        if not self._frames:
            return
        try:
            data = self._encoded()
        except (OSError, ValueError, SystemError) as error:
            raise MediaError(f"{self.path}: cannot be written: {error}") from None
        try:
            write_whole(self.path, data)
        except OSError as error:
            raise MediaError(f"{self.path}: cannot be written: {error.strerror or error}") from None

    def _encoded(self) -> bytes:
        suffix = self.path.suffix.lower()
        has_alpha = any(shown.pixels.shape[2] == 4 for shown in self._frames)
        images = [PIL.Image.fromarray(_packed(shown.pixels, suffix, has_alpha)) for shown in self._frames]
        options: dict[str, Any] = {"duration": self._durations_ms(10 if suffix == ".gif" else 1)}
        if suffix == ".gif":
            self.notes.append("colours are reduced to the 256 of a GIF's palette")
            if has_alpha:
                self.notes.append("transparency is reduced to all or nothing: a GIF has no other")
            if self._metadata.icc is not None:
                self.notes.append("ICC profile is not kept in a .gif file")
            # Pillow writes how often it is shown again; nothing for once.
            options |= {} if self._plays == 1 else {"loop": max(0, self._plays - 1)}
            options |= {"format": "GIF", "disposal": 2 if has_alpha else 1}
        else:
            options |= {"loop": self._plays, "icc_profile": self._metadata.icc}
            if suffix == ".webp":
                options |= {"format": "WEBP", "lossless": True, "exact": True, "quality": 50}
            else:
                options |= {"format": "PNG", "blend": 0}
        file = io.BytesIO()
        images[0].save(file, save_all=True, append_images=images[1:], **options)
        return file.getvalue()

    def _durations_ms(self, unit_ms: int) -> list[int]:
        """How long each is shown, so that their sum stays true although each is rounded."""
        starts = [shown.from_s for shown in self._frames]
        ends = [*starts[1:], starts[-1] + self._frames[-1].for_s]
        rounded = [round((time - starts[0]) * 1000 / unit_ms) * unit_ms for time in (starts[0], *ends)]
        found = [max(unit_ms, after - before) for before, after in pairwise(rounded)]
        if any((time - starts[0]) * 1000 % unit_ms for time in ends):
            self.notes.append(f"times are rounded to {unit_ms} ms")
        return found


def _packed(pixels: Any, suffix: str, has_alpha: bool) -> Any:
    """All frames of one kind, as the format takes them."""
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if not has_alpha:
        return pixels
    if pixels.shape[2] == 3:
        pixels = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    if suffix == ".gif":
        pixels = np.dstack([pixels[:, :, :3], np.where(pixels[:, :, 3] < 128, 0, 255).astype(np.uint8)])
    return np.ascontiguousarray(pixels)
