"""Building the engines that a bundle holds again, from the ONNX files beside them, for the machine that is here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from elir_trt import backends
from elir_trt.backends import CompileOptions
from elir_trt.bundle import CONDITIONING, Bundle, cache_folder, onnx_file, reference_files
from elir_trt.errors import BuildError, BundleError
from elir_trt.files import locked, written_folder
from elir_trt.gpu import gpu_tag
from elir_trt.manifest import AccuracyReport, BuildSpecification, PartRecord, write_manifest
from elir_trt.parts import PARTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from elir_trt.backends.base import Array
    from elir_trt.recipe import Precision


@dataclass(frozen=True)
class _KeptPart:
    """A part as the bundle keeps it, in the precision that it was built in."""

    part: str
    data: bytes

    def onnx(self, precision: Precision) -> bytes:
        return self.data

    def weights(self) -> Mapping[str, Array]:
        raise BuildError(f"{self.part}: a portable bundle keeps the ONNX file, and no weights")


def rebuild_engines(bundle: Bundle, name: str, say: Callable[[str], None] = lambda text: None) -> Path:
    """Build the engines of a backend for the device and the version that are here.

    Needs no torch. The result is a bundle in the user's cache, found again the next time.

    Args:
        bundle: opened, and not released.
        name: of the backend.
        say: is called with what is being done.

    Returns:
        the folder of the new bundle.

    Raises:
        BuildError: the bundle is not portable, or the backend refuses a file.
    """
    specification = _specification(bundle, name)
    path = cache_folder() / "bundles" / f"{bundle.recipe.task}-{specification.key()[:16]}"
    with locked(path):
        with contextlib.suppress(BundleError):
            if Bundle(path).manifest.specification == specification:
                return path
        with written_folder(path) as folder:
            _build_into(folder, bundle, name, specification, say)
    return path


def _specification(bundle: Bundle, name: str) -> BuildSpecification:
    """What is built for the machine that is here."""
    old = bundle.manifest.specification
    if not old.portable:
        raise BuildError(
            f"{bundle.path}: its engines cannot be built again here: it has no ONNX files; build it with: "
            f"elir-trt build {bundle.recipe.task} --portable --weights CHECKPOINT"
        )
    tag = backends.get(name).version_tag()
    return replace(old, backends=(name,), tensorrt=tag, gpu=gpu_tag(driver=True))


def _build_into(
    folder: Path,
    bundle: Bundle,
    name: str,
    specification: BuildSpecification,
    say: Callable[[str], None],
) -> None:
    backend = backends.get(name)
    np.save(folder / CONDITIONING, bundle.table, allow_pickle=False)
    options = CompileOptions.of(specification, cache=cache_folder() / "timing", progress=say)
    records: dict[str, PartRecord] = {}
    for part in PARTS:
        say(f"{backend.title}: making the {part} engine")
        onnx, record = _kept(bundle, part, name)
        _write(folder, {onnx_file(part): onnx})
        files = [folder / file for file in backend.engine_files(part)]
        files[0].parent.mkdir(exist_ok=True)
        built = backend.compile(_KeptPart(part, onnx), files, options)
        records[part] = replace(
            record, seconds=built.seconds, layers=built.layers, quantized_layers=built.quantized_layers
        )
        reference = bundle.read_reference(part)
        if reference is not None:
            _write(folder, dict(zip(reference_files(part, len(reference)), reference, strict=True)))
    old = bundle.manifest.pipelines
    accuracy = next((old[other] for other in _made_for(bundle, name) if other in old), None)
    pipelines: dict[str, AccuracyReport] = {} if accuracy is None else {name: accuracy}
    versions = backends.versions()
    write_manifest(folder, specification, bundle.condition_width, {name: records}, pipelines, versions)


def _made_for(bundle: Bundle, name: str) -> list[str]:
    """Backends that the bundle's ONNX files were made for: precisions and accuracy are theirs."""
    built = bundle.manifest.specification.backends
    return [other for other in built if other == name or backends.get(other).rebuilds]


def _kept(bundle: Bundle, part: str, name: str) -> tuple[bytes, PartRecord]:
    """The file that an engine is made of, and how it came out."""
    onnx = bundle.read_onnx(part)
    assert onnx is not None
    return onnx, bundle.manifest.parts[_made_for(bundle, name)[0]][part]


def _write(folder: Path, contents: Mapping[str, bytes]) -> None:
    for name, content in contents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
