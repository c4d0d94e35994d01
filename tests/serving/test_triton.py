"""A model repository for Triton: its files, its model under stand-ins of Triton's module, and a real server."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import types
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from typer.testing import CliRunner

import elir_trt
from elir_trt.bundle import Bundle
from elir_trt.cli.app import app
from elir_trt.errors import ElirError
from elir_trt.serving.repository import Options, write_repository
from elir_trt.serving.triton import TritonPythonModel

SIZE = (64, 96)


def frames(count: int, seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def repository(small_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("triton") / "models"
    modules = (elir_trt, np, openvino)
    packages = tuple(dict.fromkeys(str(Path(str(module.__file__)).parents[1]) for module in modules))
    options = Options(batch=4, delay_us=5000, device="cpu", steps=1, packages=packages)
    return write_repository(small_bundle, output, options).parent


def test_a_repository_holds_the_bundle_and_its_configuration(repository: Path, small_bundle: Path) -> None:
    model = repository / "elir_small"
    assert Bundle(model / "1" / "bundle").digest == Bundle(small_bundle).digest
    text = (model / "config.pbtxt").read_text()
    for line in (
        'backend: "python"',
        "max_batch_size: 4",
        "max_queue_delay_microseconds: 5000",
        'string_value: "1"',
    ):
        assert line in text
    assert "TritonPythonModel" in (model / "1" / "model.py").read_text()


def test_what_cannot_be_is_refused(repository: Path, small_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ElirError, match="elir_small: exists; use --force"):
        write_repository(small_bundle, repository)
    for options, message in (
        (Options(batch=0), "batch is 0"),
        (Options(instances=0), "instances is 0"),
        (Options(steps=9), "steps is 9; this bundle allows 0 to 3"),
        (Options(device="tpu"), "device is 'tpu'"),
    ):
        with pytest.raises(ElirError, match=message):
            write_repository(small_bundle, tmp_path / "new", options)
    assert not (tmp_path / "new" / "elir_small").exists()


def test_the_command_writes_it(small_bundle: Path, tmp_path: Path) -> None:
    words = ["export", "triton", str(small_bundle), "-o", str(tmp_path / "models")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "models" / "elir_small" / "config.pbtxt").is_file()
    assert CliRunner().invoke(app, [*words, "--force"]).exit_code == 0


class Request:
    """A request of Triton's Python back end."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def __dlpack__(self, **options: Any) -> Any:
        return self.pixels.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.pixels.__dlpack_device__()


@pytest.fixture
def triton(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Triton's module, which is there only inside of its server."""
    module: Any = types.ModuleType("triton_python_backend_utils")
    module.get_input_tensor_by_name = lambda request, name: request
    module.Tensor = types.SimpleNamespace(from_dlpack=lambda name, pixels: (name, np.from_dlpack(pixels)))
    module.TritonError = str
    module.InferenceResponse = lambda output_tensors=(), error=None: (list(output_tensors), error)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", module)
    return module


@pytest.fixture
def model(repository: Path) -> Iterator[TritonPythonModel]:
    made = TritonPythonModel()
    parameters = {"device": {"string_value": "cpu"}, "steps": {"string_value": "1"}}
    made.initialize(
        {
            "model_config": json.dumps({"parameters": parameters}),
            "model_repository": str(repository / "elir_small"),
            "model_version": "1",
        }
    )
    yield made
    made.finalize()


def test_requests_that_were_gathered_are_answered_each(
    model: TritonPythonModel, triton: types.ModuleType, small_bundle: Path
) -> None:
    first, second = frames(2), frames(1, seed=1)
    answers = model.execute([Request(first), Request(second)])
    with elir_trt.open(small_bundle, device="cpu") as restorer:
        for pixels, (outputs, error) in zip((first, second), answers, strict=True):
            assert error is None
            ((name, restored),) = outputs
            assert name == "restored" and restored.shape == pixels.shape
            for one, expected in zip(restored, pixels, strict=True):
                np.testing.assert_array_equal(one, restorer(expected, steps=1))


def test_a_request_that_fails_does_not_fail_others(
    model: TritonPythonModel, triton: types.ModuleType
) -> None:
    good, bad = frames(1), np.zeros((1, 0, 8, 3), np.uint8)
    (first, second) = model.execute([Request(bad), Request(good)])
    assert "frame is of shape [1, 0, 8, 3]" in first[1] and second[1] is None


def test_streams_of_few_sizes_are_kept(model: TritonPythonModel, triton: types.ModuleType) -> None:
    for width in (64, 80, 96, 112, 128, 144):
        ((_, error),) = model.execute([Request(frames(1, size=(64, width)))])
        assert error is None
    assert list(model._streams) == [(64, 96), (64, 112), (64, 128), (64, 144)]


# The server, of which pip has a copy in nvidia-pytriton


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_folder() -> Path:
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("Triton's server is not here: pip install --no-deps nvidia-pytriton")
    folder = Path(next(iter(spec.submodule_search_locations))) / "tritonserver"
    stub = folder / "python_backend_stubs" / f"{sys.version_info[0]}.{sys.version_info[1]}"
    if not stub.is_dir():
        pytest.skip(f"nvidia-pytriton has no stub for Python {sys.version_info[0]}.{sys.version_info[1]}")
    return folder


@contextlib.contextmanager
def serving(repository: Path, folder: Path, work: Path) -> Iterator[int]:
    """A running server over a repository; gives its port."""
    stub = folder / "python_backend_stubs" / f"{sys.version_info[0]}.{sys.version_info[1]}"
    backends = work / "backends"
    backends.mkdir()
    (backends / "python").mkdir()
    for file in (folder / "backends" / "python").iterdir():
        (backends / "python" / file.name).symlink_to(file)
    program = backends / "python" / "triton_python_backend_stub"
    program.write_bytes((stub / "triton_python_backend_stub").read_bytes())
    program.chmod(0o755)
    ports = [free_port() for _ in range(3)]
    libraries = [folder.parents[1] / "nvidia_pytriton.libs", Path(sys.base_prefix) / "lib"]
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, libraries))}
    command = [
        str(folder / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        f"--http-port={ports[0]}",
        f"--grpc-port={ports[1]}",
        f"--metrics-port={ports[2]}",
        "--http-address=127.0.0.1",
    ]
    with (
        (work / "log").open("w") as log,
        subprocess.Popen(command, cwd=work, stdout=log, stderr=log, env=environment) as process,
    ):
        try:
            until = time.monotonic() + 240.0
            while True:
                with (
                    contextlib.suppress(OSError),
                    urllib.request.urlopen(
                        f"http://127.0.0.1:{ports[0]}/v2/health/ready", timeout=5
                    ) as answer,
                ):
                    if answer.status == 200:
                        break
                if process.poll() is not None or time.monotonic() > until:
                    text = (work / "log").read_text(errors="replace")
                    if "error while loading shared libraries" in text or "GLIBC" in text:
                        pytest.skip(f"Triton's server does not run here: {text.strip().splitlines()[0]}")
                    errors = [
                        line for line in text.splitlines() if "failed to load" in line or "rror:" in line
                    ]
                    pytest.fail(f"the server did not start: {errors}")
                time.sleep(0.3)
            yield ports[0]
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def test_a_real_server_restores_what_a_restorer_does(
    repository: Path, small_bundle: Path, tmp_path: Path
) -> None:
    pixels = frames(2)
    body = {
        "inputs": [
            {
                "name": "frame",
                "shape": list(pixels.shape),
                "datatype": "UINT8",
                "data": pixels.ravel().tolist(),
            }
        ]
    }
    with serving(repository, server_folder(), tmp_path) as port:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v2/models/elir_small/infer",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            (output,) = json.load(answer)["outputs"]
    restored = np.array(output["data"], np.uint8).reshape(output["shape"])
    with elir_trt.open(small_bundle, device="cpu") as restorer:
        for one, expected in zip(restored, pixels, strict=True):
            np.testing.assert_array_equal(one, restorer(expected, steps=1))
