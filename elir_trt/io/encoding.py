"""How frames become a video stream: codec, pixel format, quality; one place for every writer."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from elir_trt.cpu import cpu_flags
from elir_trt.errors import MediaError
from elir_trt.extras import needs
from elir_trt.io.colour import FULL, LIMITED, Colour, Converter, default_colour

with needs("av", extra="video", what="writing videos"):
    import av
    from av.codec.context import Flags

if TYPE_CHECKING:
    from elir_trt.io.reader import VideoReader

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""FFmpeg's name of the container that an extension stands for."""

CODECS = {
    "h264": "libx264",
    "hevc": "libx265",
    "h265": "libx265",
    "av1": "libsvtav1",
    "vp9": "libvpx-vp9",
    "ffv1": "ffv1",
    "prores": "prores_ks",
}
"""Short names of codecs, and the encoder of each; every other name is taken for an encoder of FFmpeg."""

# What these take for "quality", beside encoders that have "crf".
_QUALITY: dict[str, dict[str, str]] = {
    "nvenc": {"rc": "vbr", "cq": "{}"},
    "qsv": {"global_quality": "{}"},
    "amf": {"rc": "cqp", "qp_i": "{}", "qp_p": "{}"},
    "videotoolbox": {"global_quality": "{}"},
}
_LOSSLESS = ("ffv1", "prores", "prores_ks", "prores_aw", "huffyuv", "ffvhuff", "utvideo")

DEFAULT_CRF = 17
"""Hard to tell from the source, with x264 and x265."""


@dataclass(frozen=True)
class EncodeOptions:
    """What a user asks of the encoder; None: chosen for the source and the container.

    Attributes:
        codec: a key of :data:`CODECS`, or FFmpeg's name of an encoder, such as "hevc_nvenc".
        crf: quality, from 0 (best) to 63; 17 of x264 and x265 is hard to tell from the source.
        preset: of the encoder, such as "ultrafast" to "veryslow" of x264 and x265.
        pixel_format: FFmpeg's name, such as "yuv422p10le".
    """

    codec: str | None = None
    crf: int | None = None
    preset: str | None = None
    pixel_format: str | None = None

    def __post_init__(self) -> None:
        """Raises: MediaError: an option is none that this FFmpeg knows."""
        if self.codec is not None:
            encoder(self.codec)
        if self.crf is not None and not 0 <= self.crf <= 63:
            raise MediaError(f"crf is {self.crf}; expected 0 (best) to 63")
        if self.pixel_format is not None:
            _format(self.pixel_format)


@dataclass(frozen=True)
class Encoding:
    """A video stream to be written: everything that an encoder is opened with.

    Attributes:
        codec: FFmpeg's name of the encoder.
        pixel_format: that it stores.
        size: height and width.
        rate: frames per second, on average.
        time_base: seconds per tick of the frames' times.
        aspect: width of a pixel by its height.
        colour: how the pixels mean colours.
        options: of the encoder.
        interlaced: "tff" or "bff": coded as fields, the top or the bottom one first; None: as whole pictures.
    """

    codec: str
    pixel_format: str
    size: tuple[int, int]
    rate: Fraction
    time_base: Fraction
    aspect: Fraction
    colour: Colour
    options: dict[str, str] = field(default_factory=dict)
    interlaced: str | None = None

    @property
    def step(self) -> int:
        """Ticks from one frame to the next, on average."""
        return max(1, round(1 / (self.rate * self.time_base)))

    def configure(self, context: Any) -> None:
        """Set up an encoder that is not open yet."""
        context.width, context.height = self.size[1], self.size[0]
        context.pix_fmt = self.pixel_format
        context.framerate = self.rate
        context.time_base = self.time_base
        context.flags |= int(Flags.frame_duration)
        if self.interlaced:
            context.flags |= int(Flags.interlaced_dct) | int(Flags.interlaced_me)
        context.sample_aspect_ratio = self.aspect
        context.color_range = FULL if self.colour.full_range else LIMITED
        # Frames of red, green and blue have no matrix (H.273: 0).
        context.colorspace = 0 if _format(self.pixel_format).is_rgb else self.colour.matrix
        context.color_primaries = self.colour.primaries
        context.color_trc = self.colour.transfer

    def open(self) -> Any:
        """An encoder of its own, for a part of the film that stands alone.

        Raises:
            MediaError: the encoder refuses.
        """
        context = av.CodecContext.create(self.codec, "w")
        self.configure(context)
        context.options = dict(self.options)
        context.flags |= int(Flags.global_header)
        try:
            context.open()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self.refusal(error) from None
        return context

    def refusal(self, error: Exception) -> MediaError:
        """The error for an encoder that does not open."""
        height, width = self.size
        reason = getattr(error, "strerror", None) or error
        return MediaError(
            f"encoder {self.codec} cannot be opened here for {width}x{height} {self.pixel_format}: {reason}"
        )


class FrameMaker:
    """Makes frames for the encoder of results."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._converter = Converter()

    def __call__(
        self,
        rgb: npt.NDArray[Any],
        pts: int,
        duration: int,
        alpha: npt.NDArray[Any] | None = None,
    ) -> av.VideoFrame:
        """A frame.

        Args:
            rgb: ``[H, W, 3]`` uint8 or uint16, of the encoding's size.
            pts, duration: in ticks of the encoding's time base.
            alpha: ``[H, W]`` of the same type; None: opaque.
        """
        encoding = self._encoding
        frame = self._converter.from_rgb(rgb, encoding.colour, encoding.pixel_format, alpha)
        frame.pts, frame.time_base, frame.duration = pts, encoding.time_base, duration
        return frame


def encoder(name: str) -> str:
    """FFmpeg's encoder of that name, or of a codec in :data:`CODECS`.

    Raises:
        MediaError: this FFmpeg has none.
    """
    found = CODECS.get(name, name)
    try:
        if av.Codec(found, "w").type == "video":
            return found
    except (av.error.FFmpegError, ValueError):
        pass
    raise MediaError(
        f"codec is {name!r}; allowed: {', '.join(CODECS)}, or the name of a video encoder of this FFmpeg"
    )


def choose(
    container: str, source: VideoReader | None, size: tuple[int, int], rate: Fraction, options: EncodeOptions
) -> tuple[Encoding, tuple[str, ...]]:
    """How to encode what comes of a source, so that it keeps its depth, chroma, range and transfer.

    Args:
        container: a value of :data:`CONTAINERS`.
        source: where the frames come from; None: 8 bits, from anywhere.
        size: height and width of the results.
        rate: frames per second.
        options: what the user asks for.

    Returns:
        The encoding, and what of the source it does not keep, in words.

    Raises:
        MediaError: the encoder cannot store that pixel format, or HDR would become 8 bits.
    """
    wanted = wanted_format(source, size)
    codec = encoder(options.codec) if options.codec else _default_codec(container, wanted)
    _check_container(container, codec)
    stored = options.pixel_format or _nearest(codec, wanted)
    formats = _formats_of(codec)
    if formats and stored not in formats:
        raise MediaError(f"pixel format is {stored!r}; encoder {codec} takes {', '.join(sorted(formats))}")
    colour = source.colour if source else default_colour(*size)
    bits = _bits(stored)
    if colour.hdr and bits < 10:
        curve = "PQ" if colour.transfer == 16 else "HLG"
        raise MediaError(
            f"{source.path if source else 'the source'}: it is high dynamic range ({curve}), which needs 10 bits "
            f"per channel; {codec} stores {stored} with {bits}: give --codec hevc, or another container"
        )
    if _format(stored).is_rgb:
        colour = replace(colour, full_range=True)
    interlaced = source.interlaced if source else None
    encoding = Encoding(
        codec=codec,
        pixel_format=stored,
        size=size,
        rate=rate,
        time_base=source.time_base if source else 1 / rate,
        aspect=source.pixel_aspect if source else Fraction(1),
        colour=colour,
        options=_options(codec, source, options, interlaced),
        interlaced=interlaced,
    )
    _check_interlaced(encoding, source)
    return encoding, _losses(encoding, wanted, source)


def _check_container(container: str, codec: str) -> None:
    """Raises: MediaError: the container holds no such stream; known before hours of work."""
    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            trial.add_stream(codec, rate=25)
    except ValueError:
        suffix = next(name for name, kind in CONTAINERS.items() if kind == container)
        raise MediaError(f"codec is {codec}; {suffix} holds none: give another codec or container") from None


def _check_interlaced(encoding: Encoding, source: VideoReader | None) -> None:
    if encoding.interlaced is None or source is None:
        return
    if encoding.size[0] != source.size[0]:
        raise MediaError(
            f"{source.path}: it is interlaced, and its fields do not stay fields when its height changes; "
            "use --deinterlace auto"
        )
    if encoding.codec not in ("libx264", "libx265", "prores_ks", "mpeg2video"):
        raise MediaError(f"{source.path}: encoder {encoding.codec} stores no fields; use --deinterlace auto")


# Pixel formats


def _format(name: str) -> av.VideoFormat:
    try:
        return av.VideoFormat(name)
    except ValueError:
        raise MediaError(
            f"pixel format is {name!r}; expected a name of FFmpeg's, such as yuv420p10le"
        ) from None


def _bits(name: str) -> int:
    return max((part.bits for part in _format(name).components), default=8)


def has_alpha(name: str) -> bool:
    """Whether a pixel format of that name stores how opaque a pixel is."""
    return any(part.is_alpha for part in _format(name).components)


def wanted_format(source: VideoReader | None, size: tuple[int, int]) -> str:
    """The planar YUV (or grey) form that holds all that the source has."""
    odd = bool(size[0] % 2 or size[1] % 2)
    if source is None:
        return "yuv444p" if odd else "yuv420p"
    stored = _format(source.pixel_format_stored)
    bits = _bits(stored.name)
    depth = next((step for step in (8, 10, 12, 16) if bits <= step), 16)
    if stored.is_rgb or stored.has_palette or odd:
        chroma = "444"
    elif len(stored.components) < 3:
        chroma = "420"
    else:
        across, down = stored.chroma_width(64), stored.chroma_height(64)
        chroma = {(64, 64): "444", (32, 64): "422", (32, 32): "420"}.get((across, down), "420")
    alpha = "a" if source.has_alpha else ""
    return f"yuv{alpha}{chroma}p" + (f"{depth}le" if depth > 8 else "")


def _default_codec(container: str, wanted: str) -> str:
    bits = _bits(wanted)
    if has_alpha(wanted) and container == "matroska":
        return "ffv1"
    if has_alpha(wanted) and container == "mov":
        return "prores_ks"
    if container == "webm":
        return "libsvtav1" if bits > 8 else "libvpx-vp9"
    if bits > 12 and container == "matroska":
        return "ffv1"
    return "libx265" if bits > 8 else "libx264"


def _formats_of(codec: str) -> set[str]:
    return {found.name for found in av.Codec(codec, "w").video_formats or ()}


def _nearest(codec: str, wanted: str) -> str:
    """The format of an encoder that keeps most of another: first chroma, then depth, then alpha."""
    formats = {name for name in _formats_of(codec) if name.startswith(("yuv", "nv12", "p01", "gray"))}
    if not formats or wanted in formats:
        return wanted
    target = _format(wanted)

    def distance(name: str) -> tuple[float, ...]:
        found = _format(name)
        chroma = found.chroma_width(64) * found.chroma_height(64)
        lost = max(0, target.chroma_width(64) * target.chroma_height(64) - chroma)
        bits = _bits(name)
        return (
            len(found.components) < 3,
            lost,
            max(0, _bits(wanted) - bits),
            has_alpha(wanted) and not has_alpha(name),
            has_alpha(name) and not has_alpha(wanted),
            name.startswith("yuvj"),
            chroma,
            bits,
        )

    return min(sorted(formats), key=distance)


def _losses(encoding: Encoding, wanted: str, source: VideoReader | None) -> tuple[str, ...]:
    if source is None:
        return ()
    notes = []
    before, after = _bits(source.pixel_format_stored), _bits(encoding.pixel_format)
    if after < before:
        notes.append(
            f"{before} bits per channel reduced to {after}, the most that {encoding.codec} stores here"
        )
    stored = _format(encoding.pixel_format)
    asked = _format(wanted)
    if len(stored.components) >= 3 and (
        stored.chroma_width(64) * stored.chroma_height(64) < asked.chroma_width(64) * asked.chroma_height(64)
    ):
        notes.append(f"colour is stored at a lower resolution ({encoding.pixel_format})")
    if source.has_alpha and not has_alpha(encoding.pixel_format):
        notes.append(f"transparency is left out: {encoding.pixel_format} has none; .mkv and .mov keep it")
    if source.mastering is not None and encoding.codec not in ("libx265", "libsvtav1"):
        notes.append(f"mastering display and light levels are left out: {encoding.codec} stores none")
    return tuple(notes)


# Options of encoders


def _options(
    codec: str, source: VideoReader | None, asked: EncodeOptions, interlaced: str | None
) -> dict[str, str]:
    options = _quality(codec, asked.crf)
    if asked.preset is not None:
        options["preset"] = asked.preset
    mastering = source.mastering if source else None
    if codec == "libx264":
        extra = [f"{interlaced}=1"] if interlaced else []
        if "avx512f" in cpu_flags()[1]:
            # With it x264 gives another film each time (seen with mbtree); one that goes on after a kill has to be
            # the same. It costs no time: 40 noisy frames of 1080p took 7.5 and 9.0 s with AVX2, 10.6 and 10.8 s with
            # AVX-512, in turns on a Xeon that others used too.
            extra.append("asm=avx2")
        if extra:
            options["x264-params"] = ":".join(extra)
    if codec == "libx265":
        extra = ["log-level=error"]
        if interlaced:
            extra.append(f"interlace={interlaced}")
        if mastering is not None:
            extra += mastering.x265()
        options["x265-params"] = ":".join(extra)
    if codec == "libsvtav1" and mastering is not None:
        options["svtav1-params"] = ":".join(mastering.svtav1())
    if codec == "libvpx-vp9":
        options |= {"row-mt": "1", "cpu-used": "4", "deadline": "good"}
    if codec == "ffv1":
        options |= {"level": "3", "slicecrc": "1"}
    if codec == "prores_ks" and source is not None and source.has_alpha:
        options["profile"] = "4444"
    return options


def _quality(codec: str, crf: int | None) -> dict[str, str]:
    for name, options in _QUALITY.items():
        if codec.endswith(f"_{name}"):
            return {key: value.format(DEFAULT_CRF if crf is None else crf) for key, value in options.items()}
    if codec.startswith(_LOSSLESS):
        if crf is not None:
            raise MediaError(f"crf is {crf}; encoder {codec} has no such quality: leave it out")
        return {}
    default = 24 if codec == "libsvtav1" else DEFAULT_CRF
    options = {"crf": str(default if crf is None else crf)}
    if codec.startswith("libvpx"):
        options["b:v"] = "0"
    return options
