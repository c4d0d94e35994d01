"""The whole way of a frame on the GPU: torch's parts recorded with the kernels, and arrays of other libraries."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import small_recipe
from test_cuda_device import BOUNDS, recipe_of, stream_of, through
from test_stream import frame_of, psnr, torch_restored

import elir_trt
from elir_trt.backends import tensorrt_api
from elir_trt.building import build
from elir_trt.bundle import Bundle
from elir_trt.errors import BackendError, FrameError

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module", params=["fp16", "bf16", "fp32"])
def restorer(
    request: pytest.FixtureRequest, small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[elir_trt.Restorer]:
    path = tmp_path_factory.mktemp("gpu") / request.param
    build(small_recipe(), small_checkpoint, output=path, backends=["torch"], precision=request.param)
    with elir_trt.open(path, device="cuda", backend="torch") as opened:
        yield opened


LEAST = {"fp32": 50.0, "fp16": 45.0, "bf16": 35.0}


def test_the_pipeline_is_that_of_torch(restorer: elir_trt.Restorer, small_checkpoint: Path) -> None:
    for size in ((64, 128), (96, 64), (64, 128)):  # A size may change, and come back.
        for steps in (0, 1, 3):
            with restorer.stream(steps=steps, size=size) as stream:
                for _ in range(4):  # called, recorded twice, replayed
                    frame = frame_of(*size)
                    stream.submit(frame)
                    found = stream.result().frame
                    expected = torch_restored(small_checkpoint, frame, steps)
                    assert psnr(found, expected) >= LEAST[restorer.backend.precision]
                assert stream.way == "recorded"


def test_frames_overlap_and_keep_their_order(restorer: elir_trt.Restorer) -> None:
    frames = [frame_of(64, 128) for _ in range(40)]
    with restorer.stream(depth=1, size=(64, 128)) as stream:
        alone = [result.frame for result in stream.map(frames)]
    with restorer.stream(depth=5, size=(64, 128)) as stream:
        for found, right in zip(stream.map(frames), alone, strict=True):
            np.testing.assert_array_equal(found.frame, right)
            assert set(found.stages) == {"launch", "total"}


class CudaArray:
    """What PyCUDA and Numba show of their arrays."""

    def __init__(self, tensor: Any, stream: int | None) -> None:
        self.tensor, self.shape, self.dtype = tensor, tuple(tensor.shape), np.dtype(np.uint8)
        self.__cuda_array_interface__ = {
            "shape": self.shape,
            "typestr": "|u1",
            "data": (tensor.data_ptr(), False),
            "strides": tuple(tensor.stride()),
            "version": 3,
            **({} if stream is None else {"stream": stream}),
        }


def makers() -> dict[str, Callable[[np.ndarray], Any]]:
    found: dict[str, Callable[[np.ndarray], Any]] = {
        "torch": lambda frame: torch.from_numpy(frame).cuda(),
        "interface": lambda frame: CudaArray(torch.from_numpy(frame).cuda(), None),
        "stream": lambda frame: CudaArray(
            torch.from_numpy(frame).cuda(), torch.cuda.current_stream().cuda_stream or 1
        ),
        "pitched": lambda frame: torch.nn.functional.pad(torch.from_numpy(frame).cuda(), (0, 0, 0, 7))[
            :, : frame.shape[1]
        ],
    }
    if importlib.util.find_spec("cupy"):
        found["cupy"] = lambda frame: importlib.import_module("cupy").asarray(frame)
    if importlib.util.find_spec("pycuda"):
        importlib.import_module("pycuda.autoprimaryctx")
        found["pycuda"] = lambda frame: importlib.import_module("pycuda.gpuarray").to_gpu(frame)
    return found


@pytest.mark.parametrize("depth", [1, 3])
def test_arrays_of_other_libraries(restorer: elir_trt.Restorer, depth: int) -> None:
    frames = [frame_of(64, 128) for _ in range(6)]
    with restorer.stream(size=(64, 128)) as stream:
        expected = [result.frame for result in stream.map(frames)]
    for name, make in makers().items():
        with restorer.stream(depth=depth, results="device", size=(64, 128)) as stream:
            found = [result.frame for result in stream.map(make(frame) for frame in frames)]
            for array, right in zip(found, expected, strict=True):
                np.testing.assert_array_equal(torch.from_dlpack(array).cpu().numpy(), right, err_msg=name)
                viewed = torch.as_tensor(array, device="cuda")
                np.testing.assert_array_equal(viewed.cpu().numpy(), right, err_msg=name)


def test_a_producers_stream_is_waited_for(restorer: elir_trt.Restorer) -> None:
    frame = frame_of(64, 128)
    with restorer.stream(results="device", size=(64, 128)) as stream:
        stream.submit(frame)
        expected = torch.from_dlpack(stream.result().frame).clone()
        busy = torch.rand(4096, 4096, device="cuda")
        own = torch.cuda.Stream()
        for _ in range(5):
            with torch.cuda.stream(own):
                late = torch.zeros((64, 128, 3), dtype=torch.uint8, device="cuda")
                for _ in range(20):
                    busy = busy @ busy / 4096
                late += torch.from_numpy(frame).cuda(non_blocking=True)
                stream.submit(late)
            assert torch.equal(torch.from_dlpack(stream.result().frame), expected)


def test_results_may_be_dropped_while_they_are_used(restorer: elir_trt.Restorer) -> None:
    frames = [frame_of(64, 128) for _ in range(30)]
    with restorer.stream(size=(64, 128)) as stream:
        expected = [int(result.frame.astype(np.int64).sum()) for result in stream.map(frames)]
    busy = torch.rand(2048, 2048, device="cuda")
    sums = []
    with restorer.stream(results="device", size=(64, 128)) as stream:
        for result in stream.map(frames):
            busy = busy @ busy / 2048
            sums.append(torch.from_dlpack(result.frame).long().sum())
    assert [int(value) for value in sums] == expected


def test_foreign_memory_is_refused(restorer: elir_trt.Restorer) -> None:
    with restorer.stream(size=(64, 128)) as stream:
        with pytest.raises(FrameError, match="pixels apart"):
            stream.submit(torch.zeros(3, 64, 128, dtype=torch.uint8, device="cuda").permute(1, 2, 0))
        with pytest.raises(FrameError, match="expected uint8"):
            stream.submit(torch.zeros(64, 128, 3, device="cuda"))
        nowhere = CudaArray(torch.zeros(64, 128, 3, dtype=torch.uint8, device="cuda"), None)
        nowhere.__cuda_array_interface__["data"] = (16, False)
        with pytest.raises(FrameError, match="not in memory of CUDA device 0"):
            stream.submit(nowhere)
        stream.submit(frame_of(64, 128))
        assert stream.result().frame.shape == (64, 128, 3)


@pytest.mark.parametrize("format", ["rgba", "bgra", "gray", "nv12"])
@pytest.mark.parametrize("frames", ["copied", "mapped"])
@pytest.mark.parametrize(("mode", "size"), [("pad", (46, 62)), ("fit", (100, 70)), ("tile", (90, 130))])
def test_formats_are_those_of_the_host(format: str, frames: str, mode: str, size: tuple[int, int]) -> None:
    recipe = recipe_of(mode, 1, "bicubic")
    rng = np.random.default_rng(9)
    shape: tuple[int, ...] = {"gray": size, "nv12": (size[0] * 3 // 2, size[1])}.get(format, (*size, 4))
    given = [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(5)]
    options = {"format": format, "output_format": format}
    expected = through(stream_of(size, recipe, "cpu", **options), given)
    for element, bound in BOUNDS.items():
        core = stream_of(size, recipe, "cuda", element=element, frames=frames, **options)
        for found, right in zip(through(core, given), expected, strict=True):
            assert int(np.abs(found.astype(int) - right.astype(int)).max()) <= 2 * bound


def test_tensorrt_engines(small_checkpoint: Path, tmp_path: Path) -> None:
    """Every TensorRT that is here runs its own engines; a damaged one is refused before it is opened."""
    for flavour in tensorrt_api.installed():
        path = tmp_path / flavour
        build(small_recipe(), small_checkpoint, output=path, backends=[flavour])
        try:
            opened = elir_trt.open(path, backend=flavour)
        except BackendError as error:
            warnings.warn(f"this GPU's engines are refused: {error}", stacklevel=1)
            continue
        with opened, opened.stream(size=(64, 128)) as stream:
            for _ in range(4):
                frame = frame_of(64, 128)
                stream.submit(frame)
                assert psnr(stream.result().frame, torch_restored(small_checkpoint, frame, 3)) >= 40
            assert stream.way == "recorded"
        engine = path / flavour / "coarse.engine"
        engine.write_bytes(engine.read_bytes()[:-100] + bytes(100))
        with pytest.raises(elir_trt.BundleError, match="was changed or cut"):
            Bundle(path)


def test_kernels_under_compute_sanitizer(tmp_path: Path) -> None:
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(tool).is_file():
        if os.environ.get("ELIR_TRT_REQUIRE_GPU") == "2":
            pytest.fail("compute-sanitizer is required, and it is not installed")
        pytest.skip("compute-sanitizer is not installed with this CUDA")
    test = Path(__file__).with_name("test_cuda_device.py")
    command = [
        tool,
        "--error-exitcode",
        "9",
        "--tool",
        "memcheck",
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
    ]
    command += [f"{test}::test_the_stages_are_those_of_the_host", "-k", "float16 and fixed and (pad or tile)"]
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-2000:]
    assert "ERROR SUMMARY: 0 errors" in result.stdout + result.stderr
