"""Choosing a backend and a device: what is refused, and what is said."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import elir_trt
from elir_trt import _core
from elir_trt.backends import DEVICES, open_backend
from elir_trt.bundle import Bundle, find_bundle
from elir_trt.errors import BackendError, BuildError, DeviceError, ElirWarning, FrameError


@pytest.fixture
def bundle() -> Bundle:
    return Bundle(find_bundle("camera"))


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "cuda_problem", lambda: "no CUDA driver")


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "cuda_problem", lambda: "")


def test_the_cpu_is_used_where_there_is_no_gpu(bundle: Bundle, no_gpu: None) -> None:
    backend = open_backend(bundle)
    assert (backend.name, backend.device, backend.element) == ("openvino", "cpu", "float32")
    assert open_backend(bundle, "openvino", "cpu").name == "openvino"


@pytest.mark.parametrize(
    ("name", "device"), [("auto", "cuda"), ("tensorrt", "auto"), ("tensorrt-rtx", "cuda")]
)
def test_a_gpu_that_is_not_there_is_named(bundle: Bundle, no_gpu: None, name: str, device: str) -> None:
    with pytest.raises(DeviceError, match="the device cuda is not usable here: no CUDA driver"):
        open_backend(bundle, name, device)


def test_wrong_names_are_named(bundle: Bundle) -> None:
    with pytest.raises(BackendError, match=f"backend is 'onnx'; allowed: auto, {', '.join(DEVICES)}"):
        open_backend(bundle, "onnx")
    with pytest.raises(DeviceError, match="device is 'tpu'; allowed: auto, cpu, cuda"):
        open_backend(bundle, device="tpu")
    with pytest.raises(DeviceError, match="the backend openvino runs on cpu"):
        open_backend(bundle, "openvino", "cuda")


def test_a_bundle_without_gpu_engines_says_so(bundle: Bundle, a_gpu: None) -> None:
    with pytest.raises(BackendError, match=r"no engines for the GPU .*: the bundle has openvino"):
        open_backend(bundle, device="cuda")
    assert open_backend(bundle).name == "openvino"


def test_engines_that_the_gpu_refuses_fall_back_with_a_reason(
    bundle: Bundle, a_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import elir_trt.backends as backends

    def refuse(of: Bundle, name: str, device: str) -> object:
        if name != "openvino":
            raise BackendError("built for another GPU")
        return found

    found = object()
    specification = bundle.manifest.specification.model_copy(
        update={"backends": ("openvino", "tensorrt-rtx")}
    )
    bundle.manifest = bundle.manifest.model_copy(update={"specification": specification})
    monkeypatch.setattr(backends, "_open", refuse)
    monkeypatch.setattr(backends.tensorrt_api, "installed", lambda: ("tensorrt-rtx",))
    with pytest.warns(ElirWarning, match="built for another GPU; using the CPU instead"):
        assert open_backend(bundle) is found
    with pytest.raises(BackendError, match="built for another GPU"):
        open_backend(bundle, device="cuda")
    with pytest.raises(BackendError, match="built for another GPU"):
        open_backend(bundle, on_engine_error="raise")
    with (
        pytest.warns(ElirWarning, match="built for another GPU; building them again"),
        pytest.raises(BuildError, match=r"no ONNX files; build it with: .* --portable"),
    ):
        open_backend(bundle, on_engine_error="rebuild")
    with pytest.raises(ValueError, match="on_engine_error is 'ignore'; allowed: fallback, rebuild, raise"):
        open_backend(bundle, on_engine_error="ignore")


def test_open_passes_the_device_on(no_gpu: None) -> None:
    with pytest.raises(DeviceError, match="no CUDA driver"):
        elir_trt.open(Path(find_bundle("camera")), device="cuda")


def test_torch_runs_the_parts_as_the_model_does(small_checkpoint: Path, tmp_path: Path) -> None:
    from bundles import small_recipe
    from test_stream import frame_of, psnr, torch_restored

    from elir_trt.building import build

    path = build(small_recipe(), small_checkpoint, output=tmp_path / "b", backends=["torch"]).path
    with elir_trt.open(path, device="cpu") as restorer:
        assert (restorer.backend.name, restorer.backend.precision) == ("torch", "fp32")
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
        open_backend(Bundle(path), device="cuda")
    with pytest.warns(ElirWarning, match="torch sees no GPU: .*; using the CPU instead"):
        assert open_backend(Bundle(path)).name == "openvino"


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
        with pytest.raises(ValueError, match="format is 'yuv420p'; allowed: rgb24"):
            restorer.stream(format="yuv420p")  # type: ignore[arg-type]
        with pytest.raises(DeviceError, match="results='device' needs a GPU; this restorer runs on the cpu"):
            restorer.stream(results="device")


def test_a_portable_bundle_is_built_again_without_torch(
    small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bundles import small_recipe

    from elir_trt.building import build, builder

    monkeypatch.setenv("ELIR_TRT_CACHE", str(tmp_path / "cache"))
    report = build(
        small_recipe(), small_checkpoint, output=tmp_path / "b", backends=["tensorrt-rtx"], portable=True
    )
    monkeypatch.setattr(builder, "_gpu", lambda backends: "Another GPU sm_87")
    monkeypatch.setitem(sys.modules, "elir_trt.building.export", None)
    found = Bundle(builder.rebuild_engines(Bundle(report.path), "tensorrt-rtx"))
    assert found.manifest.specification.gpu == "Another GPU sm_87"
    assert found.manifest.specification.backends == ("tensorrt-rtx",)
    assert found.read_engine("tensorrt-rtx", "velocity")[0]
    assert found.read_onnx("velocity") == Bundle(report.path).read_onnx("velocity")
    assert found.manifest.parts["tensorrt-rtx"]["coarse"].layers
    began = (found.path / "manifest.json").stat().st_mtime_ns
    builder.rebuild_engines(Bundle(report.path), "tensorrt-rtx")
    assert (found.path / "manifest.json").stat().st_mtime_ns == began  # It was there.
