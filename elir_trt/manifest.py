"""The manifest of a bundle: what was built, how it came out, and the digest of every file."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from elir_trt import __version__
from elir_trt.errors import BundleError
from elir_trt.recipe import Precision, Recipe
from elir_trt.schema import Bounds, Pattern, Schema, SchemaError
from elir_trt.tolerances import PartPrecision

#: Version of the manifest's schema; a bundle with a higher one is from a newer package, those with a lower one open.
#: 2: portable bundles, whose engines are made where they are opened. 3: a ladder of quality.
SCHEMA = 3
FORMAT: Literal["elir_trt bundle"] = "elir_trt bundle"
MANIFEST = "manifest.json"
#: A manifest is small; a larger file is something else.
MANIFEST_LIMIT = 1 << 20


Digest = Annotated[str, Pattern(r"[0-9a-f]{64}", "a SHA-256 in hexadecimal digits")]


@dataclass(frozen=True, kw_only=True)
class BuildSpecification(Schema):
    """Everything that decides what is built. The cache key is derived from every field."""

    recipe: Recipe
    checkpoint: Digest
    """SHA-256 of the checkpoint file."""
    backends: tuple[str, ...]
    """Names of the registry."""
    precision: Precision | None
    """None: FP16 for TensorRT, and on the CPU the fastest that it reports when the bundle is opened."""
    size: tuple[int, int]
    batch: Annotated[int, Bounds(least=1)] = 1
    portable: bool = False
    """The ONNX files are kept: beside engines of one machine, to build these again on another, or alone."""
    quantized: bool = False
    """A portable bundle keeps its parts in INT8 too, where that is near enough to float32."""
    parts: Mapping[str, PartPrecision] = field(default_factory=dict)
    """Precisions that were asked for part by part; the others follow ``precision``."""
    search_floor: float | None = None
    """Least PSNR, in dB, of a search for the fastest precisions; None: there was none."""
    calibration: str | None = None
    """SHA-256 of the frames that precisions were chosen with."""
    half_weights: bool = False
    """CPU engines store their weights in 16 bits: half the size, about 1e-3 relative rounding."""
    workspace_bytes: Annotated[int, Bounds(least=1)] | None = None
    """GPU memory that a layer of a TensorRT engine may use for scratch; None: TensorRT's own limit."""
    builder_optimization_level: Annotated[int, Bounds(least=0, most=5)] | None = None
    """TensorRT's: 0, the fastest build, to 5, the longest search for fast kernels; None: its own."""
    max_aux_streams: Annotated[int, Bounds(least=0)] = 0
    """CUDA streams besides the caller's that a TensorRT engine may use."""
    tensorrt: str | None = None
    """Flavour and version of the TensorRT that built the engines."""
    gpu: str | None = None
    """GPU (name, compute capability; the driver, where they were made on first use) of the TensorRT engines."""
    exporter: int = 3
    """Raised when the export changes what it writes."""

    def key(self) -> str:
        """Hexadecimal digest over every field: equal keys, equal builds."""
        text = json.dumps(self.to_data(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class PartRecord(Schema):
    """How one part of one backend came out."""

    relative_error: float
    """Of the exported file against the float32 part in torch."""
    seconds: float
    """Time to build the engine."""
    layers: int | None = None
    precision: PartPrecision | None = None
    """What the part came out in, where that was chosen part by part."""
    quantized_layers: int | None = None
    """Convolutions in 8 bits: of the engine where it can be read (TensorRT-RTX), else of TensorRT's network."""
    note: str | None = None
    """What was changed from what was asked for, and why."""


@dataclass(frozen=True, kw_only=True)
class SearchRow(Schema):
    """One line of a search: a part in a precision, all others in float32."""

    part: str
    precision: PartPrecision
    ms: float | None = None
    """Median time of a call on the building machine's CPU; None: the engine does not run there."""
    psnr: float
    """Of restored frames against float32, in dB."""
    relative_error: float
    """Of the part's own output."""
    within_bounds: bool
    """Whether that is near enough for the part to be used so."""


@dataclass(frozen=True, kw_only=True)
class AccuracyReport(Schema):
    """The restored frames of a backend, on frames that nothing was calibrated with."""

    psnr: float
    """Against float32, in dB: the worse of the default steps and all of them."""
    search: tuple[SearchRow, ...] = ()


@dataclass(frozen=True, kw_only=True)
class VariantRecord(Schema):
    """One form of a part that a portable bundle keeps as ONNX."""

    relative_error: float
    """Of its output against the float32 part in torch, on frames that nothing was calibrated with."""


@dataclass(frozen=True, kw_only=True)
class GateRecord(Schema):
    """What the reference frames ask of engines."""

    min_psnr: Annotated[float, Bounds(above=0)]
    """Least PSNR of restored frames against float32, in dB."""


@dataclass(frozen=True, kw_only=True)
class Quality(Schema):
    """How near frames are to the clean pictures that they were made of, means over frames."""

    psnr: float
    """In dB."""
    ssim: float
    """Up to 1."""
    ssimulacra2: float | None = None
    """Up to 100; None: the package ssimulacra2 was not there."""


@dataclass(frozen=True, kw_only=True)
class RungRecord(Schema):
    """What a frame can be given: steps, by engines of a precision."""

    steps: Annotated[int, Bounds(least=0)]
    precision: PartPrecision
    """Of every part that the bundle keeps in it; the others are in float32."""
    ms: Annotated[float, Bounds(above=0)]
    """Of a frame on the building machine's CPU, all stages: the fastest of a few, as others may run there too."""
    quality: Quality


@dataclass(frozen=True, kw_only=True)
class LadderRecord(Schema):
    """Time against quality, measured where the bundle was built, with the bundle's size of frames."""

    machine: str
    """The CPU's name, and how many threads engines had."""
    frames: Annotated[int, Bounds(least=1)]
    """How many held-out frames, degraded as the task's are."""
    unrestored: Quality
    """Of these frames as they came."""
    rungs: tuple[RungRecord, ...]
    """The fastest first; what is slower than another without being better in anything is left out."""


@dataclass(frozen=True, kw_only=True)
class Manifest(Schema):
    """The manifest of a bundle."""

    format: Literal["elir_trt bundle"]
    schema_version: int
    specification: BuildSpecification
    condition_width: int
    files: Mapping[str, Digest]
    """SHA-256 of every file but the manifest, by its path in the bundle."""
    parts: Mapping[str, Mapping[str, PartRecord]]
    """Backend, part, record."""
    pipelines: Mapping[str, AccuracyReport] = field(default_factory=dict)
    """By backend, where precisions were chosen part by part."""
    variants: Mapping[str, Mapping[PartPrecision, VariantRecord]] = field(default_factory=dict)
    """Part, precision: the ONNX files that engines are made of where the bundle is opened."""
    gate: GateRecord | None = None
    """Of the reference frames; None: the bundle has its engines with it, and none of these."""
    ladder: LadderRecord | None = None
    """Of a portable bundle; None: it was built by an older package, or nothing could be measured."""
    built_with: Mapping[str, str]
    """Versions of the package, torch, OpenVINO, TensorRT."""
    created: str
    """UTC, ISO 8601."""


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
        return Manifest.from_data(data)
    except SchemaError as error:
        raise BundleError(f"{file}: field {error}") from None


def write_manifest(
    folder: Path,
    specification: BuildSpecification,
    condition_width: int,
    records: Mapping[str, Mapping[str, PartRecord]],
    pipelines: Mapping[str, AccuracyReport],
    built_with: Mapping[str, str],
    variants: Mapping[str, Mapping[PartPrecision, VariantRecord]] | None = None,
    gate: GateRecord | None = None,
) -> Manifest:
    """Finish the bundle in ``folder``: list all of its files with their digests, and how they were made.

    Args:
        folder: with all files of the bundle but the manifest.
        specification: what was built.
        condition_width: numbers in one row of the conditioning table.
        records: by backend and part.
        pipelines: by backend, where precisions were chosen part by part.
        built_with: versions of the packages that took part, but this one's.
        variants, gate: of a portable bundle.
    """
    manifest = Manifest(
        format=FORMAT,
        schema_version=SCHEMA,
        specification=specification,
        condition_width=condition_width,
        files={
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        },
        parts=records,
        pipelines=pipelines,
        variants=variants or {},
        gate=gate,
        built_with={"elir_trt": __version__, **built_with},
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )
    _write(folder, manifest)
    return manifest


def write_ladder(folder: Path, manifest: Manifest, ladder: LadderRecord) -> Manifest:
    """Add to the manifest of a finished bundle in ``folder`` what was measured of it."""
    manifest = replace(manifest, ladder=ladder)
    _write(folder, manifest)
    return manifest


def _write(folder: Path, manifest: Manifest) -> None:
    text = json.dumps(manifest.to_data(), indent=2) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
