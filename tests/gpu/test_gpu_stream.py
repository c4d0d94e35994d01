"""The whole way of a frame on a real GPU: engines of torch and TensorRT recorded with the kernels."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from bundles import small_recipe
from test_stream import frame_of, psnr, torch_restored

import elir_trt
from elir_trt.backends import tensorrt_api
from elir_trt.building import build
from elir_trt.bundle import Bundle
from elir_trt.errors import BackendError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("real_gpu")


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
                for _ in range(4):  # eager, recorded twice, replayed
                    frame = frame_of(*size)
                    stream.submit(frame)
                    found = stream.result().frame
                    expected = torch_restored(small_checkpoint, frame, steps)
                    assert psnr(found, expected) >= LEAST[restorer.engines.precision]
                assert stream.execution_mode == "graph"


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
            assert stream.execution_mode == "graph"
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
