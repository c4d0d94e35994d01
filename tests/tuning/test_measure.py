"""Engines of a portable bundle: made where it is opened, compared with float32, and the fastest of them taken."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from bundles import edit_manifest
from onnx import numpy_helper
from test_stream import psnr, torch_restored

import elir_trt
from elir_trt.backends.openvino import OPENVINO
from elir_trt.bundle import Bundle
from elir_trt.errors import BackendError, BundleError
from elir_trt.parts import PARTS
from elir_trt.tuning import measure
from elir_trt.tuning.candidates import describe
from elir_trt.tuning.choice import choices_here, open_engines


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ELIR_TRT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def not_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> object:
        raise AssertionError("it was measured before")

    monkeypatch.setattr(measure, "_Measurement", refuse)


def test_a_portable_bundle_has_no_engines(portable_bundle: Path) -> None:
    bundle = Bundle(portable_bundle)
    assert bundle.is_portable and bundle.manifest.specification.backends == ()
    assert {Path(name).parts[0] for name in bundle.manifest.files} == {
        "conditioning.npy",
        "onnx",
        "reference.npz",
    }
    for part in PARTS:
        assert {"fp32", "fp16"} <= set(bundle.variants(part))
    assert "int8" in bundle.variants("encoder")
    reference = bundle.reference_frames()
    assert reference.steps == (1, 3) and reference.restored.shape == (2, 2, 64, 128, 3)
    bundle.release()
    with pytest.raises(BundleError, match="released"):
        bundle.read_variant("encoder", "fp32")


def test_the_first_open_measures_and_the_second_does_not(
    portable_bundle: Path, small_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, fresh_cache: Path
) -> None:
    said: list[str] = []
    with elir_trt.open(portable_bundle, device="cpu", progress=said.append) as restorer:
        choice = restorer.choice
        assert choice is not None and choice.complete
        assert {row.precision for row in choice.rows} == set(OPENVINO.tuned_precisions())
        assert choice.psnr is not None and choice.psnr >= 20.0
        assert set(choice.precisions) == set(PARTS)
        if choice.ms is not None:
            assert choice.base_ms is not None and choice.ms < choice.base_ms
        frame = np.random.default_rng(1).integers(0, 256, (64, 128, 3), dtype=np.uint8)
        restored = restorer(frame)
        assert psnr(restored, torch_restored(small_checkpoint, frame, 1)) >= 20.0
    assert any("timing" in text for text in said)
    assert choices_here(Bundle(portable_bundle)) == [("openvino", choice)]
    not_again(monkeypatch)
    with elir_trt.open(portable_bundle, device="cpu") as restorer:
        assert restorer.choice == choice
        np.testing.assert_array_equal(restorer(frame), restored)
    # Engines of the choice alone are kept, each with its record.
    engines = list((fresh_cache / "engines").rglob("engine.bin"))
    assert len(engines) == len(PARTS)


def test_off_is_float32_at_once(
    portable_bundle: Path, small_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    not_again(monkeypatch)
    with elir_trt.open(portable_bundle, device="cpu", tune="off") as restorer:
        assert restorer.engines.precision == "fp32"
        for size in ((64, 128), (96, 64)):
            frame = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
            assert psnr(restorer(frame, steps=3), torch_restored(small_checkpoint, frame, 3)) >= 50
    assert choices_here(Bundle(portable_bundle)) == []
    with pytest.raises(ValueError, match="tune is 'fast'; allowed: auto, off, full"):
        elir_trt.open(portable_bundle, tune="fast")  # type: ignore[arg-type]


@pytest.mark.parametrize("changed", ["engine_version", "machine"])
def test_another_version_or_machine_measures_again(
    portable_bundle: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    open_engines(Bundle(portable_bundle), device="cpu")
    measured: list[int] = []
    real = measure._Measurement

    def count(*arguments: Any) -> Any:
        measured.append(1)
        return real(*arguments)

    monkeypatch.setattr(measure, "_Measurement", count)
    open_engines(Bundle(portable_bundle), device="cpu")
    assert measured == []
    monkeypatch.setattr(OPENVINO, changed, lambda: "another")
    open_engines(Bundle(portable_bundle), device="cpu")
    assert measured == [1]


def drifting(monkeypatch: pytest.MonkeyPatch, part: str, precisions: tuple[str, ...]) -> None:
    """Let engines of a part compute something else than their file says, and at once."""
    real: Callable[..., bytes] = OPENVINO.compile_tuned

    def compile_tuned(data: bytes, of: str, precision: Any, shapes: Any, options: Any) -> bytes:
        if of == part and precision in precisions:
            model = onnx.load_model_from_string(data)
            for tensor in model.graph.initializer:
                if tensor.name.endswith("bias"):
                    values = numpy_helper.to_array(tensor)
                    tensor.CopyFrom(
                        numpy_helper.from_array(values + np.asarray(5, values.dtype), tensor.name)
                    )
            data = model.SerializeToString()
        return real(data, of, precision, shapes, options)

    monkeypatch.setattr(OPENVINO, "compile_tuned", compile_tuned)


def test_engines_that_drift_are_never_taken(portable_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = OPENVINO.tuned_precisions()[1:]
    drifting(monkeypatch, "decoder", others)
    opened = open_engines(Bundle(portable_bundle), device="cpu", tune="full")
    choice = opened.choice
    assert choice is not None and choice.precisions["decoder"] == "fp32"
    drifted = [row for row in choice.rows if row.part == "decoder" and row.precision in others]
    assert drifted and all(row.fits is False for row in drifted)


def test_safe_engines_that_drift_are_an_error(portable_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drifting(monkeypatch, "decoder", ("fp32",))
    with pytest.raises(
        BackendError, match=r"OpenVINO's engines in fp32 are .* dB from float32 here; at least 20"
    ):
        open_engines(Bundle(portable_bundle), device="cpu")


def test_a_changed_file_is_refused(portable_bundle: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(portable_bundle, tmp_path / "changed"))
    file = changed / "onnx" / "encoder.int8.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match=r"onnx/encoder.int8.onnx was changed or cut"):
        Bundle(changed)
    edit_manifest(changed, lambda manifest: manifest["files"].pop("onnx/encoder.int8.onnx"))
    with pytest.raises(BundleError, match=r"files: onnx/encoder.int8.onnx is not listed"):
        Bundle(changed)


def test_a_backend_that_makes_none_says_how_to_get_them(portable_bundle: Path) -> None:
    with pytest.raises(
        BackendError, match="the backend torch makes no engines of such a bundle; build one with"
    ):
        elir_trt.open(portable_bundle, backend="torch")


def test_two_processes_measure_once(portable_bundle: Path, tmp_path: Path) -> None:
    code = (
        "import sys, elir_trt\nelir_trt.open(sys.argv[1], device='cpu', progress=lambda text: print(text))\n"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(portable_bundle)],
            cwd=tmp_path,
            env=os.environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert sum("timing the parts" in output for output in outputs) == 1


def test_assignments_in_words() -> None:
    assert describe(dict.fromkeys(PARTS, "fp32")) == "fp32"
    assert describe({"encoder": "int8", "coarse": "bf16", "velocity": "int8", "decoder": "int8"}) == (
        "int8, coarse bf16"
    )
