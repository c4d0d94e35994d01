"""Bundles: what was built. A folder with a manifest, the conditioning table and the engines.

An engine file is a program, so a bundle opens only if every file that its manifest names has the digest that
the manifest states, and nothing is deserialised before.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from elir_trt.errors import BundleError
from elir_trt.parts import PARTS
from elir_trt.recipe import Precision, Recipe
from elir_trt.tolerances import PartPrecision

#: Version of the manifest's schema; a bundle with a higher one is from a newer package.
SCHEMA = 1
FORMAT = "elir_trt bundle"
MANIFEST = "manifest.json"
CONDITIONING = "conditioning.npy"
#: A manifest is small; a larger file is something else.
MANIFEST_LIMIT = 1 << 20


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BuildSpecification(_Frozen):
    """Everything that decides what is built. The cache key is derived from every field."""

    recipe: Recipe
    checkpoint: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of the checkpoint file."""
    backends: tuple[Literal["openvino", "tensorrt", "tensorrt-rtx", "torch"], ...]
    precision: Precision | None
    """None: FP16 for TensorRT, and on the CPU the fastest that it reports when the bundle is opened."""
    size: tuple[int, int]
    batch: Annotated[int, Field(ge=1)] = 1
    portable: bool = False
    """The ONNX files stand beside the TensorRT engines, to build these again on another machine."""
    parts: Mapping[str, PartPrecision] = {}
    """Precisions that were asked for part by part; the others follow ``precision``."""
    search_floor: float | None = None
    """Least PSNR, in dB, of a search for the fastest precisions; None: there was none."""
    calibration: str | None = None
    """SHA-256 of the frames that precisions were chosen with."""
    half_weights: bool = False
    """CPU engines store their weights in 16 bits: half the size, about 1e-3 relative rounding."""
    tensorrt: str | None = None
    """Flavour and version of the TensorRT that built the engines."""
    gpu: str | None = None
    """GPU (name, compute capability) that the TensorRT engines are for."""
    exporter: int = 1
    """Raised when the export changes what it writes."""

    def key(self) -> str:
        """Hexadecimal digest over every field: equal keys, equal builds."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


class PartRecord(_Frozen):
    """How one part of one backend came out."""

    relative_error: float
    """Of the exported file against the float32 part in torch."""
    seconds: float
    """Time to build the engine."""
    layers: int | None = None
    precision: PartPrecision | None = None
    """What the part came out in, where that was chosen part by part."""
    quantized_layers: int | None = None
    """Convolutions and products that TensorRT's network has in 8 bits."""
    note: str | None = None
    """What was changed from what was asked for, and why."""


class SearchRow(_Frozen):
    """One line of a search: a part in a precision, all others in float32."""

    part: str
    precision: PartPrecision
    ms: float
    """Median time of a call on the building machine's CPU; for TensorRT the float32 part's, scaled."""
    psnr: float
    """Of restored frames against float32, in dB."""
    relative_error: float
    """Of the part's own output."""
    within_bounds: bool
    """Whether that is near enough for the part to be used so."""


class AccuracyReport(_Frozen):
    """The restored frames of a backend, on frames that nothing was calibrated with."""

    psnr: float
    """Against float32, in dB: the worse of the default steps and all of them."""
    search: tuple[SearchRow, ...] = ()


class Manifest(_Frozen):
    """The manifest of a bundle."""

    format: Literal["elir_trt bundle"]
    schema_version: int
    specification: BuildSpecification
    condition_width: int
    files: Mapping[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]
    """SHA-256 of every file but the manifest, by its path in the bundle."""
    parts: Mapping[str, Mapping[str, PartRecord]]
    """Backend, part, record."""
    pipelines: Mapping[str, AccuracyReport] = {}
    """By backend, where precisions were chosen part by part."""
    built_with: Mapping[str, str]
    """Versions of the package, torch, OpenVINO, TensorRT."""
    created: str
    """UTC, ISO 8601."""


class Bundle:
    """An opened bundle: its manifest was read, and its files have the digests that it states."""

    def __init__(self, path: str | Path) -> None:
        """Open the bundle in folder ``path``.

        Raises:
            BundleError: it is missing, incomplete, changed, foreign, or newer than this package; the message
                names the field or the file.
        """
        self.path = Path(path)
        self.manifest = read_manifest(self.path)
        self._contents: dict[str, bytes] = {}
        for name, digest in self.manifest.files.items():
            self._contents[name] = self._verified(name, digest)
        specification = self.manifest.specification
        for backend in specification.backends:
            for part in PARTS:
                for name in engine_files(backend, part):
                    if name not in self._contents:
                        raise BundleError(f"{self.path}: manifest field files: {name} is not listed")
        self.table = self._read_table()

    @property
    def recipe(self) -> Recipe:
        """The recipe that the bundle was built from."""
        return self.manifest.specification.recipe

    def precisions(self, backend: str) -> dict[str, PartPrecision | None]:
        """What each part of a backend came out in; None: what the backend chooses."""
        whole = self.manifest.specification.precision
        records = self.manifest.parts.get(backend, {})
        return {part: records[part].precision or whole if part in records else whole for part in PARTS}

    @property
    def condition_width(self) -> int:
        """Numbers in one row of the conditioning table."""
        return self.manifest.condition_width

    def condition_rows(self, steps: int) -> npt.NDArray[np.float32]:
        """Rows of the conditioning table for ``steps`` steps: ``[steps, condition_width]``."""
        first = steps * (steps - 1) // 2
        return self.table[first : first + steps]

    def read_engine(self, backend: str, part: str) -> list[bytes]:
        """Contents of the files of one engine, verified.

        Raises:
            BundleError: the bundle has no engines of this backend.
        """
        try:
            return [self._contents[name] for name in engine_files(backend, part)]
        except KeyError:
            raise BundleError(
                f"{self.path}: has no {backend} engines, it has "
                f"{', '.join(self.manifest.specification.backends)}; build it again with: "
                f"elir-trt build {self.recipe.task} --backend {backend} --weights CHECKPOINT"
            ) from None

    def read_onnx(self, part: str) -> bytes | None:
        """The file that a part's TensorRT engines are built from, verified; None if the bundle is not portable."""
        return self._contents.get(onnx_file(part))

    def read_reference(self, part: str) -> tuple[bytes, bytes] | None:
        """The float32 part for OpenVINO, verified: kept for this, or the CPU's engine if it is one."""
        names = reference_files(part)
        if names[0] not in self._contents:
            quantized = (self.precisions("openvino")[part] or "").startswith(("int8", "fp8"))
            names = ("", "") if quantized else (f"openvino/{part}.xml", f"openvino/{part}.bin")
        if names[0] not in self._contents:
            return None
        return self._contents[names[0]], self._contents[names[1]]

    def release(self) -> None:
        """Drop the engines' bytes once backends have taken them in."""
        self._contents.clear()

    def _verified(self, name: str, digest: str) -> bytes:
        file = self.path / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise BundleError(f"{self.path}: manifest field files: {name!r} points outside of the bundle")
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            raise BundleError(f"{self.path}: {name} is missing; build the bundle again") from None
        except OSError as error:
            raise BundleError(f"{self.path}: {name} cannot be read: {error.strerror}") from error
        found = hashlib.sha256(content).hexdigest()
        if found != digest:
            raise BundleError(
                f"{self.path}: {name} was changed or cut: its SHA-256 is {found[:12]}..., "
                f"the manifest says {digest[:12]}...; build the bundle again"
            )
        return content

    def _read_table(self) -> npt.NDArray[np.float32]:
        if CONDITIONING not in self._contents:
            raise BundleError(f"{self.path}: manifest field files: {CONDITIONING} is not listed")
        steps = self.recipe.steps
        expected = (steps * (steps + 1) // 2, self.condition_width)
        try:
            table = np.load(io.BytesIO(self._contents[CONDITIONING]), allow_pickle=False)
        except ValueError as error:
            raise BundleError(f"{self.path}: {CONDITIONING} is not an array: {error}") from error
        if table.dtype != np.float32 or table.shape != expected:
            raise BundleError(
                f"{self.path}: {CONDITIONING} is {table.dtype} {table.shape}; expected float32 {expected}"
            )
        return np.ascontiguousarray(table)


def engine_files(backend: str, part: str) -> tuple[str, ...]:
    """Paths in a bundle of the files of one engine."""
    if backend == "openvino":
        return (f"openvino/{part}.xml", f"openvino/{part}.bin")
    if backend == "torch":
        return (f"torch/{part}.npz",)
    return (f"{backend}/{part}.engine",)


def reference_files(part: str) -> tuple[str, str]:
    """Paths in a bundle of the float32 part, where no engine of the bundle is one."""
    return (f"reference/{part}.xml", f"reference/{part}.bin")


def onnx_file(part: str) -> str:
    """Path in a portable bundle of the file that a part's TensorRT engines are built from."""
    return f"onnx/{part}.onnx"


def read_manifest(path: Path) -> Manifest:
    """Read and check the manifest of the bundle in folder ``path``, without opening the engines."""
    file = path / MANIFEST
    if not path.exists():
        raise BundleError(f"{path}: no such bundle; build one with: elir-trt build TASK --weights CHECKPOINT")
    if not path.is_dir() or not file.is_file():
        raise BundleError(f"{path}: not a bundle: it is no folder with a {MANIFEST}")
    try:
        if file.stat().st_size > MANIFEST_LIMIT:
            raise BundleError(f"{file}: {file.stat().st_size} bytes; a manifest has at most {MANIFEST_LIMIT}")
        data: Any = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(f"{file}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BundleError(f"{file}: not a manifest: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise BundleError(f"{file}: foreign: field format is {found!r}; expected {FORMAT!r}")
    version = data.get("schema_version")
    if not isinstance(version, int) or version > SCHEMA:
        raise BundleError(
            f"{file}: newer than this package: field schema_version is {version!r}, this package reads up to "
            f"{SCHEMA}; upgrade with: pip install --upgrade elir_trt"
        )
    try:
        return Manifest.model_validate_json(json.dumps(data), strict=False)
    except ValidationError as error:
        item = error.errors()[0]
        field = ".".join(str(part) for part in item["loc"])
        raise BundleError(
            f"{file}: field {field}: {item['msg']} (found {str(item['input'])[:80]!r})"
        ) from None


def cache_folder() -> Path:
    """Where built bundles are kept: ``$ELIR_TRT_CACHE``, or ``elir_trt`` in the user's cache folder."""
    own = os.environ.get("ELIR_TRT_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "elir_trt"


def shipped_folder() -> Path:
    """Where the bundles that ship with the package are."""
    return Path(__file__).resolve().parent / "bundles"


def find_bundle(name_or_path: str | Path) -> Path:
    """The folder of a bundle, given its path or the name of a task.

    A name stands for the newest bundle of that task in the cache, else for one that ships with the package.

    Raises:
        BundleError: there is none; the message says how to build one.
    """
    path = Path(name_or_path)
    name = str(name_or_path)
    if (path / MANIFEST).is_file() or path.is_file() or path.name != name:
        return path
    built = []
    for folder in (cache_folder() / "bundles").glob(f"{name}-*"):
        try:
            manifest = read_manifest(folder)
        except BundleError:
            continue
        if manifest.specification.recipe.task == name:
            built.append((manifest.created, folder))
    if built:
        return max(built)[1]
    shipped = shipped_folder() / name
    if shipped.is_dir():
        return shipped
    if path.is_dir():
        return path
    there = sorted(folder.name for folder in shipped_folder().glob("*") if (folder / MANIFEST).is_file())
    raise BundleError(
        f"no bundle named '{name}': it is neither built, nor a folder, nor among those that ship with the "
        f"package ({', '.join(there) or 'none'}); build it with: elir-trt build {name} --weights CHECKPOINT"
    )
