"""Building the engines of a portable bundle again, for the machine that is here."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from elir_trt import backends
from elir_trt.backends import CompileOptions
from elir_trt.bundle import CONDITIONING, Bundle, cache_folder, onnx_file, reference_files
from elir_trt.errors import BuildError, BundleError
from elir_trt.files import locked, written_folder
from elir_trt.gpu import gpu_tag
from elir_trt.manifest import AccuracyReport, PartRecord, write_manifest
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


def rebuild_engines(bundle: Bundle, name: str) -> Path:
    """Build the engines of a backend for the device and the version that are here.

    Needs no torch. The result is a bundle in the user's cache, found again the next time.

    Args:
        bundle: opened, and not released.
        name: of the backend.

    Returns:
        the folder of the new bundle.

    Raises:
        BuildError: the bundle is not portable, or the backend refuses a file.
    """
    backend = backends.get(name)
    old = bundle.manifest.specification
    if not old.portable:
        raise BuildError(
            f"{bundle.path}: its engines cannot be built again here: it has no ONNX files; build it with: "
            f"elir-trt build {bundle.recipe.task} --portable --weights CHECKPOINT"
        )
    specification = old.model_copy(
        update={"backends": (name,), "tensorrt": backend.version_tag(), "gpu": gpu_tag()}
    )
    path = cache_folder() / "bundles" / f"{bundle.recipe.task}-{specification.key()[:16]}"
    # Precisions and accuracy are those of the ONNX files, so those of any backend that these were made for.
    made_for = next(other for other in old.backends if other == name or backends.get(other).rebuilds)
    with locked(path):
        with contextlib.suppress(BundleError):
            if Bundle(path).manifest.specification == specification:
                return path
        with written_folder(path) as folder:
            np.save(folder / CONDITIONING, bundle.table, allow_pickle=False)
            options = CompileOptions.of(old, cache=cache_folder() / "timing")
            records: dict[str, PartRecord] = {}
            for part in PARTS:
                onnx = bundle.read_onnx(part)
                assert onnx is not None
                _write(folder, {onnx_file(part): onnx})
                files = [folder / file for file in backend.engine_files(part)]
                files[0].parent.mkdir(exist_ok=True)
                built = backend.compile(_KeptPart(part, onnx), files, options)
                records[part] = bundle.manifest.parts[made_for][part].model_copy(
                    update={
                        "seconds": built.seconds,
                        "layers": built.layers,
                        "quantized_layers": built.quantized_layers,
                    }
                )
                reference = bundle.read_reference(part)
                if reference is not None:
                    _write(folder, dict(zip(reference_files(part), reference, strict=True)))
            accuracy = bundle.manifest.pipelines.get(made_for)
            versions = backends.versions()
            pipelines: dict[str, AccuracyReport] = {} if accuracy is None else {name: accuracy}
            write_manifest(
                folder, specification, bundle.condition_width, {name: records}, pipelines, versions
            )
    return path


def _write(folder: Path, contents: Mapping[str, bytes]) -> None:
    for name, content in contents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
