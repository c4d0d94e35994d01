"""The first time that a GPU opens a portable bundle: engines are made, compared, timed in turns, and kept."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulated_cuda.emulated import Gpu
from emulated_cuda.tensorrt import SIZE, VALUES, EmulatedTensorRt, write_bundle

import elir_trt
from elir_trt.backends import Probe
from elir_trt.backends.openvino import OPENVINO
from elir_trt.bundle import Bundle
from elir_trt.errors import BackendError, ElirWarning
from elir_trt.gpu import Gpu as FoundGpu
from elir_trt.parts import PARTS
from elir_trt.tuning import frames
from elir_trt.tuning.choice import choices_here, choose_for
from elir_trt.tuning.store import WHOLE

ROOT = Path(__file__).resolve().parents[3]
#: Each part in FP16, INT8, FP8 and BF16.
ALL = [(part, precision) for precision in ("bf16", "fp16", "fp8", "int8") for part in PARTS]
EXPECTED = round(255 * VALUES["decoder"])


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


@pytest.fixture
def tensorrt(gpu: Gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmulatedTensorRt:
    """The encoder gains most in INT8, the decoder loses; coarse gains, and computes something else."""
    monkeypatch.setenv("ELIR_TRT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(frames, "_ROUNDS", {"auto": 5, "full": 7})
    monkeypatch.setattr(frames, "AUTO_SECONDS", 600.0)  # However busy the machine is.
    # OpenVINO loads its threads in a way that AddressSanitizer does not bear.
    monkeypatch.setattr(OPENVINO, "probe", lambda: Probe(False))
    found = EmulatedTensorRt(monkeypatch, gpu)
    found.keep_time(monkeypatch)
    found.costs = {
        **dict.fromkeys(ALL, 10),
        ("encoder", "int8"): 0,
        ("encoder", "fp8"): 5,
        ("decoder", "int8"): 20,
        ("decoder", "fp8"): 20,
        ("coarse", "int8"): 0,
        ("coarse", "fp8"): 0,
    }
    found.values = {("coarse", "int8"): 0.5, ("coarse", "fp8"): 0.5}
    return found


def opened(bundle: Path, **options: Any) -> elir_trt.Restorer:
    return elir_trt.open(bundle, device="cuda", backend="tensorrt", on_engine_error="raise", **options)


def kept_engines(tmp_path: Path) -> int:
    return len(list((tmp_path / "cache" / "engines").rglob("engine.bin")))


def test_the_first_open_measures_and_the_second_makes_nothing(
    tensorrt: EmulatedTensorRt, bundle: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    with opened(bundle, progress=said.append, tune="full") as restorer:
        choice = restorer.choice
        assert choice is not None and choice.complete and choice.by_frame
        assert choice.precisions == {**dict.fromkeys(PARTS, "fp16"), "encoder": "int8"}
        assert choice.ms is not None and choice.base_ms is not None and choice.base_ms - choice.ms == 10
        rows = {(row.part, row.precision): row for row in choice.rows}
        assert {(WHOLE, "fp16"), (WHOLE, "bf16"), ("encoder", "int8"), ("velocity", "fp8")} <= set(rows)
        assert len(rows) == len(choice.rows) == 10
        assert rows["coarse", "int8"].fits is False and rows["coarse", "int8"].psnr is not None
        assert all(row.ms is not None for row in choice.rows)
        assert restorer.engines.element == "float16" and restorer.engines.precision == "mixed"
        with restorer.stream(size=SIZE, steps=1) as stream:
            for _ in range(6):
                stream.submit(np.zeros((*SIZE, 3), np.uint8))
                assert np.abs(stream.result().frame.astype(int) - EXPECTED).max() <= 1
            assert stream.execution_mode == "graph"
    assert sorted(tensorrt.built) == sorted(ALL)
    assert tensorrt.built[:4] == [(part, "fp16") for part in PARTS], "the safe engines first"
    assert {config._limits for config in tensorrt.stand_in.configs} == {((0, 1 << 20),)}
    assert any(text.startswith("TensorRT: making the encoder engine in int8") for text in said)
    assert kept_engines(tmp_path) == len(PARTS) + 1, "the safe ones, and what was chosen"
    assert choices_here(Bundle(bundle)) == [("tensorrt", choice)]
    tensorrt.built.clear()
    with opened(bundle) as restorer:
        assert restorer.choice == choice
        assert np.abs(restorer(np.zeros((*SIZE, 3), np.uint8), steps=2).astype(int) - EXPECTED).max() <= 1
        with pytest.raises(
            BackendError, match="TensorRT's engines are of the size that the bundle was built"
        ):
            choose_for(Bundle(bundle), restorer.engines, (128, 128))
    assert not tensorrt.built


@pytest.mark.parametrize("skip", ["none", "gated"])
def test_parts_that_gain_alone_are_put_together(
    tensorrt: EmulatedTensorRt, tmp_path: Path, skip: str
) -> None:
    """But for the one that the gate does not let pass."""
    tensorrt.values = {("coarse", "int8"): 0.255, ("encoder", "int8"): 0.7}
    tensorrt.refused = {(part, "fp8") for part in PARTS}
    with opened(write_bundle(tmp_path / "b", skip), tune="full") as restorer:
        choice = restorer.choice
        assert choice is not None and choice.precisions == {
            "encoder": "int8",
            "coarse": "int8",
            "velocity": "fp16",
            "decoder": "fp16",
        }
        refused = [row for row in choice.rows if row.precision == "fp8"]
        assert len(refused) == 4 and all("no implementation for this" in row.reason for row in refused)
        assert all(row.ms is None for row in refused)


def test_what_the_gate_refuses_is_never_taken(tensorrt: EmulatedTensorRt, bundle: Path) -> None:
    tensorrt.values = {("coarse", "int8"): 0.5, ("coarse", "fp8"): 0.5, ("coarse", "bf16"): 0.5}
    tensorrt.costs = {**dict.fromkeys(ALL, 0), ("coarse", "fp16"): 20}
    with opened(bundle, tune="full") as restorer:
        assert restorer.choice is not None
        assert restorer.choice.precisions == dict.fromkeys(PARTS, "fp16") and restorer.choice.ms is None


def test_safe_engines_that_drift_are_an_error(tensorrt: EmulatedTensorRt, bundle: Path) -> None:
    tensorrt.values = {("coarse", "fp16"): 0.5}
    with pytest.raises(
        BackendError, match=r"TensorRT's engines in fp16 are .* dB from float32 here; at least 30"
    ):
        opened(bundle)


def test_another_driver_gpu_or_version_measures_again(
    tensorrt: EmulatedTensorRt, bundle: Path, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensorrt.refused = {(part, precision) for part, precision in ALL if precision in ("bf16", "fp8", "int8")}
    opened(bundle).close()
    assert len(tensorrt.built) == 4
    opened(bundle).close()
    assert len(tensorrt.built) == 4
    for driver, name in (("540.4.0", "Emulated"), ("540.4.0", "Another")):
        tensorrt.be(monkeypatch, FoundGpu(name, "89", "12.6"), driver)
        tensorrt.built.clear()
        with opened(bundle) as restorer:
            assert restorer.choice is not None and len(tensorrt.built) == 4
    later = EmulatedTensorRt(monkeypatch, gpu, "10.16.1.11")
    opened(bundle, tune="off").close()
    assert later.built == [(part, "fp16") for part in PARTS]


def test_off_takes_the_safe_engines_at_once(tensorrt: EmulatedTensorRt, bundle: Path, tmp_path: Path) -> None:
    for _ in range(2):
        with opened(bundle, tune="off") as restorer:
            assert restorer.engines.precision == "fp16"
            assert np.abs(restorer(np.zeros((*SIZE, 3), np.uint8)).astype(int) - EXPECTED).max() <= 1
        assert tensorrt.built == [(part, "fp16") for part in PARTS]
    assert choices_here(Bundle(bundle)) == [] and kept_engines(tmp_path) == len(PARTS)


def test_auto_ends_in_time_in_the_middle_of_an_engine(
    tensorrt: EmulatedTensorRt, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what was measured until then counts; "full" goes on from there."""
    late = False

    def seconds(self: object) -> bool:
        return late

    def say(text: str) -> None:
        nonlocal late
        late = late or text.startswith("TensorRT: making the decoder engine in int8: Building engine")

    monkeypatch.setattr(frames.FrameMeasurement, "_is_late", seconds)
    with opened(bundle, progress=say) as restorer:
        choice = restorer.choice
        assert choice is not None and not choice.complete
        assert choice.precisions["encoder"] == "int8"
        assert {(row.part, row.precision) for row in choice.rows} == {(WHOLE, "fp16"), ("encoder", "int8")}
    assert sorted(tensorrt.built) == sorted([*((part, "fp16") for part in PARTS), ("encoder", "int8")])
    tensorrt.built.clear()
    opened(bundle).close()
    assert not tensorrt.built
    late = False
    with opened(bundle, tune="full") as restorer:
        assert restorer.choice is not None and restorer.choice.complete and len(restorer.choice.rows) == 10
    assert ("encoder", "fp16") not in tensorrt.built


def test_nothing_is_quantized_without_onnx(
    tensorrt: EmulatedTensorRt, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a Jetson: the files that the bundle has in FP16 are what there is."""
    monkeypatch.setattr(
        "elir_trt.backends.tensorrt.importlib.util.find_spec",
        lambda name, *_: None if name == "onnx" else object(),
    )
    monkeypatch.setattr("elir_trt.backends.tensorrt_prepare.has_form", lambda data: True)
    with opened(bundle) as restorer:
        assert restorer.choice is not None and restorer.choice.complete
        assert [(row.part, row.precision) for row in restorer.choice.rows] == [(WHOLE, "fp16")]
    assert tensorrt.built == [(part, "fp16") for part in PARTS]


def test_a_cache_that_takes_nothing_is_said_once(
    tensorrt: EmulatedTensorRt, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ELIR_TRT_CACHE", str(tmp_path / "file"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with opened(bundle) as restorer:
            assert restorer.choice is not None and restorer.choice.precisions["encoder"] == "int8"
            restorer(np.zeros((*SIZE, 3), np.uint8))
        count = len(tensorrt.built)
        opened(bundle).close()
    assert len(tensorrt.built) == count, "in memory they are kept"
    said = [str(entry.message) for entry in caught if issubclass(entry.category, ElirWarning)]
    assert len(said) == 1 and "engines cannot be kept there" in said[0]


_PROCESS = """
import os, sys
from pathlib import Path
import pytest
sys.path[:0] = ["tests", "tests/gpu"]
from emulated_cuda.emulated import Gpu, load_core
load_core(os.environ["ELIR_TRT_EMULATED_CORE"])
import elir_trt
from emulated_cuda.tensorrt import EmulatedTensorRt
with pytest.MonkeyPatch.context() as patch:
    found = EmulatedTensorRt(patch, Gpu(os.environ["ELIR_TRT_EMULATED_CORE"]))
    elir_trt.open(sys.argv[1], device="cuda", on_engine_error="raise").close()
    print("built", len(found.built))
"""


def test_two_processes_do_the_work_once(bundle: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "ELIR_TRT_CACHE": str(tmp_path / "cache")}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", _PROCESS, str(bundle)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = sorted(run.communicate(timeout=200)[0].splitlines()[-1] for run in runs)
    assert [run.returncode for run in runs] == [0, 0]
    assert outputs == ["built 0", f"built {len(ALL)}"]
