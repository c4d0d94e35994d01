"""A backend is one class and one line of the registry: a toy one builds, opens and restores through the real core."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import small_recipe

import elir_trt
from elir_trt import backends
from elir_trt.backends import (
    Backend,
    Buffers,
    Compiled,
    CompileOptions,
    Enqueue,
    PartSource,
    Probe,
)
from elir_trt.building import build
from elir_trt.bundle import Bundle
from elir_trt.errors import BackendError, BuildError
from elir_trt.parts import OUTPUTS, PARTS
from elir_trt.recipe import Precision
from elir_trt.tolerances import PartPrecision

BRIGHTNESS = 0.5


@dataclasses.dataclass
class ToyEngines:
    """Every picture is of one brightness, which the decoder's engine states."""

    brightness: float
    name: str = "toy"
    precision: str = "fp32"
    device: str = "cpu"
    element: str = "float32"
    batch: int | None = None

    def sizes(self) -> None:
        return None

    def bind(self, size: tuple[int, int], batch: int, buffers: Buffers) -> Mapping[str, Enqueue]:
        def fill(part: str) -> Enqueue:
            output = buffers.buffer(OUTPUTS[part])
            return lambda stream_handle: output.fill(self.brightness if part == "decoder" else 0.0)

        return {part: fill(part) for part in PARTS}

    def stream_closed(self) -> None:
        pass


class Toy:
    """The whole backend."""

    name = "toy"
    title = "Toy"
    devices: tuple[str, ...] = ("cpu",)
    distribution = "numpy"
    precisions: tuple[PartPrecision, ...] = ("fp32", "fp16")
    by_part = False
    lowers_precision = True
    tunes = False
    rebuilds = False
    quantized_residuals = False

    def installed(self) -> bool:
        return True

    def is_default(self, others: Sequence[Backend], gpu: bool) -> bool:
        return False

    def probe(self) -> Probe:
        return Probe(True, "1.0")

    def version_tag(self) -> None:
        return None

    def engine_files(self, part: str) -> tuple[str, ...]:
        return (f"toy/{part}.json",)

    def keeps_float32(self, precision: PartPrecision | None) -> bool:
        return False

    def base_precision(self, wanted: Precision | None) -> Precision:
        return wanted or "fp32"

    def compile(self, source: PartSource, files: Sequence[Path], options: CompileOptions) -> Compiled:
        options.progress("writing")
        count = sum(value.size for value in source.weights().values())
        files[0].write_text(json.dumps({"weights": count, "brightness": BRIGHTNESS}))
        return Compiled(seconds=0.0, layers=1, relative_error=0.25)

    def runner(self, onnx: bytes, part: str, precision: PartPrecision | None) -> None:
        return None

    def reason_against(self, part: str, quantized: bytes, floating: bytes, precision: PartPrecision) -> None:
        return None

    def load(self, bundle: Bundle, device: str) -> ToyEngines:
        (content,) = bundle.read_engine("toy", "decoder")
        found: dict[str, Any] = json.loads(content)
        if "brightness" not in found:
            raise BackendError(f"{bundle.path}: the decoder has no brightness")
        return ToyEngines(found["brightness"])


TOY = Toy()


@pytest.fixture(scope="module")
def bundle(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bundle of the toy alone; nothing but the registry knows it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backends.REGISTRY, "toy", f"{__name__}:TOY")
        output = tmp_path_factory.mktemp("toy") / "b"
        yield build(small_recipe(), small_checkpoint, output=output, backends=["toy"]).path


def test_it_is_listed_and_found(bundle: Path) -> None:
    assert backends.names()[-1] == "toy" and backends.registry()[-1] is TOY
    assert backends.get("toy") is TOY


def test_it_builds(bundle: Path) -> None:
    manifest = Bundle(bundle).manifest
    assert manifest.specification.backends == ("toy",)
    assert (manifest.specification.tensorrt, manifest.specification.gpu) == (None, None)
    assert {f"toy/{part}.json" for part in PARTS} <= set(manifest.files)
    assert manifest.parts["toy"]["decoder"].relative_error == 0.25
    assert json.loads((bundle / "toy" / "decoder.json").read_text())["weights"] > 0
    # The float32 parts are kept, to verify it against.
    assert Bundle(bundle).read_reference("decoder") is not None


@pytest.mark.parametrize("backend", ["auto", "toy"])
def test_it_runs(bundle: Path, backend: str) -> None:
    frame = np.zeros((64, 128, 3), np.uint8)
    with elir_trt.open(bundle, backend=backend, device="cpu") as restorer:
        assert restorer.engines.name == "toy"
        assert (restorer(frame) == round(255 * BRIGHTNESS)).all()
        with restorer.stream(depth=2) as stream:
            results = list(stream.map([frame] * 3))
    assert [result.index for result in results] == [0, 1, 2]
    assert all((result.frame == round(255 * BRIGHTNESS)).all() for result in results)


def test_what_it_does_not_have_is_refused(bundle: Path, small_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="precision is 'int8'; the backend toy has fp32 and fp16"):
        build(small_recipe(), small_checkpoint, output=tmp_path / "n", backends=["toy"], precision="int8")
    with pytest.raises(elir_trt.DeviceError, match="the backend toy runs on cpu"):
        elir_trt.open(bundle, backend="toy", device="cuda")
