"""Building a bundle: specification, cache, export, engines, manifest; written whole or not at all."""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from elir_trt.bundle import (
    CONDITIONING,
    FORMAT,
    MANIFEST,
    SCHEMA,
    AccuracyReport,
    BuildSpecification,
    Bundle,
    Manifest,
    PartRecord,
    cache_folder,
    engine_files,
    onnx_file,
    reference_files,
)
from elir_trt.errors import BuildError, BundleError, CheckpointError
from elir_trt.parts import PARTS
from elir_trt.recipe import SIZE_MULTIPLE, Precision, Recipe

if TYPE_CHECKING:
    from elir_trt.building.calibration import Calibration, Source
    from elir_trt.building.precision import Choice
    from elir_trt.building.tensorrt_builder import EngineBuild
    from elir_trt.model.elir import Elir
    from elir_trt.tolerances import PartPrecision

BackendName = Literal["openvino", "tensorrt", "tensorrt-rtx", "torch"]

#: Called with what is being done, how many units are done and how many there are.
Progress = Callable[[str, int, int], None]


def default_backends() -> tuple[BackendName, ...]:
    """The backends that a bundle gets where none are named.

    All that can be built here; torch's weights only where there is a GPU and no TensorRT.
    """
    from elir_trt import _core

    usable = usable_backends()
    gpu = not _core.cuda_problem() and not any(name.startswith("tensorrt") for name in usable)
    return tuple(name for name in usable if name != "torch" or gpu)


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


def usable_backends() -> tuple[BackendName, ...]:
    """The backends for which engines can be built here."""
    modules: Mapping[BackendName, str] = {
        "openvino": "openvino",
        "tensorrt": "tensorrt",
        "tensorrt-rtx": "tensorrt_rtx",
        "torch": "torch",
    }
    return tuple(name for name, module in modules.items() if importlib.util.find_spec(module) is not None)


def build(
    recipe: Recipe,
    weights: str | Path,
    *,
    output: str | Path | None = None,
    backends: Sequence[BackendName] | None = None,
    precision: str | None = None,
    calibrate: Source | str | None = None,
    min_psnr: float = 40.0,
    size: tuple[int, int] | None = None,
    batch: int = 1,
    half_weights: bool = False,
    portable: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> BuildReport:
    """Build a bundle, or find it in the cache.

    Args:
        recipe: what to build.
        weights: checkpoint: the published ``.pth``, training's ``.ckpt`` or an ``.npz``.
        output: folder of the bundle; None: the user's cache, under the task and the specification's key.
        backends: for which to build engines; None: all that can be built here.
        precision: of the engines: "fp32", "bf16", "fp16", "int8" (but for the first and the last
            convolution), "int8-full" or "fp8" (TensorRT alone), for all parts or as
            "velocity=int8,decoder=fp16"; "auto" searches for the fastest on this machine that keeps
            ``min_psnr``. A part that its precision takes too far from float32 is built a precision higher, and the
            manifest says so. None: the recipe's, else FP16 for TensorRT and the CPU's fastest.
        calibrate: clean pictures for INT8, FP8 and "auto": a folder, an image, a video, or arrays ``[H, W, 3]``
            (uint8, or floats in [0, 1]); they are degraded as the task's are. None: procedural ones.
        min_psnr: of restored frames against float32, in dB, that "auto" keeps.
        size: height and width of the engines' input; None: the recipe's. OpenVINO engines are reshaped to
            other sizes when they are opened, TensorRT engines are not.
        batch: images per call.
        half_weights: keep the weights of CPU engines and of torch in 16 bits.
        portable: keep the ONNX files beside TensorRT's engines, so that a machine without torch can build these
            again for its GPU (``elir_trt.open(..., on_engine_error="rebuild")``).
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
    if batch < 1:
        raise BuildError(f"batch is {batch}; expected at least 1")
    chosen = tuple(sorted(set(default_backends() if backends is None else backends)))
    if not chosen:
        raise BuildError("no backend to build for: install one with: pip install openvino")
    for backend in chosen:
        if backend not in usable_backends():
            raise BuildError(
                f"backend {backend} is not installed; here are: {', '.join(usable_backends()) or 'none'}"
            )
    whole, parts, floor = _asked(precision, recipe, chosen)
    if min_psnr <= 0:
        raise BuildError(f"min_psnr is {min_psnr:g}; expected more than 0 dB")
    calibration = None
    if parts or floor:
        if batch != 1:
            raise BuildError(f"batch is {batch}; precisions of single parts are chosen with a batch of 1")
        from elir_trt.building.calibration import load_calibration

        source = Path(calibrate) if isinstance(calibrate, str) else calibrate
        calibration = load_calibration(recipe, size, source)
    specification = BuildSpecification(
        recipe=recipe,
        checkpoint=file_digest(weights),
        backends=chosen,
        precision=whole,
        parts=parts,
        search_floor=min_psnr if floor else None,
        calibration=calibration.digest if calibration else None,
        size=size,
        batch=batch,
        half_weights=half_weights,
        portable=portable and any(name.startswith("tensorrt") for name in chosen),
        tensorrt=_tensorrt_version(chosen),
        gpu=_gpu(chosen),
    )
    name = f"{recipe.task}-{specification.key()[:16]}"
    path = Path(output) if output is not None else cache_folder() / "bundles" / name
    with _locked(path):
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
        with _written_whole(path) as folder:
            manifest = _build_into(folder, specification, weights, progress or (lambda *_: None), calibration)
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


def _asked(
    precision: str | None, recipe: Recipe, backends: Sequence[BackendName]
) -> tuple[Precision | None, dict[str, PartPrecision], bool]:
    """The precision of the whole, those of single parts, and whether to search for them."""
    from elir_trt.tolerances import PART_PRECISIONS

    if precision is None or precision in ("fp32", "bf16", "fp16"):
        return cast("Precision | None", precision) or recipe.precision, {}, False
    try:
        from elir_trt.building.precision import parse_precision
    except ImportError as error:
        raise BuildError(
            f"choosing precisions needs torch and onnx ({error}); install them with: "
            "pip install 'elir_trt[quantize]'"
        ) from error
    for backend in backends:
        if backend == "torch":
            raise BuildError(f"precision is {precision!r}; the backend torch has fp32, fp16 and bf16")
    asked = parse_precision(precision)
    if asked == "auto":
        return recipe.precision, {}, True
    if "fp8" in asked.values() and "openvino" in backends:
        raise BuildError(
            "precision fp8: OpenVINO has none on the CPU; name --backend tensorrt or tensorrt-rtx"
        )
    floats = {p for p in asked.values() if p in ("bf16", "fp16")}
    assert set(asked.values()) <= set(PART_PRECISIONS)
    whole = cast("Precision", floats.pop()) if len(floats) == 1 else recipe.precision
    return whole, asked, False


def _build_into(
    folder: Path,
    specification: BuildSpecification,
    weights: Path,
    progress: Progress,
    calibration: Calibration | None,
) -> Manifest:
    try:
        from elir_trt.building.export import conditioning_table
        from elir_trt.model.checkpoint import load_model
    except ImportError as error:
        raise BuildError(
            f"building needs torch and onnx ({error}); install them with: pip install 'elir_trt[export]'"
        ) from error
    recipe = specification.recipe
    total = 1 + len(PARTS) * len(specification.backends)
    progress("reading the checkpoint", 0, total)
    model = load_model(weights, recipe.architecture)
    np.save(folder / CONDITIONING, conditioning_table(model, recipe.steps), allow_pickle=False)
    done = 1
    records: dict[str, dict[str, PartRecord]] = {}
    pipelines: dict[str, AccuracyReport] = {}
    for backend in specification.backends:
        (folder / backend).mkdir()
        records[backend] = {}
        say = functools.partial(_at, progress, done, total)
        choice = None if calibration is None else _choose(model, specification, calibration, backend, say)
        if choice is not None:
            pipelines[backend] = AccuracyReport(psnr=choice.psnr, search=tuple(choice.search))
        for part in PARTS:
            progress(f"{backend}: {part}", done, total)
            say = functools.partial(_at, progress, done, total)
            records[backend][part] = (
                _build_part(folder, model, specification, backend, part, say)
                if choice is None
                else _build_chosen(folder, choice, specification, backend, part, say)
            )
            done += 1
    _write_references(folder, model, specification, records)
    progress("done", total, total)
    return _write_manifest(folder, specification, model.fmir.condition_width, records, pipelines)


def _choose(
    model: Elir,
    specification: BuildSpecification,
    calibration: Calibration,
    backend: BackendName,
    say: Callable[[str], None],
) -> Choice:
    from elir_trt.backends.openvino import cpu_precisions
    from elir_trt.building.precision import LEAST_PSNR, Chooser

    usable = cpu_precisions()
    base: Precision = specification.precision or "fp16"
    if backend == "openvino":
        fastest: Precision = "bf16" if "bf16" in usable else "fp32"
        base = fastest if specification.precision is None else base if base in usable else "fp32"
    say(f"{backend}: running the calibration frames")
    chooser = Chooser(
        model, specification.recipe, calibration, size=specification.size, backend=backend, base=base
    )
    if specification.search_floor is not None:
        return chooser.search(specification.search_floor, say)
    return chooser.named(specification.parts, LEAST_PSNR, say)


def _build_chosen(
    folder: Path,
    choice: Choice,
    specification: BuildSpecification,
    backend: BackendName,
    part: str,
    say: Callable[[str], None],
) -> PartRecord:
    began = time.perf_counter()
    record, data = choice.records[part], choice.files[part]
    if backend == "openvino":
        _write_openvino(data, folder / "openvino" / f"{part}.xml", specification.half_weights)
        return record.model_copy(update={"seconds": time.perf_counter() - began})
    assert backend != "torch"
    if specification.portable:
        _write_onnx(folder, part, data)
    result = _write_engine(data, folder, specification, backend, part, say)
    if choice.precisions[part] in ("int8", "int8-full", "fp8") and not result.quantized_layers:
        raise BuildError(f"{part}: TensorRT's network has no layer in {choice.precisions[part]}")
    return record.model_copy(
        update={
            "seconds": result.seconds,
            "layers": result.layers,
            "quantized_layers": result.quantized_layers,
        }
    )


def _write_references(
    folder: Path,
    model: Elir,
    specification: BuildSpecification,
    records: Mapping[str, Mapping[str, PartRecord]],
) -> None:
    """Keep the float32 parts, in 16 bits, where no engine of the CPU is one: to verify the others against."""
    from elir_trt.building.export import export_part

    for part in PARTS:
        record = records.get("openvino", {}).get(part)
        if record is not None and not (record.precision or "").startswith("int8"):
            continue
        (folder / "reference").mkdir(exist_ok=True)
        data = export_part(model, part, size=specification.size).data
        _write_openvino(data, folder / reference_files(part)[0], True)


def _write_manifest(
    folder: Path,
    specification: BuildSpecification,
    condition_width: int,
    records: Mapping[str, Mapping[str, PartRecord]],
    pipelines: Mapping[str, AccuracyReport],
) -> Manifest:
    manifest = Manifest(
        format="elir_trt bundle",
        schema_version=SCHEMA,
        specification=specification,
        condition_width=condition_width,
        files={
            path.relative_to(folder).as_posix(): file_digest(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        },
        parts=records,
        pipelines=pipelines,
        built_with=_versions(),
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )
    assert manifest.format == FORMAT
    (folder / MANIFEST).write_text(
        json.dumps(manifest.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8"
    )
    return manifest


def _at(progress: Progress, done: int, total: int, text: str) -> None:
    progress(text, done, total)


def _build_part(
    folder: Path,
    model: Elir,
    specification: BuildSpecification,
    backend: BackendName,
    part: str,
    say: Callable[[str], None],
) -> PartRecord:
    from elir_trt.building.export import export_part

    size, batch = specification.size, specification.batch
    if backend == "openvino":
        # The CPU plugin takes float32 files and lowers the precision by itself when it compiles.
        exported = export_part(model, part, size=size, precision="fp32", batch=batch)
        began = time.perf_counter()
        _write_openvino(exported.data, folder / "openvino" / f"{part}.xml", specification.half_weights)
        return PartRecord(relative_error=exported.relative_error, seconds=time.perf_counter() - began)
    if backend == "torch":
        return _write_torch(model, part, folder / engine_files("torch", part)[0], specification)
    exported = export_part(model, part, size=size, precision=specification.precision or "fp16", batch=batch)
    if specification.portable:
        _write_onnx(folder, part, exported.data)
    result = _write_engine(exported.data, folder, specification, backend, part, say)
    return PartRecord(relative_error=exported.relative_error, seconds=result.seconds, layers=result.layers)


def _write_onnx(folder: Path, part: str, data: bytes) -> None:
    file = folder / onnx_file(part)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(data)


def _write_engine(
    onnx: bytes,
    folder: Path,
    specification: BuildSpecification,
    backend: Literal["tensorrt", "tensorrt-rtx"],
    part: str,
    say: Callable[[str], None],
) -> EngineBuild:
    from elir_trt.building.tensorrt_builder import build_engine

    gpu = re.sub(r"[^A-Za-z0-9]+", "-", specification.gpu or "any")
    result = build_engine(
        onnx,
        flavour=backend,
        timing_cache=cache_folder() / "timing" / f"{specification.tensorrt}-{gpu}.cache",
        progress=lambda phase, at, of: say(f"{backend}: {part}: {phase} {at}/{of}"),
    )
    (folder / engine_files(backend, part)[0]).write_bytes(result.data)
    return result


def _write_torch(model: Elir, part: str, path: Path, specification: BuildSpecification) -> PartRecord:
    began = time.perf_counter()
    kind = np.float16 if specification.half_weights else np.float32
    state = {key: value.numpy() for key, value in model.parts()[part].state_dict().items()}
    kept = {key: value.astype(kind) for key, value in state.items()}
    np.savez(path, **kept)
    # What rounding the weights costs; a GPU's own rounding comes on top.
    lost = sum(float(np.sum((kept[key].astype(np.float64) - state[key]) ** 2)) for key in state)
    whole = sum(float(np.sum(state[key].astype(np.float64) ** 2)) for key in state)
    return PartRecord(relative_error=(lost / max(whole, 1e-30)) ** 0.5, seconds=time.perf_counter() - began)


def rebuild_engines(bundle: Bundle, flavour: Literal["tensorrt", "tensorrt-rtx"]) -> Path:
    """Build the TensorRT engines of a portable bundle for the GPU and the TensorRT that are here.

    Needs no torch. The result is a bundle in the user's cache, found again the next time.

    Args:
        bundle: opened, and not released.
        flavour: which TensorRT.

    Returns:
        the folder of the new bundle.

    Raises:
        BuildError: the bundle is not portable, or TensorRT refuses a file.
    """
    old = bundle.manifest.specification
    if not old.portable:
        raise BuildError(
            f"{bundle.path}: its engines cannot be built again here: it has no ONNX files; build it with: "
            f"elir-trt build {bundle.recipe.task} --portable --weights CHECKPOINT"
        )
    specification = old.model_copy(
        update={"backends": (flavour,), "tensorrt": _tensorrt_version((flavour,)), "gpu": _gpu((flavour,))}
    )
    path = cache_folder() / "bundles" / f"{bundle.recipe.task}-{specification.key()[:16]}"
    with _locked(path):
        with contextlib.suppress(BundleError):
            if Bundle(path).manifest.specification == specification:
                return path
        with _written_whole(path) as folder:
            (folder / flavour).mkdir()
            (folder / "onnx").mkdir()
            np.save(folder / CONDITIONING, bundle.table, allow_pickle=False)
            records: dict[str, PartRecord] = {}
            for part in PARTS:
                onnx = bundle.read_onnx(part)
                assert onnx is not None
                (folder / onnx_file(part)).write_bytes(onnx)
                built = _write_engine(onnx, folder, specification, flavour, part, lambda _: None)
                before = next(
                    parts[part]
                    for name, parts in bundle.manifest.parts.items()
                    if name.startswith("tensorrt")
                )
                records[part] = before.model_copy(update={"seconds": built.seconds, "layers": built.layers})
                reference = bundle.read_reference(part)
                if reference is not None:
                    (folder / "reference").mkdir(exist_ok=True)
                    for name, content in zip(reference_files(part), reference, strict=True):
                        (folder / name).write_bytes(content)
            found = [p for name, p in bundle.manifest.pipelines.items() if name.startswith("tensorrt")]
            pipelines: dict[str, AccuracyReport] = {flavour: found[0]} if found else {}
            _write_manifest(folder, specification, bundle.condition_width, {flavour: records}, pipelines)
    return path


def _write_openvino(onnx: bytes, xml: Path, half_weights: bool) -> None:
    import io

    import openvino as ov

    model = ov.convert_model(io.BytesIO(onnx))
    ov.save_model(model, xml, compress_to_fp16=half_weights)


def _tensorrt_version(backends: Sequence[BackendName]) -> str | None:
    names = [name for name in backends if name.startswith("tensorrt")]
    if not names:
        return None
    found = []
    for name in names:
        try:
            found.append(f"{name}-{importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            # JetPack's tensorrt comes from a Debian package without metadata of its own.
            module = importlib.import_module(name.replace("-", "_"))
            found.append(f"{name}-{module.__version__}")
    return "+".join(found)


def _gpu(backends: Sequence[BackendName]) -> str | None:
    if not any(name.startswith("tensorrt") for name in backends):
        return None
    from elir_trt.gpu import find_gpu

    gpu = find_gpu()
    return None if gpu.name is None else f"{gpu.name} sm_{gpu.compute_capability}"


def _versions() -> dict[str, str]:
    from elir_trt import __version__

    versions = {"elir_trt": __version__}
    for name in ("torch", "onnx", "openvino", "tensorrt", "tensorrt-rtx"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a bundle's folder, so that two builds of one bundle do the work once."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (path.parent / f".{path.name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except PermissionError as error:
        raise BuildError(
            f"{path.parent}: no permission to write the bundle there; choose another --output"
        ) from error
    except OSError as error:
        if error.errno in (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EEXIST):
            raise BuildError(f"{path.parent}: the bundle cannot be written: {error.strerror}") from error
        raise


@contextlib.contextmanager
def _written_whole(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path`` that takes its place on success, and vanishes otherwise."""
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    old = folder.with_name(folder.name + ".old")
    try:
        yield folder
        folder.chmod(0o755)
        if path.exists():
            os.rename(path, old)
        os.rename(folder, path)
    except BaseException:
        if old.exists() and not path.exists():
            os.rename(old, path)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
