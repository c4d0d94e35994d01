"""Face restorers and their streams: what comes out, in order, whatever fails."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from face_parts import FixedDetector, PlainRestorer, face_at, smooth_picture

import elir_trt
from elir_trt.errors import BundleError, FrameError
from elir_trt.faces import Detection, FaceRestorer, Gates
from elir_trt.io.images import read_image, write_image
from elir_trt.io.job import restorer_identity
from elir_trt.io.restore import restore_path


def invert(frame: np.ndarray) -> np.ndarray:
    return np.iinfo(frame.dtype).max - frame


def twice(frame: np.ndarray) -> np.ndarray:
    return frame.repeat(2, axis=0).repeat(2, axis=1)


def make(
    change: Any = invert, found: Any = (), *, background: Any = None, order: str = "rgb", **options: Any
) -> FaceRestorer:
    return FaceRestorer(
        PlainRestorer(change, order=order),
        detector=FixedDetector(found),
        background=None if background is None else PlainRestorer(background, order=order),
        **options,
    )


def levels(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def test_a_frame_without_faces_is_the_same_bit_by_bit() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    restored = make()(frame)
    np.testing.assert_array_equal(restored, frame)
    assert restored is not frame


def test_faces_that_fail_at_the_gates_are_left_bit_by_bit() -> None:
    frame = smooth_picture()
    restorer = make(found=[face_at(100, 100, score=0.1)])
    np.testing.assert_array_equal(restorer(frame), frame)
    assert restorer.faces.frames == 0
    (face,) = restorer.find(frame)
    assert face.reason.startswith("its score")


def test_several_faces_and_an_identity() -> None:
    frame = smooth_picture()
    faces = [face_at(70.3, 60.1, 50, 10), face_at(200.9, 90.2, 70, -30), face_at(120.0, 180.5, 90, 170)]
    assert levels(make(lambda face: face, faces)(frame), frame) <= 1


def test_a_restored_face_is_pasted_where_it_was() -> None:
    frame = np.full((240, 320, 3), 60, np.uint8)
    restored = make(found=[face_at(200, 100, 60)])(frame)
    assert restored[100, 200].tolist() == [195] * 3
    np.testing.assert_array_equal(restored[:, :100], frame[:, :100])


def test_the_rest_is_restored_by_the_background() -> None:
    frame = smooth_picture()
    restorer = make(lambda face: face, [face_at(200.2, 100.7, 60)], background=invert)
    restored = restorer(frame)
    np.testing.assert_array_equal(restored[:, :100], 255 - frame[:, :100])
    assert levels(restored[90:110, 190:210], frame[90:110, 190:210]) <= 1
    without = make(found=(), background=invert)
    np.testing.assert_array_equal(without(frame), 255 - frame)


def test_a_background_that_scales_has_its_faces_where_they_belong() -> None:
    frame = smooth_picture()
    import cv2

    def larger(frame: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.resize(frame, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC))

    faces = [face_at(200.2, 100.7, 60, 15)]
    restored = make(lambda face: face, faces, background=larger)(frame)
    assert restored.shape == (480, 640, 3)
    assert levels(restored, larger(frame)) <= 2


def test_more_faces_than_the_restorer_takes_at_a_time() -> None:
    frame = smooth_picture(480, 640)
    faces = [face_at(60.3 + 100 * column, 60.1 + 90 * row, 45) for row in range(4) for column in range(5)]

    def late(face: np.ndarray) -> np.ndarray:
        """The first is done when others were handed in meanwhile: nobody waits for it."""
        end = time.monotonic() + 20
        while restorer.faces.submitted < 4:
            assert time.monotonic() < end
            time.sleep(0.001)
        return face

    restorer = make(late, faces)
    assert levels(restorer(frame), frame) <= 1
    assert restorer.faces.frames == 20


def test_results_come_in_order_with_their_faces() -> None:
    frames = [smooth_picture(seed=n) for n in range(9)]

    def found(number: int, image: np.ndarray) -> list[Detection]:
        return [face_at(80 + 60 * k, 100, 50) for k in range(number % 4)]

    restorer = make(lambda face: face, found)
    with restorer.stream(depth=3, steps=1) as stream:
        results = list(stream.map((frame, None) for frame in frames))
    assert [result.index for result in results] == list(range(9))
    assert [len(result.faces) for result in results] == [n % 4 for n in range(9)]
    assert all(levels(result.frame, frame) <= 1 for result, frame in zip(results, frames, strict=True))
    assert set(results[0].stages) == {"detect", "align", "wait", "paste", "total"}
    assert results[0].steps == 1
    assert restorer.faces.options["steps"] == 1


def test_a_film_is_followed_and_single_pictures_are_not() -> None:
    frame = smooth_picture()
    restorer = make(lambda face: face, lambda number, image: [face_at(100 + number, 100)])
    with restorer.stream() as stream:
        film = list(stream.map((frame, n / 25) for n in range(4)))
    assert [result.faces[0].track for result in film] == [0] * 4
    with restorer.stream() as stream:
        pictures = list(stream.map([frame] * 4))
    assert [result.faces[0].track for result in pictures] == [None] * 4


@pytest.mark.parametrize("format", ["rgb24", "bgr24", "rgb48le"])
def test_formats(format: str) -> None:
    picture = smooth_picture()
    picture[:, :, 2] = 9  # blue
    frame = {
        "rgb24": picture,
        "bgr24": picture[:, :, ::-1],
        "rgb48le": picture.astype(np.uint16) * 257,
    }[format]
    restorer = make(lambda face: face, [face_at(100.4, 100.2)])
    with restorer.stream(format=format, output_format=format) as stream:
        (result,) = stream.map([frame])
    assert result.frame.dtype == frame.dtype
    assert levels(result.frame, frame) <= (257 if format == "rgb48le" else 1)
    (seen,) = restorer.detector.images
    np.testing.assert_array_equal(seen, picture)
    assert seen.flags.c_contiguous


def test_the_restorers_order_is_the_frames() -> None:
    picture = smooth_picture()
    restorer = make(order="bgr")
    restorer(picture)
    np.testing.assert_array_equal(restorer.detector.images[0], picture[:, :, ::-1])
    assert restorer.faces.options["format"] == "bgr24"


def test_other_orders_of_channels_come_out() -> None:
    frame = smooth_picture()
    with make().stream(format="rgb24", output_format="bgr24") as stream:
        (result,) = stream.map([frame])
    np.testing.assert_array_equal(result.frame, frame[:, :, ::-1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"format": "nv12"}, "format is 'nv12'; with faces allowed: rgb24, bgr24, rgb48le"),
        ({"format": "rgb48le"}, "with faces both have 8 or both 16 bits"),
        ({"temporal": "auto"}, "these faces have no background restorer"),
        ({"depth": 0}, "depth is 0; expected 1 to"),
        ({"depth": "two"}, "depth is 'two'; expected a whole number"),
        ({"drop": "all"}, "drop is 'all'; allowed: block, oldest, newest"),
        ({"size": (0, 5)}, "size is"),
        ({"deadline_ms": 40.0}, "deadline_ms is 40.0; it is of the background"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], words: str) -> None:
    restorer = make()
    kind = FrameError if "with faces" in words else ValueError
    with pytest.raises(kind, match=words.replace("(", r"\(")):
        restorer.stream(**options)
    assert all(stream.closed.is_set() for stream in restorer.faces.streams)


def test_temporal_and_deadline_are_the_backgrounds() -> None:
    restorer = make(background=invert)
    restorer.background.late = "1.0 ms were left"
    with restorer.stream(temporal="auto", deadline_ms=40.0) as stream:
        (result,) = stream.map([smooth_picture()])
    assert restorer.background.options["temporal"] == "auto"
    assert restorer.background.options["deadline_ms"] == 40.0
    assert not {"temporal", "deadline_ms"} & set(restorer.faces.options)
    assert (result.restored, result.reason, result.rung) == (False, "1.0 ms were left", "unrestored")


def test_a_bundle_that_scales_faces_is_refused() -> None:
    plain = PlainRestorer()
    plain.scaled = (2048, 2048)
    with pytest.raises(BundleError, match="makes 2048x2048 of an aligned face of 512x512"):
        FaceRestorer(plain, detector=FixedDetector())


def test_a_background_of_another_order_is_refused() -> None:
    with pytest.raises(ValueError, match="open both with one order"):
        FaceRestorer(PlainRestorer(), detector=FixedDetector(), background=PlainRestorer(order="bgr"))


def test_a_frame_of_another_size_or_kind_fails_alone() -> None:
    with make().stream() as stream:
        assert stream.submit(smooth_picture()) == 0
        with pytest.raises(FrameError, match="this stream takes 320x240"):
            stream.submit(smooth_picture(48, 48))
        with pytest.raises(FrameError, match="expected uint8"):
            stream.submit(np.zeros((240, 320, 3)))
        assert stream.submit(smooth_picture()) == 1
    assert [stream.result().index for _ in range(2)] == [0, 1]
    with pytest.raises(EOFError, match="all results were collected"):
        stream.result()
    with pytest.raises(ValueError, match="the stream is closed"):
        stream.submit(smooth_picture())


def test_a_detector_that_fails_fails_its_frame_alone() -> None:
    def found(number: int, image: np.ndarray) -> list[Detection]:
        if number == 1:
            raise RuntimeError("no memory")
        return [face_at(100, 100)]

    restorer = make(lambda face: face, found, background=lambda frame: frame)
    frame = smooth_picture()
    with restorer.stream(depth=4) as stream:
        for _ in range(3):
            stream.submit(frame)
        assert levels(stream.result().frame, frame) <= 1
        with pytest.raises(FrameError, match="frame 1: detect: RuntimeError: no memory") as caught:
            stream.result()
        assert (caught.value.index, caught.value.part) == (1, "detect")
        assert levels(stream.result().frame, frame) <= 1


def test_a_face_that_fails_fails_its_frame_and_no_other() -> None:
    """All that the restorers made of the frame is collected, so that the next frames get their own faces."""
    restorer = make(
        lambda face: face, lambda number, image: [face_at(80 + 60 * k, 100, 50) for k in range(3)]
    )
    restorer.faces.fail_at = 1
    frames = [smooth_picture(seed=n) for n in range(3)]
    with restorer.stream(depth=3) as stream:
        for frame in frames:
            stream.submit(frame)
        with pytest.raises(FrameError, match="frame 0: decoder: a face"):
            stream.result()
        for frame in frames[1:]:
            assert levels(stream.result().frame, frame) <= 1


def test_a_background_that_fails_fails_its_frame_alone() -> None:
    restorer = make(lambda face: face, [face_at(100, 100)], background=lambda frame: frame)
    restorer.background.fail_at = 0
    frame = smooth_picture()
    with restorer.stream() as stream:
        stream.submit(frame)
        stream.submit(frame)
        with pytest.raises(FrameError, match="the background"):
            stream.result()
        assert levels(stream.result().frame, frame) <= 1


def test_streams_are_closed_with_theirs() -> None:
    restorer = make(found=[face_at(100, 100)], background=invert)
    with restorer.stream() as stream:
        list(stream.map([smooth_picture()]))
    for thread in stream._threads:
        thread.join(timeout=10)
        assert not thread.is_alive()
    assert all(s.closed.is_set() for s in (*restorer.faces.streams, *restorer.background.streams))


def test_results_in_time() -> None:
    with (
        make().stream() as stream,
        pytest.raises(TimeoutError, match=r"no frame was finished within 0\.01 s"),
    ):
        stream.result(timeout=0.01)


def test_what_decides_a_film() -> None:
    one, other = make(), make(gates=Gates(min_score=0.5))
    third = make(background=invert)
    assert restorer_identity(one) == restorer_identity(make())
    assert restorer_identity(one) != restorer_identity(other) != restorer_identity(third)


def test_files(tmp_path: Path) -> None:
    """A folder of pictures of one size: each stands alone. A film: its faces are followed, and it begins again."""
    (tmp_path / "in").mkdir()
    for n in range(3):
        write_image(tmp_path / "in" / f"{n}.png", smooth_picture(seed=n))
    restorer = make(found=[face_at(100, 100)])
    assert restore_path(restorer, tmp_path / "in", tmp_path / "out").frames == 3
    for n in range(3):
        before, after = smooth_picture(seed=n), read_image(tmp_path / "out" / f"{n}.png").rgb
        assert levels(after[100, 100], 255 - before[100, 100]) <= 2
        np.testing.assert_array_equal(after[:, 200:], before[:, 200:])
    assert restorer.stateful


def test_the_camera_restorer_stands_in_for_one_of_faces() -> None:
    frame = smooth_picture()
    with elir_trt.open("camera", tune="off") as camera:
        restorer = camera.faces(detector=FixedDetector([face_at(150, 110, 80, 20)]), background=camera)
        restored = restorer(frame)
        alone = camera(frame)
        restorer.close()
    assert 0 < levels(restored, alone) < 60
    np.testing.assert_array_equal(restored[:, 260:], alone[:, 260:])
