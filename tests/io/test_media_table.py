"""What a video keeps: one file for each property, restored, and what became of it; docs/media.md has the table."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media_files import ROOT, FakeRestorer, make_video, picture

from elir_trt.errors import ElirWarning, MediaError
from elir_trt.io.encoding import EncodeOptions
from elir_trt.io.reader import VideoReader
from elir_trt.io.restore import restore_path
from elir_trt.io.video_job import VideoOptions

HDR10 = (
    "log-level=none:hdr10=1:repeat-headers=1:"
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400"
)


def encoded(
    path: Path,
    codec: str,
    pixel_format: str,
    *,
    options: dict[str, str] | None = None,
    transfer: int = 2,
    full_range: bool = False,
    interlaced: bool = False,
    prepare: Callable[[Any], None] = lambda container: None,
    sound: str | None = None,
) -> Path:
    """Eight small frames in a codec and pixel format."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width, stream.pix_fmt = 48, 64, pixel_format
        context = stream.codec_context
        context.time_base = Fraction(1, 25)
        context.color_range = 2 if full_range else 1
        if transfer != 2:
            context.color_trc, context.color_primaries, context.colorspace = transfer, 9, 9
        if interlaced:
            context.flags |= 1 << 18
        prepare(container)
        audio = container.add_stream(sound, rate=48000, layout="stereo") if sound else None
        if audio is not None and sound == "wmav2":
            audio.codec_context.bit_rate = 128000
        for n in range(8):
            frame = av.VideoFrame.from_ndarray(np.roll(picture(48, 64), 2 * n, axis=1), format="rgb24")
            frame = frame.reformat(format=pixel_format, dst_color_range=2 if full_range else 1)
            frame.pts, frame.time_base = n, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None:
            kind = audio.codec_context.format.name
            size = audio.codec_context.frame_size or 1024
            shape = (2, size) if kind.endswith("p") else (1, 2 * size)
            type_ = np.float32 if kind.startswith("flt") else np.int16
            for n in range(12):
                block = av.AudioFrame.from_ndarray(np.zeros(shape, type_), format=kind, layout="stereo")
                block.sample_rate, block.pts = 48000, n * size
                container.mux(audio.encode(block))
            container.mux(audio.encode(None))
    return path


def chapters(container: Any) -> None:
    names = ("One", "Two")
    container.set_chapters(
        [
            {
                "id": n + 1,
                "start": 160 * n,
                "end": 160 * n + 160,
                "time_base": Fraction(1, 1000),
                "metadata": {"title": name},
            }
            for n, name in enumerate(names)
        ]
    )


def font(container: Any) -> None:
    container.add_attachment("font.ttf", "application/x-truetype-font", b"FONT" * 20)


def cover(container: Any) -> None:
    container.add_attachment("cover.png", "image/png", PNG)


def timecode(container: Any) -> None:
    container.streams.video[0].metadata["timecode"] = "01:00:00:00"


def _png() -> bytes:
    import cv2

    return bytes(cv2.imencode(".png", picture(8, 8))[1])


PNG = _png()


def described(path: Path) -> dict[str, str]:
    """The properties of a film, in words."""
    with av.open(str(path)) as container:
        video = next(s for s in container.streams.video if not int(s.disposition) & 0x400)
        context = video.codec_context
        found = {
            "pixels": str(context.pix_fmt).removesuffix("le"),
            "range": "full" if context.color_range == 2 else "limited",
            "transfer": {16: "PQ", 18: "HLG"}.get(context.color_trc, "SDR"),
            "chapters": ", ".join(c["metadata"].get("title", "?") for c in container.chapters()) or "none",
            "fonts": ", ".join(
                s.metadata.get("filename", "?") for s in container.streams if s.type == "attachment"
            )
            or "none",
            "cover": "yes" if any(int(s.disposition) & 0x400 for s in container.streams.video) else "none",
            "time code": video.metadata.get("timecode")
            or next((s.metadata["timecode"] for s in container.streams if "timecode" in s.metadata), "none"),
            "sound": ", ".join(s.codec_context.name for s in container.streams.audio) or "none",
        }
        frame = next(container.decode(video))
        kinds = {item.type.name for item in frame.side_data}
        found["mastering"] = (
            "yes" if {"MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"} <= kinds else "none"
        )
        found["fields"] = "interlaced" if frame.interlaced_frame else "whole pictures"
    found["alpha"] = "yes" if "yuva" in found["pixels"] or found["pixels"] == "bgra" else "none"
    return found


@dataclass(frozen=True)
class Row:
    """A line of the table: a file, what is looked at, where it goes, and what becomes of it."""

    what: str
    prop: str
    source: Callable[[Path], Path]
    suffix: str
    after: str
    said: str = ""
    options: VideoOptions = VideoOptions()  # noqa: RUF009  (frozen)
    refused: bool = False


def of(name: str, codec: str, pixel_format: str, **more: Any) -> Callable[[Path], Path]:
    return lambda folder: encoded(folder / name, codec, pixel_format, **more)


X265 = {"x265-params": "log-level=none"}
ROWS = [
    Row("8 bits, 4:2:0", "pixels", of("a.mp4", "libx264", "yuv420p"), ".mp4", "yuv420p"),
    Row("8 bits, 4:2:2", "pixels", of("a.mp4", "libx264", "yuv422p"), ".mp4", "yuv422p"),
    Row("8 bits, 4:4:4", "pixels", of("a.mp4", "libx264", "yuv444p"), ".mkv", "yuv444p"),
    Row("10 bits, 4:2:0", "pixels", of("a.mp4", "libx264", "yuv420p10le"), ".mp4", "yuv420p10"),
    Row("10 bits, 4:2:2", "pixels", of("a.mov", "prores_ks", "yuv422p10le"), ".mov", "yuv422p10"),
    Row("12 bits, 4:4:4", "pixels", of("a.mkv", "libx265", "yuv444p12le", options=X265), ".mp4", "yuv444p12"),
    Row("16 bits, 4:4:4", "pixels", of("a.mkv", "ffv1", "yuv444p16le"), ".mkv", "yuv444p16"),
    Row(
        "16 bits, 4:4:4",
        "pixels",
        of("a.mkv", "ffv1", "yuv444p16le"),
        ".mp4",
        "yuv444p12",
        said="reduced to 12",
    ),
    Row(
        "10 bits, ProRes asked for",
        "pixels",
        of("a.mkv", "ffv1", "yuv422p10le"),
        ".mov",
        "yuv422p10",
        options=VideoOptions(encode=EncodeOptions(codec="prores")),
    ),
    Row("full range", "range", of("a.mp4", "libx264", "yuv420p", full_range=True), ".mp4", "full"),
    Row("limited range", "range", of("a.mp4", "libx264", "yuv420p"), ".mkv", "limited"),
    Row(
        "HDR10 (PQ)",
        "transfer",
        of("a.mp4", "libx265", "yuv420p10le", transfer=16, options={"x265-params": HDR10}),
        ".mp4",
        "PQ",
    ),
    Row(
        "mastering display, MaxCLL",
        "mastering",
        of("a.mp4", "libx265", "yuv420p10le", transfer=16, options={"x265-params": HDR10}),
        ".mkv",
        "yes",
    ),
    Row(
        "HDR (HLG)",
        "transfer",
        of("a.mkv", "libx265", "yuv420p10le", transfer=18, options=X265),
        ".mp4",
        "HLG",
    ),
    Row(
        "HDR (PQ), 8 bits asked for",
        "transfer",
        of("a.mkv", "libx265", "yuv420p10le", transfer=16, options=X265),
        ".mp4",
        "",
        said="needs 10 bits",
        options=VideoOptions(encode=EncodeOptions(codec="h264", pixel_format="yuv420p")),
        refused=True,
    ),
    Row("alpha", "alpha", of("a.mkv", "ffv1", "yuva444p"), ".mkv", "yes"),
    Row("alpha", "alpha", of("a.mkv", "ffv1", "yuva444p"), ".mov", "yes"),
    Row("alpha", "alpha", of("a.mkv", "ffv1", "yuva444p"), ".mp4", "none", said="transparency is left out"),
    Row(
        "interlaced",
        "fields",
        of("a.mp4", "libx264", "yuv420p", interlaced=True, options={"x264-params": "tff=1"}),
        ".mp4",
        "whole pictures",
        said="deinterlaced",
    ),
    Row(
        "interlaced, --deinterlace off",
        "fields",
        of("a.mp4", "libx264", "yuv420p", interlaced=True, options={"x264-params": "tff=1"}),
        ".mp4",
        "interlaced",
        said="stay fields",
        options=VideoOptions(deinterlace="off"),
    ),
    Row("chapters", "chapters", of("a.mp4", "libx264", "yuv420p", prepare=chapters), ".mp4", "One, Two"),
    Row("chapters", "chapters", of("a.mkv", "libx264", "yuv420p", prepare=chapters), ".mkv", "One, Two"),
    Row("fonts", "fonts", of("a.mkv", "libx264", "yuv420p", prepare=font), ".mkv", "font.ttf"),
    Row(
        "fonts",
        "fonts",
        of("a.mkv", "libx264", "yuv420p", prepare=font),
        ".mp4",
        "none",
        said="cannot be kept",
    ),
    Row("cover picture", "cover", of("a.mkv", "libx264", "yuv420p", prepare=cover), ".mkv", "yes"),
    Row("time code", "time code", of("a.mov", "libx264", "yuv420p", prepare=timecode), ".mov", "01:00:00:00"),
    Row("time code", "time code", of("a.mov", "libx264", "yuv420p", prepare=timecode), ".mp4", "01:00:00:00"),
    Row("AAC", "sound", of("a.mp4", "libx264", "yuv420p", sound="aac"), ".mkv", "aac"),
    Row("Opus", "sound", of("a.mkv", "libx264", "yuv420p", sound="libopus"), ".mp4", "opus"),
    Row(
        "WMA",
        "sound",
        of("a.asf", "libx264", "yuv420p", sound="wmav2"),
        ".mkv",
        "none",
        said="cannot be kept",
    ),
    Row(
        "AAC", "sound", of("a.mp4", "libx264", "yuv420p", sound="aac"), ".webm", "none", said="cannot be kept"
    ),
]


def restored(row: Row, folder: Path) -> tuple[dict[str, str], dict[str, str], str]:
    source = row.source(folder)
    target = folder / f"out{row.suffix}"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ElirWarning)
        report = restore_path(FakeRestorer(), source, target, video=row.options)
    assert report.frames == 8
    said = "; ".join([*report.notes, *(str(w.message) for w in caught)])
    return described(source), described(target), said


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.what} {row.suffix}")
def test_what_becomes_of_it(row: Row, tmp_path: Path) -> None:
    if row.refused:
        with pytest.raises(MediaError, match=row.said):
            restored(row, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [row.source(tmp_path).name]
        return
    before, after, said = restored(row, tmp_path)
    assert after[row.prop] == row.after
    assert row.said in said
    assert bool(said) == bool(row.said)  # what is kept is not warned of
    if not row.said:
        assert before[row.prop] == row.after


def line(row: Row) -> str:
    fate = "refused" if row.refused else "converted" if row.said and row.after != "none" else "kept"
    if row.said and row.after == "none":
        fate = "left out"
    return f"| {row.what} | {row.suffix} | {fate}{' (said)' if row.said else ''} | {row.after or '-'} |"


def table() -> str:
    head = "| property | output | what becomes of it | there |\n|---|---|---|---|\n"
    return head + "\n".join(line(row) for row in ROWS) + "\n"


def test_the_table_in_the_documentation_is_this_one() -> None:
    """Where it is not, this prints the one to put there."""
    text = (ROOT / "docs" / "media.md").read_text()
    assert table() in text, table()


def test_deep_pixels_pass_through_whole(tmp_path: Path) -> None:
    """A restorer that inverts twice gives back 10-bit values to a level or two of HEVC's loss."""
    source = encoded(tmp_path / "a.mkv", "ffv1", "yuv444p10le")
    options = VideoOptions(encode=EncodeOptions(codec="ffv1"))
    restore_path(FakeRestorer(), source, tmp_path / "b.mkv", video=options)
    restore_path(FakeRestorer(), tmp_path / "b.mkv", tmp_path / "c.mkv", video=options)
    with VideoReader(source) as before, VideoReader(tmp_path / "c.mkv") as after:
        for left, right in zip(before, after, strict=True):
            assert left.pixels.dtype == np.uint16
            assert np.abs(left.pixels.astype(int) - right.pixels).max() <= 3 * 64


def test_opus_run_in_is_kept_in_matroska(tmp_path: Path) -> None:
    source = encoded(tmp_path / "a.mkv", "libx264", "yuv420p", sound="libopus")

    def sound(path: Path) -> list[tuple[int | None, bytes]]:
        with av.open(str(path)) as container:
            return [(p.pts, bytes(p)) for p in container.demux(container.streams.audio[0]) if p.size]

    restore_path(FakeRestorer(), source, tmp_path / "b.mkv")
    assert sound(tmp_path / "b.mkv") == sound(source)
    assert sound(source)[0][0] == -7
    with VideoReader(source) as before, VideoReader(tmp_path / "b.mkv") as after:
        assert [f.pts for f in after] == [f.pts for f in before]


def test_interlaced_motion_is_not_baked_in(tmp_path: Path) -> None:
    """Combing is what alternates from line to line; deinterlaced frames have little of it."""
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"x264-params": "tff=1", "crf": "5"})
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.flags |= 1 << 18
        for n in range(12):
            rgb = np.zeros((64, 64, 3), np.uint8)
            rgb[0::2, 4 * n : 4 * n + 16] = 255
            rgb[1::2, 4 * n + 2 : 4 * n + 18] = 255
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts = n
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    def combing(**options: Any) -> float:
        with VideoReader(tmp_path / "a.mp4", **options) as reader:
            frames = [frame.pixels[:, :, 1].astype(float) for frame in reader]
        assert len(frames) == 12
        return float(np.mean([np.abs(f[1:-1] - (f[:-2] + f[2:]) / 2).mean() for f in frames[2:-2]]))

    assert combing() < 0.35 * combing(deinterlace="off")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"codec": "divx9"}, "codec is 'divx9'; allowed: h264"),
        ({"crf": 99}, "crf is 99; expected 0"),
        ({"pixel_format": "yuv999"}, "pixel format is 'yuv999'"),
        ({"codec": "ffv1", "crf": 3}, "crf is 3; encoder ffv1 has no such quality"),
        ({"codec": "h264", "pixel_format": "yuva444p"}, "encoder libx264 takes"),
        ({"codec": "h264_nvenc"}, "encoder h264_nvenc cannot be opened here"),
        ({"codec": "prores"}, r"codec is prores_ks; \.mp4 holds none"),
    ],
)
def test_options_of_the_encoder_are_checked(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    source = make_video(tmp_path / "a.mp4", frames=3)
    with pytest.raises(MediaError, match=words):
        restore_path(
            FakeRestorer(), source, tmp_path / "b.mp4", video=VideoOptions(encode=EncodeOptions(**options))
        )
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
