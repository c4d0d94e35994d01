"""Choosing a backend and a device: what is refused, and what is said."""

from __future__ import annotations

import errno
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import elir_trt
from elir_trt import _core, backends
from elir_trt.bundle import Bundle, find_bundle
from elir_trt.errors import BackendError, BuildError, BundleError, DeviceError, ElirWarning, FrameError
from elir_trt.tuning.choice import open_engines


@pytest.fixture
def bundle(small_bundle: Path) -> Bundle:
    return Bundle(small_bundle)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "cuda_problem", lambda: "no CUDA driver")


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "cuda_problem", lambda: "")


def test_the_cpu_is_used_where_there_is_no_gpu(bundle: Bundle, no_gpu: None) -> None:
    backend = open_engines(bundle).engines
    assert (backend.name, backend.device, backend.element) == ("openvino", "cpu", "float32")
    assert open_engines(bundle, "openvino", "cpu").engines.name == "openvino"


@pytest.mark.parametrize(
    ("name", "device"), [("auto", "cuda"), ("tensorrt", "auto"), ("tensorrt-rtx", "cuda")]
)
def test_a_gpu_that_is_not_there_is_named(bundle: Bundle, no_gpu: None, name: str, device: str) -> None:
    with pytest.raises(DeviceError, match="the device cuda is not usable here: no CUDA driver"):
        open_engines(bundle, name, device)


def test_wrong_names_are_named(bundle: Bundle) -> None:
    with pytest.raises(
        BackendError, match=f"backend is 'onnx'; allowed: auto, {', '.join(backends.names())}"
    ):
        open_engines(bundle, "onnx")
    with pytest.raises(DeviceError, match="device is 'tpu'; allowed: auto, cpu, cuda"):
        open_engines(bundle, device="tpu")
    with pytest.raises(DeviceError, match="the backend openvino runs on cpu"):
        open_engines(bundle, "openvino", "cuda")


def test_a_bundle_without_gpu_engines_says_so(bundle: Bundle, a_gpu: None) -> None:
    with pytest.raises(BackendError, match=r"no engines for the GPU .*: the bundle has openvino"):
        open_engines(bundle, device="cuda")
    assert open_engines(bundle).engines.name == "openvino"


def test_engines_that_the_gpu_refuses_fall_back_with_a_reason(
    bundle: Bundle, a_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(of: Bundle, device: str) -> object:
        raise BackendError("built for another GPU")

    found = object()
    specification = replace(bundle.manifest.specification, backends=("openvino", "tensorrt-rtx"))
    bundle.manifest = replace(bundle.manifest, specification=specification)
    monkeypatch.setattr(backends.get("tensorrt-rtx"), "load", refuse)
    monkeypatch.setattr(backends.get("openvino"), "load", lambda of, device: found)
    monkeypatch.setattr("elir_trt.backends.tensorrt_api.installed", lambda: ("tensorrt-rtx",))
    with pytest.warns(ElirWarning, match="built for another GPU; using the CPU instead"):
        assert open_engines(bundle).engines is found
    with pytest.raises(BackendError, match="built for another GPU"):
        open_engines(bundle, device="cuda")
    with pytest.raises(BackendError, match="built for another GPU"):
        open_engines(bundle, on_engine_error="raise")
    with (
        pytest.warns(ElirWarning, match="built for another GPU; building them again"),
        pytest.raises(BuildError, match=r"no ONNX files; build it with: .* --portable"),
    ):
        open_engines(bundle, on_engine_error="rebuild")
    with pytest.raises(ValueError, match="on_engine_error is 'ignore'; allowed: fallback, rebuild, raise"):
        open_engines(bundle, on_engine_error="ignore")


def test_open_passes_the_device_on(no_gpu: None) -> None:
    with pytest.raises(DeviceError, match="no CUDA driver"):
        elir_trt.open(Path(find_bundle("camera")), device="cuda")


def test_torch_runs_the_parts_as_the_model_does(small_checkpoint: Path, tmp_path: Path) -> None:
    from bundles import small_recipe
    from test_stream import frame_of, psnr, torch_restored

    from elir_trt.building import build

    path = build(small_recipe(), small_checkpoint, output=tmp_path / "b", backends=["torch"]).path
    with elir_trt.open(path, device="cpu") as restorer:
        assert (restorer.engines.name, restorer.engines.precision) == ("torch", "fp32")
        for size in ((64, 128), (96, 64)):
            frame = frame_of(*size)
            assert psnr(restorer(frame, steps=3), torch_restored(small_checkpoint, frame, 3)) >= 55
    half = build(
        small_recipe(), small_checkpoint, output=tmp_path / "h", backends=["torch"], half_weights=True
    )
    record = half.manifest.parts["torch"]["decoder"]
    assert 0 < record.relative_error < 1e-3
    frame = frame_of(64, 128)
    with elir_trt.open(half.path, backend="torch") as restorer:
        assert psnr(restorer(frame, steps=0), torch_restored(small_checkpoint, frame, 0)) >= 45


def test_torch_without_a_gpu_of_its_own_says_so(
    small_checkpoint: Path, tmp_path: Path, a_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from bundles import small_recipe

    from elir_trt.building import build

    path = build(small_recipe(), small_checkpoint, output=tmp_path / "b", backends=["openvino", "torch"]).path
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("elir_trt.backends.tensorrt_api.installed", lambda: ())
    with pytest.raises(BackendError, match=r"torch sees no GPU: torch .* was built"):
        open_engines(Bundle(path), device="cuda")
    with pytest.warns(ElirWarning, match="torch sees no GPU: .*; using the CPU instead"):
        assert open_engines(Bundle(path)).engines.name == "openvino"


def test_frames_of_other_libraries(small_bundle: Path) -> None:
    import torch

    rng = np.random.default_rng(3)
    frame = rng.integers(0, 256, (64, 128, 3), dtype=np.uint8)
    with elir_trt.open(small_bundle) as restorer, restorer.stream(depth=1) as stream:
        stream.submit(frame)
        expected = stream.result().frame
        stream.submit(torch.from_numpy(frame))
        np.testing.assert_array_equal(stream.result().frame, expected)
        stream.submit(torch.from_numpy(frame.transpose(2, 0, 1).copy()).permute(1, 2, 0))
        np.testing.assert_array_equal(stream.result().frame, expected)

        class OnGpu:
            shape, dtype = frame.shape, frame.dtype
            __cuda_array_interface__ = None

        with pytest.raises(FrameError, match="frame is on the GPU, and this stream runs on the CPU"):
            stream.submit(OnGpu())
        with pytest.raises(FrameError, match="frame is a list; expected a numpy array"):
            stream.submit([1, 2])
        with pytest.raises(FrameError, match=r"frame is float32 of shape 64x128x3"):
            stream.submit(torch.zeros(64, 128, 3))


def test_formats_through_the_stream(small_bundle: Path) -> None:
    rng = np.random.default_rng(3)
    nv12 = rng.integers(0, 256, (96, 128), dtype=np.uint8)
    with elir_trt.open(small_bundle) as restorer:
        with restorer.stream(format="nv12", output_format="nv12", size=(64, 128)) as stream:
            stream.submit(nv12)
            assert stream.result().frame.shape == (96, 128)
            with pytest.raises(FrameError, match=r"shape 96x127; expected uint8 of shape \(H \* 3 / 2\)xW"):
                stream.submit(nv12[:, :127])
            with pytest.raises(FrameError, match="frame is 128x32; this stream takes 128x64"):
                stream.submit(nv12[:48])
        with pytest.raises(ValueError, match="format is 'yuyv422'; allowed: rgb24"):
            restorer.stream(format="yuyv422")
        with pytest.raises(DeviceError, match="results='device' needs a GPU; this restorer runs on the cpu"):
            restorer.stream(results="device")


def test_a_portable_bundle_is_built_again_without_torch(
    small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bundles import small_recipe

    from elir_trt.building import build
    from elir_trt.tuning import rebuild

    monkeypatch.setenv("ELIR_TRT_CACHE", str(tmp_path / "cache"))
    report = build(
        small_recipe(), small_checkpoint, output=tmp_path / "b", backends=["tensorrt-rtx"], portable=True
    )
    monkeypatch.setattr(rebuild, "gpu_tag", lambda driver: "Another GPU sm_87")
    monkeypatch.setitem(sys.modules, "elir_trt.building.export", None)
    found = Bundle(rebuild.rebuild_engines(Bundle(report.path), "tensorrt-rtx"))
    assert found.manifest.specification.gpu == "Another GPU sm_87"
    assert found.manifest.specification.backends == ("tensorrt-rtx",)
    assert found.read_engine("tensorrt-rtx", "velocity")[0]
    assert found.read_onnx("velocity") == Bundle(report.path).read_onnx("velocity")
    assert found.manifest.parts["tensorrt-rtx"]["coarse"].layers
    began = (found.path / "manifest.json").stat().st_mtime_ns
    rebuild.rebuild_engines(Bundle(report.path), "tensorrt-rtx")
    assert (found.path / "manifest.json").stat().st_mtime_ns == began  # It was there.


def test_a_cache_that_takes_nothing_is_said_and_passed_over(
    bundle: Bundle, tmp_path: Path, a_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> object:
        raise BackendError("built for another GPU")

    def read_only(*_: object) -> object:
        raise OSError(errno.EROFS, "Read-only file system")

    specification = replace(bundle.manifest.specification, backends=("openvino", "tensorrt-rtx"))
    bundle.manifest = replace(bundle.manifest, specification=specification)
    monkeypatch.setenv("ELIR_TRT_CACHE", str(tmp_path))
    monkeypatch.setattr(backends.get("tensorrt-rtx"), "load", refuse)
    monkeypatch.setattr("elir_trt.backends.tensorrt_api.installed", lambda: ("tensorrt-rtx",))
    monkeypatch.setattr("elir_trt.tuning.choice.rebuild_engines", read_only)
    said = f"{tmp_path}: the engines .* cannot be kept there: Read-only file system; set ELIR_TRT_CACHE"
    with (
        pytest.warns(ElirWarning, match="building them again for this machine"),
        pytest.warns(ElirWarning, match=f"{said} to another folder; using the CPU instead"),
    ):
        assert open_engines(bundle, on_engine_error="rebuild").engines.name == "openvino"
    with pytest.warns(ElirWarning), pytest.raises(BackendError, match=said):
        open_engines(bundle, device="cuda", on_engine_error="rebuild")


def test_backends_of_the_cpu_are_taken_where_they_are_installed(
    bundle: Bundle, no_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    specification = replace(bundle.manifest.specification, backends=("openvino", "torch"))
    bundle.manifest = replace(bundle.manifest, specification=specification)
    found = object()
    monkeypatch.setattr(backends.get("openvino"), "installed", lambda: False)
    monkeypatch.setattr(backends.get("torch"), "load", lambda of, device: found)
    assert open_engines(bundle).engines is found


def test_the_bundle_of_a_restorer_is_the_one_that_runs(
    small_bundle: Path, tmp_path: Path, a_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Loads:
        """Refuses the engines of every bundle but the one that was built again."""

        name, device = "tensorrt-rtx", "cuda"

        def __call__(self, bundle: Bundle, device: str) -> Loads:
            if bundle.path != again:
                raise BackendError("built for another GPU")
            return self

    import shutil

    again = Path(shutil.copytree(small_bundle, tmp_path / "again"))
    monkeypatch.setattr(backends.get("tensorrt-rtx"), "load", Loads())
    monkeypatch.setattr("elir_trt.tuning.choice.rebuild_engines", lambda bundle, name, say: again)
    with pytest.warns(ElirWarning, match="built for another GPU; building them again for this machine"):
        restorer = elir_trt.open(small_bundle, backend="tensorrt-rtx", on_engine_error="rebuild")
    assert restorer.bundle.path == again
    assert isinstance(restorer.engines, Loads)


def test_released_engines_are_called_that(small_bundle: Path) -> None:
    bundle = Bundle(small_bundle)
    with pytest.raises(BundleError, match=r"has no torch engines, it has openvino; .* --backend torch"):
        bundle.read_engine("torch", "decoder")
    bundle.release()
    for read in (lambda: bundle.read_engine("openvino", "decoder"), lambda: bundle.read_reference("decoder")):
        with pytest.raises(BundleError, match="its engines were released when a backend had taken them in"):
            read()


def test_every_backend_answers_for_itself() -> None:
    assert [backend.name for backend in backends.registry()] == list(backends.names())
    for backend in backends.registry():
        probe = backend.probe()
        assert bool(probe.version) == probe.usable == (not probe.reason)
        assert set(backend.devices) <= {"cpu", "cuda"} and backend.engine_files("decoder")
    with pytest.raises(BackendError, match="backend is 'onnx'; allowed: tensorrt, "):
        backends.get("onnx")
