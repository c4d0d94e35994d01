"""The engine of frames without steps: encoder, coarse and decoder in one, where these frames are usual."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import small_recipe
from test_stream import psnr, torch_restored

import elir_trt
from elir_trt.backends.openvino import OPENVINO
from elir_trt.building import build
from elir_trt.bundle import Bundle
from elir_trt.parts import PARTS
from elir_trt.tuning import measure
from elir_trt.tuning.choice import open_engines, store
from elir_trt.tuning.store import DirectKey

SIZE = (64, 128)


@pytest.fixture(scope="module")
def stepless_bundle(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A portable bundle whose frames take no steps by default."""
    path = tmp_path_factory.mktemp("bundles") / "stepless"
    return build(small_recipe(default_steps=0), small_checkpoint, output=path, min_psnr=20.0).path


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELIR_TRT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(measure, "AUTO_SECONDS", 600.0)  # However busy the machine is.


def times_of(monkeypatch: pytest.MonkeyPatch, direct_ms: float) -> None:
    """Let a frame through one engine take so long, and one through several 10 ms."""
    real = measure._Measurement._in_turns

    def in_turns(self: Any, *runs: Any) -> Any:
        real(self, *runs)
        return [10.0, direct_ms] if runs[0][1] == runs[1][1] else [20.0, 10.0]

    monkeypatch.setattr(measure._Measurement, "_in_turns", in_turns)


@pytest.mark.parametrize("tune", ["auto", "full"])
def test_frames_without_steps_go_through_one_engine(
    stepless_bundle: Path, small_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tune: Any
) -> None:
    times_of(monkeypatch, 8.0)
    # Which types are the fastest is the machine's to say, and not all of them go together in one engine.
    monkeypatch.setattr(OPENVINO, "tuned_precisions", lambda: ("fp32",))
    frame = np.random.default_rng(1).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    for _ in range(2):  # The second time everything is found.
        with elir_trt.open(stepless_bundle, device="cpu", tune=tune) as restorer:
            choice = restorer.choice
            assert choice is not None and choice.direct
            assert (choice.apart_ms, choice.direct_ms) == (10.0, 8.0)
            assert choice.ms in (None, 8.0) and choice.psnr is not None and choice.psnr >= 20.0
            with restorer.stream(depth=1, size=SIZE) as stream:
                for steps in (0, 2, 0):
                    stream.submit(frame, steps=steps)
                    result = stream.result()
                    assert psnr(result.frame, torch_restored(small_checkpoint, frame, steps)) >= 20.0
                    through = {name for name in ("encoder", "coarse", "direct") if result.stages[name]}
                    assert through == ({"direct"} if steps == 0 else {"encoder", "coarse"})


def test_it_is_the_parts_in_one(stepless_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 not even rounding differs by more than a level."""
    monkeypatch.setattr(OPENVINO, "tuned_precisions", lambda: ("fp32",))
    frame = np.random.default_rng(1).integers(0, 256, (96, 64, 3), dtype=np.uint8)
    restored = []
    for direct_ms in (8.0, 12.0):
        times_of(monkeypatch, direct_ms)
        monkeypatch.setenv("ELIR_TRT_CACHE", str(Path(stepless_bundle).parent / f"cache{direct_ms}"))
        with elir_trt.open(stepless_bundle, device="cpu") as restorer:
            assert restorer.choice is not None and restorer.choice.direct == (direct_ms < 10.0)
            restored.append(restorer(frame).astype(int))
    assert np.abs(restored[0] - restored[1]).max() <= 1


def test_one_that_drifts_or_is_slower_is_not_taken(
    stepless_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times_of(monkeypatch, 8.0)
    monkeypatch.setattr(OPENVINO, "tuned_precisions", lambda: ("fp32",))
    real = OPENVINO.compile_direct

    def wrong(onnx: Mapping[str, bytes], precisions: Any, shapes: Any) -> bytes:
        # Without the coarse part: the shapes fit, and nothing else does.
        from elir_trt.backends import openvino

        models = [openvino._reshaped(onnx[part], shapes) for part in ("encoder", "decoder")]
        return openvino._exported(openvino._joined(models), "f32")

    monkeypatch.setattr(OPENVINO, "compile_direct", wrong)
    bundle = Bundle(stepless_bundle)
    monkeypatch.setattr(bundle, "manifest", _stricter(bundle))
    choice = open_engines(bundle, "openvino").choice
    assert choice is not None and not choice.direct and choice.direct_ms is None
    monkeypatch.setattr(OPENVINO, "compile_direct", real)
    monkeypatch.setattr(OPENVINO, "engine_version", lambda: "another")
    times_of(monkeypatch, 12.0)
    choice = open_engines(Bundle(stepless_bundle), "openvino").choice
    assert choice is not None and not choice.direct and choice.direct_ms == 12.0
    kept = [record.read_text() for record in store().folder.rglob("record.json")]
    assert kept and not any('"precisions": [' in text for text in kept)


def _stricter(bundle: Bundle) -> Any:
    from dataclasses import replace

    assert bundle.manifest.gate is not None
    return replace(bundle.manifest, gate=replace(bundle.manifest.gate, min_psnr=30.0))


def test_parts_of_two_float_types_are_not_joined() -> None:
    assert OPENVINO.joins({"encoder": "fp32", "coarse": "fp32", "velocity": "bf16", "decoder": "fp32"})
    assert not OPENVINO.joins({"encoder": "fp32", "coarse": "bf16", "velocity": "bf16", "decoder": "bf16"})


def test_its_key_names_the_precisions_of_its_parts() -> None:
    fields = {"bundle": "b", "backend": "o", "version": "1", "machine": "m", "size": SIZE, "batch": 1}
    key = DirectKey(**fields, precisions=("int8", "bf16", "int8"))
    chosen = {"encoder": "int8", "coarse": "bf16", "velocity": "fp32", "decoder": "int8"}
    assert key.is_of(chosen) and not key.is_of({**chosen, "coarse": "int8"})
    assert key.digest() != DirectKey(**fields, precisions=("int8", "int8", "int8")).digest()
    assert DirectKey.from_data(key.to_data()) == key


def test_where_time_is_up_it_is_left_out_and_said(
    stepless_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fastest assignment is compared however late it is; what comes after that is not."""
    monkeypatch.setattr(measure, "AUTO_SECONDS", 0.0)
    monkeypatch.setattr(OPENVINO, "tuned_precisions", lambda: ("fp32", "int8"))
    real = measure._Measurement._in_turns
    compared: list[Any] = []

    def in_turns(self: Any, *runs: Any) -> Any:
        compared.append([dict(assignment) for _, assignment in runs])
        real(self, *runs)
        return [20.0, 10.0]

    def time_parts(self: Any) -> None:
        self._times = {(part, p): ms for part in PARTS for p, ms in (("fp32", 9.0), ("int8", 3.0))}
        self._times.pop(("velocity", "int8"), None)

    monkeypatch.setattr(measure._Measurement, "_in_turns", in_turns)
    monkeypatch.setattr(measure._Measurement, "_time_parts", time_parts)
    choice = open_engines(Bundle(stepless_bundle), "openvino").choice
    assert choice is not None and not choice.complete and not choice.direct and choice.direct_ms is None
    assert choice.precisions["encoder"] == "int8" and len(compared) == 1


@pytest.mark.parametrize(("slow_ms", "hopeless"), [(9.0, False), (11.0, True)])
def test_a_type_that_is_much_slower_in_every_part_is_not_timed_on(slow_ms: float, hopeless: bool) -> None:
    measurement = object.__new__(measure._Measurement)
    times: dict[Any, list[float]] = {
        ("encoder", "fp32"): [10.0, 12.0],
        ("coarse", "fp32"): [5.0],
        ("encoder", "bf16"): [30.0],
        ("coarse", "bf16"): [slow_ms],
    }
    assert measurement._is_hopeless("bf16", times) is hopeless
    assert not measurement._is_hopeless("fp32", times)
