"""Choices for sizes: that of the bundle's size serves all others but those that were chosen for by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elir_trt
from elir_trt.backends.openvino import OPENVINO
from elir_trt.bundle import Bundle
from elir_trt.errors import BackendError
from elir_trt.parts import PARTS
from elir_trt.tuning import measure
from elir_trt.tuning.candidates import machine_key
from elir_trt.tuning.choice import choices_here, choose_for, open_engines, store
from elir_trt.tuning.store import Choice

OTHER = (96, 64)


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELIR_TRT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(measure, "AUTO_SECONDS", 600.0)  # However busy the machine is.


def test_a_size_is_measured_by_itself_and_its_choice_used_there_alone(
    portable_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (*OTHER, 3), dtype=np.uint8)
    bundle = Bundle(portable_bundle)
    key = machine_key(bundle.digest, OPENVINO, bundle.manifest.specification.size, 1)
    own = Choice(precisions=dict.fromkeys(PARTS, "int8") | {"velocity": "fp32"}, tune="auto")
    store().keep_choice(key, own)
    compiled: list[tuple[str, str]] = []
    real = OPENVINO.compile_tuned

    def compile_tuned(onnx: bytes, part: str, precision: Any, shapes: Any, options: Any) -> bytes:
        compiled.append((part, precision))
        return real(onnx, part, precision, shapes, options)

    monkeypatch.setattr(OPENVINO, "compile_tuned", compile_tuned)
    with elir_trt.open(portable_bundle, device="cpu") as restorer:
        restorer(frame)
        assert dict(compiled) == own.precisions and len(compiled) == len(PARTS)
        # Now only float32 is measured to be any good.
        monkeypatch.setattr(OPENVINO, "tuned_precisions", lambda: ("fp32",))
        said: list[str] = []
        choice = choose_for(bundle, restorer.engines, OTHER, "auto", said.append)
        assert dict(choice.precisions) == dict.fromkeys(PARTS, "fp32")
        assert {row.precision for row in choice.rows} == {
            "fp32"
        } and "timing the parts in every precision" in said
        assert choices_here(bundle) == [("openvino", own), ("openvino at 96x64", choice)]
        compiled.clear()
        with restorer.stream(depth=1, size=OTHER):
            assert compiled == []  # They were kept when they were measured.
        with restorer.stream(depth=1, size=(128, 64)):
            assert dict(compiled) == own.precisions
    with elir_trt.open(portable_bundle, device="cpu", progress=said.append) as restorer:
        assert restorer.choice == own


def test_another_bundle_in_its_place_is_not_mixed_in(portable_bundle: Path, tmp_path: Path) -> None:
    import shutil

    from bundles import edit_manifest

    from elir_trt.errors import BundleError

    path = Path(shutil.copytree(portable_bundle, tmp_path / "b"))
    bundle = Bundle(path)
    engines = open_engines(bundle, "openvino", tune="off").engines
    assert bundle.manifest.specification.size != OTHER
    other = Choice(precisions=dict.fromkeys(PARTS, "int8") | {"velocity": "fp32"}, tune="auto")
    store().keep_choice(machine_key(bundle.digest, OPENVINO, OTHER, 1), other)
    edit_manifest(path, lambda manifest: manifest.update(created="2000-01-01T00:00:00+00:00"))
    with pytest.raises(BundleError, match="is another bundle than the one that was opened"):
        engines.source.at(OTHER)  # type: ignore[attr-defined]


def test_engines_of_one_size_say_so(portable_bundle: Path) -> None:
    class Engines:
        name = "torch"

    with pytest.raises(BackendError, match=r"elir-trt build small --size 96x64"):
        choose_for(Bundle(portable_bundle), Engines(), OTHER)  # type: ignore[arg-type]
