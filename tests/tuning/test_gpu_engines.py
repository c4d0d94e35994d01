"""Engines of a portable bundle for a GPU, as far as they are made without one: see also tests/emulated_cuda."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tensorrt_stand_ins import FULL, install

from elir_trt import _core, backends
from elir_trt.backends import TunedSource
from elir_trt.backends.tensorrt import TENSORRT, TENSORRT_RTX
from elir_trt.bundle import Bundle, shipped_folder
from elir_trt.errors import BackendError, ElirWarning
from elir_trt.gpu import Gpu
from elir_trt.parts import PARTS
from elir_trt.tuning.candidates import Candidate, precisions_of, safe_precision
from elir_trt.tuning.choice import open_engines, store


@pytest.fixture
def camera() -> Path:
    """The portable bundle that ships: in FP16, and but for the velocity in INT8."""
    return shipped_folder() / "camera"


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ELIR_TRT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@dataclass
class Opened:
    """Engines that were made, and not loaded: what needs a GPU."""

    contents: Mapping[str, bytes]
    element: str
    name: str = "tensorrt"


def open_without_loading(source: TunedSource, flavour: str, tag: str) -> Opened:
    engines = {part: source.engine(part, source.size, source.batch) for part in PARTS}
    return Opened(engines, source.whole)


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "cuda_problem", lambda: "")
    monkeypatch.setattr("elir_trt.backends.tensorrt.engines_of_source", open_without_loading)


def flavour_here(monkeypatch: pytest.MonkeyPatch, flavour: str) -> None:
    monkeypatch.setattr("elir_trt.backends.tensorrt_api.installed", lambda: (flavour,))


def engines_of(bundle: Path, **options: Any) -> Any:
    return open_engines(Bundle(bundle), tune="off", **options).engines


@pytest.mark.usefixtures("a_gpu")
def test_a_gpu_gets_engines_of_whatever_flavour_is_here(
    camera: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT-RTX builds without a GPU; loading them is what needs one."""
    flavour_here(monkeypatch, "tensorrt-rtx")
    said: list[str] = []
    found = engines_of(camera, say=said.append)
    assert found.element == "fp16" and all(len(content) > 10_000 for content in found.contents.values())
    assert "TensorRT-RTX: making the velocity engine in fp16" in said
    count = len(said)
    assert engines_of(camera, say=said.append).contents == found.contents and len(said) == count


@pytest.mark.usefixtures("a_gpu")
def test_another_driver_gets_engines_of_its_own(camera: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = install(monkeypatch, FULL[0])
    flavour_here(monkeypatch, "tensorrt")
    monkeypatch.setattr("elir_trt.gpu.find_gpu", lambda: Gpu("Orin", "87", "12.6"))
    built = []
    for release in ("540.3.0", "540.4.0", "540.3.0"):
        monkeypatch.setattr("elir_trt.gpu.driver_release", lambda release=release: release)
        engines_of(camera)
        built.append(len(stand_in.parsed))
    assert built == [4, 8, 8]
    assert TENSORRT.machine() == "Orin sm_87 driver 540.3.0"


@pytest.mark.usefixtures("a_gpu")
@pytest.mark.parametrize("version", FULL)
def test_a_gpu_gets_engines_of_the_full_tensorrt(
    camera: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """Stand-ins with the names of a version build from the very files that it would get."""
    stand_in = install(monkeypatch, version)
    flavour_here(monkeypatch, "tensorrt")
    found = engines_of(camera)
    assert all(found.contents[part] for part in PARTS) and len(stand_in.parsed) == len(PARTS)
    assert TENSORRT.engine_version() == version


def test_a_gpu_that_refuses_falls_back_to_the_cpu(
    camera: Path, monkeypatch: pytest.MonkeyPatch, a_gpu: None
) -> None:
    def refuse(*_: object) -> object:
        raise BackendError("no kernels for this GPU")

    install(monkeypatch, FULL[0])
    flavour_here(monkeypatch, "tensorrt")
    monkeypatch.setattr(backends.get("tensorrt"), "load_tuned", refuse)
    with pytest.warns(ElirWarning, match="no kernels for this GPU; using the CPU instead"):
        assert engines_of(camera).name == "openvino"


def test_candidates_are_what_the_gpu_and_the_bundle_have(
    camera: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle(camera)
    for capability, expected in (
        ("75", ("fp16", "fp32", "int8")),
        ("87", ("fp16", "bf16", "fp32", "int8")),
        ("89", ("fp16", "bf16", "fp32", "int8", "fp8")),
    ):
        gpu = Gpu("a GPU", capability, "12.6")
        monkeypatch.setattr("elir_trt.backends.tensorrt.find_gpu", lambda gpu=gpu: gpu)
        forms = {p: TENSORRT.form(("fp32", "fp16", "int8"), p) for p in TENSORRT.tuned_precisions()}
        assert tuple(forms) == expected and None not in forms.values()
    assert precisions_of(bundle, TENSORRT, "encoder") == ("fp16", "int8", "fp8")
    assert precisions_of(bundle, TENSORRT, "velocity") == ("fp16",)
    assert "fp8" not in TENSORRT_RTX.tuned_precisions()
    assert safe_precision(bundle, TENSORRT) == "fp16"
    # Weights that overflow FP16 are kept in BF16 alone.
    assert TENSORRT.form(("fp32", "bf16"), "fp16") is None
    assert TENSORRT.form(("bf16", "int8"), "fp8") == "int8"
    # As on a Jetson: what types a file is not there.
    monkeypatch.setattr("elir_trt.backends.tensorrt.importlib.util.find_spec", lambda name: None)
    assert precisions_of(bundle, TENSORRT, "encoder") == ("fp16",)
    quantized = Candidate(bundle, TENSORRT, dict.fromkeys(PARTS, "int8"), None)
    install(monkeypatch, FULL[0])
    with pytest.raises(
        BackendError, match=r"cannot make the encoder engine in int8 here: .* pip install onnx"
    ):
        quantized.engine("encoder", quantized.size, 1)


def test_8_bits_of_tensorrt_rtx_are_refused_by_what_was_compiled(
    camera: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engines are real: its plan says that a convolution in 8 bits gains nothing."""
    bundle = Bundle(camera)
    engines = {}
    for precision in ("fp16", "int8"):
        source = Candidate(
            bundle, TENSORRT_RTX, {**dict.fromkeys(PARTS, "fp16"), "encoder": precision}, store()
        )
        assert source.whole == "fp16"
        engines[precision] = source.engine("encoder", source.size, source.batch)
    reason = TENSORRT_RTX.reason_against_engine("encoder", engines["int8"], engines["fp16"], "int8")
    assert reason is not None and "int8" in reason
    assert TENSORRT_RTX.reason_against_engine("encoder", engines["fp16"], engines["fp16"], "int8") != reason
