from __future__ import annotations

import resource
import subprocess
import sys
import textwrap
import warnings
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import make_video, picture, real

from elir_trt.errors import ElirWarning, MediaError
from elir_trt.io.colour import BT601, BT709, BT2020, Colour, Converter
from elir_trt.io.times import Continuity, Timeline
from elir_trt.io.video import VideoFrame, VideoReader, VideoWriter


def read(path: Path, **options: object) -> list[VideoFrame]:
    with VideoReader(path, **options) as reader:  # type: ignore[arg-type]
        return list(reader)


def copy(source: Path, target: Path, *, keep: bool = True) -> None:
    with (
        VideoReader(source, copy=keep) as reader,
        VideoWriter(target, size=reader.size, template=reader, preset="ultrafast") as writer,
    ):
        for frame in reader:
            writer.write(frame.pixels, frame.pts, frame.duration)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b) ** 2))))


# Times


def test_permuted_times_are_sorted() -> None:
    timeline: Timeline[int] = Timeline(lookahead=4, step=1)
    given = [1, 4, 3, 5, 2, 8, 7, 9, 6]
    found = [pair for n, time in enumerate(given) for pair in timeline.push(n, time)] + list(timeline.drain())
    assert found == [(n, n + 1) for n in range(9)]


def test_missing_and_repeated_times_are_filled_in() -> None:
    timeline: Timeline[int] = Timeline(lookahead=0, step=10)
    found = [time for n, given in enumerate([0, None, 20, 20, 15, 40]) for _, time in timeline.push(n, given)]
    assert found == [0, 10, 20, 21, 22, 40]
    assert timeline.repaired == 3


def test_restarted_times_go_on() -> None:
    continuity = Continuity(3)
    assert [t + continuity.offset(t) for t in (0, 3, 6, 0, 3, 100, 50)] == [0, 3, 6, 9, 12, 109, 112]
    assert continuity.restarts == 2


# Colours


@pytest.mark.parametrize(("matrix", "luma"), [(BT709, 63), (BT601, 81), (BT2020, 74)])
def test_red_is_coded_as_the_standards_say(matrix: int, luma: int) -> None:
    if matrix == BT2020 and int(av.__version__.split(".")[0]) < 18:
        pytest.skip("PyAV before 18 does not convert BT.2020")
    red = np.zeros((16, 16, 3), np.uint8)
    red[:, :, 0] = 255
    frame = Converter().from_rgb(red, Colour(matrix), "yuv444p")
    assert frame.to_ndarray()[0, 0, 0] == luma
    back = Converter().to_rgb(frame, Colour(matrix), (16, 16))
    assert np.abs(back.astype(int) - red).max() <= 2


def test_full_range_is_kept_apart() -> None:
    white = np.full((16, 16, 3), 255, np.uint8)
    frame = Converter().from_rgb(white, Colour(BT709), "yuv420p")
    assert frame.to_ndarray()[0, 0] == 235
    assert Converter().to_rgb(frame, Colour(BT709, full_range=True), (16, 16))[0, 0, 0] == 235


# Reading


def test_frames_come_in_order_with_their_times(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=12)
    with VideoReader(path) as reader:
        assert (reader.size, reader.rate, reader.frames, reader.rotation) == ((48, 64), 25, 12, 0)
        frames = list(reader)
    assert [round(frame.timestamp_s * 25, 6) for frame in frames] == list(range(12))
    assert psnr(frames[3].pixels, np.roll(picture(), 6, axis=1)) > 30


def test_permuted_times_of_avi(tmp_path: Path) -> None:
    frames = read(make_video(tmp_path / "a.avi", frames=30))
    assert len(frames) == 30
    assert {b.pts - a.pts for a, b in pairwise(frames)} == {1}


@pytest.mark.parametrize(("degrees", "size"), [(90, (64, 48)), (180, (48, 64)), (270, (64, 48))])
def test_rotation_is_applied(tmp_path: Path, degrees: int, size: tuple[int, int]) -> None:
    plain, turned = make_video(tmp_path / "a.mp4", frames=1), tmp_path / "turned.mp4"
    with av.open(str(plain)) as source, av.open(str(turned), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        if not hasattr(stream, "set_display_rotation"):
            pytest.skip("this PyAV cannot write a rotation")
        stream.set_display_rotation(-degrees)
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    with VideoReader(turned) as reader:
        assert reader.size == size
        assert reader.rotation == degrees
        np.testing.assert_array_equal(
            next(iter(reader)).pixels, np.rot90(read(plain)[0].pixels, -degrees // 90)
        )


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_cut_off_file_is_an_error_or_a_warning(tmp_path: Path, suffix: str) -> None:
    options = {"movflags": "+faststart"} if suffix == ".mp4" else {}
    path = make_video(tmp_path / f"a{suffix}", frames=60, size=(192, 256), options=options)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 7 // 10])
    with pytest.raises(MediaError, match=rf"a{suffix}.*cut off.*{len(data)} bytes"):
        VideoReader(path)
    with pytest.warns(ElirWarning, match="damaged"):
        frames = read(path, damaged="warn")
    assert 5 < len(frames) < 60


def test_a_file_without_its_index_is_an_error(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=60)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(MediaError, match=r"cut off.*index"):
        VideoReader(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"", "empty"), (b"not a film\n", "text file"), (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "PNG image")],
)
def test_what_is_no_video_is_named(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(MediaError, match=rf"a\.mp4.*{words}"):
        VideoReader(tmp_path / "a.mp4")
    with pytest.raises(MediaError, match="folder"):
        VideoReader(tmp_path)
    with pytest.raises(MediaError, match="no such file"):
        VideoReader(tmp_path / "none.mp4")


def test_names_that_look_like_protocols(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=2).rename(tmp_path / "http:b %03d.mp4")
    assert len(read(path)) == 2
    copy(path, tmp_path / "pipe:1.mp4")
    assert len(read(tmp_path / "pipe:1.mp4")) == 2


# Writing


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_times_and_sound_are_kept(tmp_path: Path, suffix: str) -> None:
    pts = [48, 81, 115, 215, 222, 250, 400, 650, 651, 700, 733, 760]
    source = make_video(tmp_path / "a.mkv", pts=pts, audio=True)
    copy(source, tmp_path / f"b{suffix}")
    before, after = read(source), read(tmp_path / f"b{suffix}")
    assert [f.pts for f in before] == pts
    assert [f.pts * f.time_base for f in after] == [f.pts * f.time_base for f in before]
    assert min(psnr(a.pixels, b.pixels) for a, b in zip(before, after, strict=True)) > 30

    def sound(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(p) for p in container.demux(container.streams.audio[0]) if p.size and p.pts >= 0]

    assert sound(tmp_path / f"b{suffix}") == sound(source) != []


def test_a_stream_that_does_not_fit_is_named(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", audio=True)
    with pytest.warns(ElirWarning, match=r"stream 1 \(audio, aac.*cannot be kept in \.webm"):
        copy(source, tmp_path / "b.webm")
    assert len(read(tmp_path / "b.webm")) == 12


def test_odd_sizes_are_kept(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", size=(35, 51), rate=25) as writer:
        for n in range(5):
            writer.write(picture(35, 51, n))
    frames = read(tmp_path / "a.mp4")
    assert [f.pixels.shape for f in frames] == [(35, 51, 3)] * 5
    assert psnr(frames[4].pixels, picture(35, 51, 4)) > 30


def test_pixel_shape_and_colour_tags_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        context = stream.codec_context
        context.sample_aspect_ratio = Fraction(128, 117)
        context.colorspace = context.color_primaries = context.color_trc = BT709
        for n in range(3):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts = n
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    copy(path, tmp_path / "b.mkv")
    with VideoReader(tmp_path / "b.mkv") as reader:
        assert reader.pixel_aspect == Fraction(128, 117)
        assert (reader.colour.matrix, reader.colour.primaries, reader.colour.transfer) == (1, 1, 1)


def test_existing_and_same_files_are_refused(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=3)
    before = path.read_bytes()
    with pytest.raises(MediaError, match=r"exists already.*--overwrite"):
        VideoWriter(path, size=(48, 64), rate=25)
    (tmp_path / "link.mp4").symlink_to(path)
    for target in (path, tmp_path / "link.mp4"):
        with VideoReader(path) as reader, pytest.raises(MediaError, match="same file"):
            VideoWriter(target, size=(48, 64), template=reader, overwrite=True)
    for name, words in (("a.xyz", r"allowed.*\.mp4"), ("a", "no extension"), ("none/a.mp4", "no folder")):
        with pytest.raises(MediaError, match=words):
            VideoWriter(tmp_path / name, size=(48, 64), rate=25)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_an_error_leaves_nothing_behind_and_ctrl_c_a_playable_file(tmp_path: Path) -> None:
    for error, left in ((RuntimeError, []), (KeyboardInterrupt, ["a.mp4"])):
        with pytest.raises(error), VideoWriter(tmp_path / "a.mp4", size=(48, 64), rate=25) as writer:
            for n in range(10):
                writer.write(picture(seed=n))
            raise error
        assert [p.name for p in tmp_path.iterdir()] == left
    assert len(read(tmp_path / "a.mp4")) == 10


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit on file sizes")
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_full_disk_is_one_error(tmp_path: Path, name: str) -> None:
    script = f"""
        import resource, numpy as np
        from elir_trt.errors import MediaError
        from elir_trt.io.video import VideoWriter
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        rng = np.random.default_rng(0)
        try:
            with VideoWriter({str(tmp_path / name)!r}, size=(96, 128), rate=25, preset="ultrafast") as writer:
                for n in range(60):
                    writer.write(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8))
        except MediaError as error:
            print("refused:", error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, cwd="/"
    )
    assert "refused:" in done.stdout, done
    assert name in done.stdout
    assert list(tmp_path.iterdir()) == []


# Real files

REFUSED = {
    "audio_only.mp4": "no video in it; it holds: audio",
    "corrupt_middle.mp4": "damaged after frame 57 of 120",
    "corrupt_stream_1280x720.mp4": "damaged after frame 28 of 50",
    "text_renamed.mp4": "text file",
    "truncated.mkv": "cut off",
    "truncated_moov_missing.mp4": "index",
    "truncated_tail_faststart.mp4": "cut off",
    "zero_bytes.mp4": "empty",
    "zero_frames.ts": "no frame",
}
KEPT = {
    "truncated.mkv": (150, "frame 150 of about 310"),
    "truncated_tail_faststart.mp4": (68, "frame 68 of 120"),
}
COUNTS = {
    "carphone_176x144_face.mp4": 120,
    "phone_374x666_vfr_audio.mp4": 42,
    "pancake_426x240_audio.mkv": 310,
    "vtest_480x360_static.avi": 795,
    "dog_848x464_audio.mp4": 96,
    "nasa_multistream.mp4": 325,
    "non_monotonic_pts.ts": 171,
    "resolution_change.ts": 24,
    "rotation_90_metadata.mov": 3,
    "odd_size_355x199.mkv": 24,
    "vfr_1ms_timebase.mkv": 24,
    "one_frame.mp4": 1,
    "gray_video.mkv": 12,
    "synthetic_10bit_h264.mp4": 30,
}
SUFFIXES = {".mp4", ".mkv", ".ts", ".mov", ".avi"}


@pytest.mark.parametrize("path", real("bad_inputs") + real("videos"))
def test_real_videos(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        if path.name != "animated.gif":
            with pytest.raises(MediaError):
                read(path)
        return
    if path.name in REFUSED:
        with pytest.raises(MediaError, match=rf"{path.name}.*{REFUSED[path.name]}"):
            read(path)
        if path.name in KEPT:
            count, words = KEPT[path.name]
            with pytest.warns(ElirWarning) as found:
                # Whether the frame that is cut in two counts differs between versions of FFmpeg.
                assert len(read(path, damaged="warn")) in (count - 1, count)
            assert "cut off" in str(found[0].message)
            assert words in str(found[-1].message).replace(f"frame {count - 1} ", f"frame {count} ")
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with VideoReader(path) as reader:
            count, last = 0, -1
            for frame in reader:
                assert frame.pixels.shape == (*reader.size, 3)
                assert frame.pts > last
                count, last = count + 1, frame.pts
    assert count == COUNTS.get(path.name, count)
    assert bool(caught) == (path.name == "resolution_change.ts")


@pytest.mark.parametrize("path", real("videos"))
def test_real_videos_are_copied_with_their_times_and_streams(path: Path, tmp_path: Path) -> None:
    with VideoReader(path, copy=True) as reader:
        target = tmp_path / "a.mp4"
        before = []
        with VideoWriter(target, size=reader.size, template=reader, preset="ultrafast") as writer:
            for frame in reader:
                if len(before) == 60:
                    break
                writer.write(frame.pixels, frame.pts, frame.duration)
                before.append(frame.timestamp_s)
        streams = [(s.type, s.language) for s in reader.container.streams]
        shape = reader.pixel_aspect
    with VideoReader(target) as reader:
        np.testing.assert_allclose([f.timestamp_s for f in reader], before, rtol=0, atol=1e-9)
        assert [s.type for s in reader.container.streams] == [kind for kind, _ in streams]
        assert reader.pixel_aspect == shape
