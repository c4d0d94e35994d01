"""Building a bundle: specification, cache, export, engines, manifest; written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from elir_trt import backends as known_backends
from elir_trt.backends import Backend, Compiled, CompileOptions
from elir_trt.building.request import can_quantize, resolve_backends, resolve_precisions
from elir_trt.bundle import CONDITIONING, Bundle, cache_folder, onnx_file, reference_files
from elir_trt.errors import BuildError, BundleError, CheckpointError
from elir_trt.extras import install_command
from elir_trt.files import locked, written_folder
from elir_trt.geometry import LARGEST_BATCH
from elir_trt.gpu import gpu_tag
from elir_trt.manifest import (
    AccuracyReport,
    BuildSpecification,
    Manifest,
    PartRecord,
    write_ladder,
    write_manifest,
)
from elir_trt.parts import PARTS
from elir_trt.recipe import SIZE_MULTIPLE, Recipe

if TYPE_CHECKING:
    from elir_trt.building.precision import Choice
    from elir_trt.building.sources import ModelPart
    from elir_trt.model.elir import Elir
    from elir_trt.samples import Samples, Source

#: Called with what is being done, how many units are done and how many there are.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class BuildReport:
    """What a build did.

    Attributes:
        path: the bundle's folder.
        cached: the bundle was already there, with the same key.
        seconds: wall-clock time.
        manifest: of the bundle.
    """

    path: Path
    cached: bool
    seconds: float
    manifest: Manifest


def build(
    recipe: Recipe,
    weights: str | Path,
    *,
    output: str | Path | None = None,
    backends: Sequence[str] | None = None,
    precision: str | None = None,
    calibrate: Source | str | None = None,
    min_psnr: float = 40.0,
    size: tuple[int, int] | None = None,
    batch: int = 1,
    half_weights: bool = False,
    portable: bool = False,
    workspace_bytes: int | None = None,
    builder_optimization_level: int | None = None,
    max_aux_streams: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> BuildReport:
    """Build a bundle, or find it in the cache.

    Args:
        recipe: what to build.
        weights: checkpoint: the published ``.pth``, training's ``.ckpt`` or an ``.npz``.
        output: folder of the bundle; None: the user's cache, under the task and the specification's key.
        backends: for which to build engines of this machine into the bundle. None: none; the bundle is portable,
            and each machine that opens it makes engines for itself, of what it measures to be fastest. Where
            ``precision`` is given, None stands for all that can be built here.
        precision: of the engines: "fp32", "bf16", "fp16", "int8" (but for the first and the last
            convolution), "int8-full" or "fp8" (TensorRT alone), for all parts or as
            "velocity=int8,decoder=fp16"; "auto" searches for the fastest on this machine that keeps
            ``min_psnr``. A part that its precision takes too far from float32, or that is known to gain nothing
            from it, is built a precision higher, and the manifest says so. None: the recipe's, else FP16 for
            TensorRT and the CPU's fastest.
        calibrate: clean pictures for INT8, FP8 and "auto", and for float32's reference frames: a folder, an image, a
            video, or arrays ``[H, W, 3]`` (uint8, or floats in [0, 1]); they are degraded as the task's are. None:
            procedural ones.
        min_psnr: of restored frames against float32, in dB, that "auto" keeps, and that is asked of whatever engines
            a machine makes of a portable bundle.
        size: height and width of the engines' input; None: the recipe's. OpenVINO engines are reshaped to
            other sizes when they are opened, TensorRT engines are not.
        batch: tiles that go through the engines together, 1 to 64. TensorRT engines then always take so many,
            OpenVINO and torch no more than a frame has.
        half_weights: keep the weights of CPU engines and of torch in 16 bits.
        portable: keep the ONNX files beside TensorRT's engines, so that a machine without torch can build these
            again for its GPU (``elir_trt.open(..., on_engine_error="rebuild")``).
        workspace_bytes, builder_optimization_level, max_aux_streams: of TensorRT, under its names: GPU memory that a
            layer may use for scratch; how long kernels are searched for, 0 to 5 (None: what TensorRT takes); CUDA
            streams besides its own that an engine may use.
        force: build even if the cache has this very bundle, and replace what is in ``output``.
        progress: is called as the work goes on.

    Raises:
        CheckpointError, ExportError, CalibrationError, BuildError: with the reason. Nothing is left behind.
    """
    began = time.perf_counter()
    weights = Path(weights)
    size = size or recipe.size
    for name, value in zip(("height", "width"), size, strict=True):
        if value <= 0 or value % SIZE_MULTIPLE:
            raise BuildError(f"size: {name} is {value}; it must be a positive multiple of {SIZE_MULTIPLE}")
    if not 1 <= batch <= LARGEST_BATCH:
        raise BuildError(f"batch is {batch}; expected 1 to {LARGEST_BATCH}")
    if workspace_bytes is not None and workspace_bytes <= 0:
        raise BuildError(f"workspace_bytes is {workspace_bytes}; expected a positive number")
    if builder_optimization_level is not None and not 0 <= builder_optimization_level <= 5:
        raise BuildError(f"builder_optimization_level is {builder_optimization_level}; expected 0 to 5")
    if max_aux_streams < 0:
        raise BuildError(f"max_aux_streams is {max_aux_streams}; expected 0 or more")
    if min_psnr <= 0:
        raise BuildError(f"min_psnr is {min_psnr:g}; expected more than 0 dB")
    if calibrate is not None and not can_quantize():
        raise BuildError(
            f"INT8 needs NNCF and ONNX Runtime; install them with: {install_command('quantize')}"
        )
    leaves_engines = backends is None and precision is None
    chosen = () if leaves_engines else resolve_backends(backends)
    precisions = resolve_precisions(precision, recipe, chosen)
    samples = None
    if precisions.parts or precisions.searched or leaves_engines:
        from elir_trt.samples import load_samples

        source = Path(calibrate) if isinstance(calibrate, str) else calibrate
        samples = load_samples(recipe, size, source)
    tags = [tag for backend in chosen if (tag := backend.version_tag()) is not None]
    specification = BuildSpecification(
        recipe=recipe,
        checkpoint=file_digest(weights),
        backends=tuple(backend.name for backend in chosen),
        precision=precisions.whole,
        parts=precisions.parts,
        search_floor=min_psnr if precisions.searched or leaves_engines else None,
        calibration=samples.digest if samples else None,
        size=size,
        batch=batch,
        half_weights=half_weights,
        quantized=leaves_engines and can_quantize(),
        portable=leaves_engines or (portable and any(backend.rebuilds for backend in chosen)),
        workspace_bytes=workspace_bytes,
        builder_optimization_level=builder_optimization_level,
        max_aux_streams=max_aux_streams,
        tensorrt="+".join(tags) or None,
        gpu=gpu_tag() if tags else None,
    )
    name = f"{recipe.task}-{specification.key()[:16]}"
    path = Path(output) if output is not None else cache_folder() / "bundles" / name
    with _writable(path), locked(path):
        if not force and path.exists():
            try:
                found = Bundle(path)
            except BundleError:
                if output is not None:
                    raise BuildError(f"{path}: exists and is not this bundle; use --force") from None
            else:
                if found.manifest.specification == specification:
                    return BuildReport(path, True, time.perf_counter() - began, found.manifest)
                if output is not None:
                    raise BuildError(f"{path}: holds another bundle; use --force or another --output")
        with written_folder(path) as folder:
            manifest = _build_into(folder, specification, weights, progress or (lambda *_: None), samples)
    return BuildReport(path, False, time.perf_counter() - began, manifest)


def file_digest(path: Path) -> str:
    """SHA-256 of a checkpoint file, in hexadecimal."""
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
            return digest.hexdigest()
    except IsADirectoryError:
        raise CheckpointError(f"{path}: is a folder; expected a checkpoint file") from None
    except OSError as error:
        raise CheckpointError(f"{path}: no readable checkpoint: {error.strerror}") from error


@contextlib.contextmanager
def _writable(path: Path) -> Iterator[None]:
    """Say plainly that the bundle cannot be written where it should be."""
    try:
        yield
    except PermissionError as error:
        raise BuildError(
            f"{path.parent}: no permission to write the bundle there; choose another --output"
        ) from error
    except OSError as error:
        if error.errno in (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EEXIST):
            raise BuildError(f"{path.parent}: the bundle cannot be written: {error.strerror}") from error
        raise


def _build_into(
    folder: Path,
    specification: BuildSpecification,
    weights: Path,
    progress: Progress,
    samples: Samples | None,
) -> Manifest:
    try:
        from elir_trt.building.export import conditioning_table
        from elir_trt.building.ladder import measure_ladder
        from elir_trt.building.portable import write_portable
        from elir_trt.model.checkpoint import load_model
    except ImportError as error:
        raise BuildError(
            f"building needs torch and onnx ({error}); install them with: pip install 'elir_trt[export]'"
        ) from error
    recipe = specification.recipe
    chosen = [known_backends.get(name) for name in specification.backends]
    total = 1 + len(PARTS) * max(1, len(chosen))
    progress("reading the checkpoint", 0, total)
    model = load_model(weights, recipe.architecture)
    np.save(folder / CONDITIONING, conditioning_table(model, recipe.steps), allow_pickle=False)
    versions = {**known_backends.versions(), "onnx": metadata.version("onnx")}
    width = model.fmir.condition_width
    if not chosen:
        assert samples is not None
        variants, gate = write_portable(
            folder, specification, model, samples, lambda what, done: progress(what, done, total)
        )
        manifest = write_manifest(folder, specification, width, {}, {}, versions, variants, gate)
        ladder = measure_ladder(Bundle(folder), samples, lambda what: progress(what, total - 1, total))
        if ladder is not None:
            manifest = write_ladder(folder, manifest, ladder)
        progress("done", total, total)
        return manifest
    work = _Work(folder, specification, model)
    pipelines: dict[str, AccuracyReport] = {}
    done = 1
    for backend in chosen:
        choice = None
        if samples is not None:
            choice = _choose(work, samples, backend, partial(_say, progress, done, total, ""))
            pipelines[backend.name] = AccuracyReport(psnr=choice.psnr, search=tuple(choice.search))
        for part in PARTS:
            progress(f"{backend.name}: {part}", done, total)
            what = f"{backend.name}: {part}: "
            work.build_part(backend, part, choice, partial(_say, progress, done, total, what))
            done += 1
    work.write_references()
    progress("done", total, total)
    return write_manifest(folder, specification, width, work.records, pipelines, versions)


def _say(progress: Progress, done: int, total: int, what: str, text: str) -> None:
    progress(what + text, done, total)


def _choose(work: _Work, samples: Samples, backend: Backend, say: Callable[[str], None]) -> Choice:
    try:
        from elir_trt.building.precision import LEAST_PSNR, Chooser
    except ImportError as error:
        raise BuildError(
            f"choosing precisions needs torch and onnx ({error}); install them with: "
            "pip install 'elir_trt[quantize]'"
        ) from error
    specification = work.specification
    say(f"{backend.name}: running the calibration frames")
    chooser = Chooser(
        work.model,
        specification.recipe,
        samples,
        size=specification.size,
        backend=backend.name,
        base=backend.base_precision(specification.precision),
    )
    if specification.search_floor is not None:
        return chooser.search(specification.search_floor, say)
    return chooser.named(specification.parts, LEAST_PSNR, say)


@dataclass
class _Work:
    """A bundle that is being built in ``folder``."""

    folder: Path
    specification: BuildSpecification
    model: Elir
    records: dict[str, dict[str, PartRecord]] = field(default_factory=dict)

    def source(self, part: str, chosen: bytes | None = None) -> ModelPart:
        """What engines of a part are made of; ``chosen``: the ONNX file where its precisions were chosen."""
        from elir_trt.building.sources import ModelPart

        return ModelPart(part, self.model, self.specification.size, self.specification.batch, chosen)

    def compile(
        self,
        backend: Backend,
        source: ModelPart,
        names: Sequence[str],
        half: bool,
        say: Callable[[str], None],
    ) -> Compiled:
        """Make the engine of a part in the files ``names``."""
        files = [self.folder / name for name in names]
        files[0].parent.mkdir(exist_ok=True)
        options = CompileOptions.of(
            self.specification, half_weights=half, cache=cache_folder() / "timing", progress=say
        )
        return backend.compile(source, files, options)

    def build_part(
        self, backend: Backend, part: str, choice: Choice | None, say: Callable[[str], None]
    ) -> None:
        """Make the engine of a part, keep its ONNX file where that is asked for, and record both."""
        source = self.source(part, None if choice is None else choice.files[part])
        half = self.specification.half_weights
        built = self.compile(backend, source, backend.engine_files(part), half, say)
        if self.specification.portable and backend.rebuilds:
            file = self.folder / onnx_file(part)
            file.parent.mkdir(exist_ok=True)
            whole = backend.base_precision(self.specification.precision)
            file.write_bytes(source.onnx(whole) if built.portable is None else built.portable)
        error = source.relative_error if built.relative_error is None else built.relative_error
        record = PartRecord(relative_error=error, seconds=built.seconds, layers=built.layers)
        if choice is not None:
            quantized = choice.precisions[part] in ("int8", "int8-full", "fp8")
            if quantized and built.quantized_layers == 0:
                raise BuildError(f"{part}: {backend.title} runs no layer in {choice.precisions[part]}")
            record = replace(
                choice.records[part],
                seconds=built.seconds,
                layers=built.layers,
                quantized_layers=built.quantized_layers,
            )
        self.records.setdefault(backend.name, {})[part] = record

    def write_references(self) -> None:
        """Keep the float32 parts, in 16 bits, where no engine is one: to verify the others against."""
        backend = known_backends.reference()
        for part in PARTS:
            record = self.records.get(backend.name, {}).get(part)
            if record is None or not backend.keeps_float32(record.precision):
                self.compile(backend, self.source(part), reference_files(part), True, lambda text: None)
