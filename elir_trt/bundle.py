"""Bundles: what was built. A folder with a manifest, the conditioning table, and the parts.

The parts of a portable bundle are ONNX files, with float32's reference frames; engines of the machine are made of
them where the bundle is opened, and kept in the user's cache (:mod:`elir_trt.tuning`). Other bundles hold engines.

An engine file is a program, so a bundle opens only if every file that its manifest names has the digest that
the manifest states, and nothing is deserialised before.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from elir_trt import backends
from elir_trt.errors import BundleError
from elir_trt.manifest import MANIFEST, read_manifest
from elir_trt.parts import PARTS
from elir_trt.recipe import Recipe
from elir_trt.tolerances import PartPrecision

CONDITIONING = "conditioning.npy"
REFERENCE_FRAMES = "reference.npz"
#: Forms of a part that run in float32, the nearest first: weights may be kept in 16 bits.
_FLOATS: tuple[PartPrecision, ...] = ("fp32", "fp16", "bf16")


@dataclass(frozen=True)
class ReferenceFrames:
    """What float32 makes of some frames, with fixed noise of seed 0.

    Attributes:
        frames: of the engines' size, ``[N, H, W, 3]`` uint8.
        steps: numbers of Euler steps, ``[S]``.
        restored: by float32, ``[N, S, H, W, 3]`` uint8.
    """

    frames: npt.NDArray[np.uint8]
    steps: tuple[int, ...]
    restored: npt.NDArray[np.uint8]


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
        self._digest = hashlib.sha256((self.path / MANIFEST).read_bytes()).hexdigest()
        self._released = False
        self._contents: dict[str, bytes] = {}
        for name, digest in self.manifest.files.items():
            self._contents[name] = self._verified(name, digest)
        specification = self.manifest.specification
        for backend in specification.backends:
            if backend not in backends.names():
                raise BundleError(
                    f"{self.path}: manifest field specification.backends: {backend!r} is none of "
                    f"{', '.join(backends.names())}; upgrade with: pip install --upgrade elir_trt"
                )
            for part in PARTS:
                for name in backends.get(backend).engine_files(part):
                    self._require_listed(name)
        for part, variants in self.manifest.variants.items():
            for precision in variants:
                self._require_listed(variant_file(part, precision))
        if self.is_portable:
            self._require_listed(REFERENCE_FRAMES)
        self.table = self._read_table()

    @property
    def recipe(self) -> Recipe:
        """The recipe that the bundle was built from."""
        return self.manifest.specification.recipe

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest, which states that of every file: of the whole bundle."""
        return self._digest

    @property
    def is_portable(self) -> bool:
        """Whether it keeps its parts as ONNX, of which engines are made for each machine."""
        return bool(self.manifest.variants)

    def variants(self, part: str) -> tuple[PartPrecision, ...]:
        """The precisions in which a portable bundle keeps a part."""
        return tuple(self.manifest.variants.get(part, {}))

    def read_variant(self, part: str, precision: PartPrecision) -> bytes:
        """An ONNX file of a portable bundle, verified.

        Raises:
            BundleError: there is none, or the bundle was released.
        """
        self._require_contents()
        name = variant_file(part, precision)
        self._require_listed(name)
        return self._contents[name]

    def reference_frames(self) -> ReferenceFrames:
        """The reference frames of a portable bundle, verified.

        Raises:
            BundleError: there are none, they are no such arrays, or the bundle was released.
        """
        self._require_contents()
        self._require_listed(REFERENCE_FRAMES)
        try:
            with np.load(io.BytesIO(self._contents[REFERENCE_FRAMES]), allow_pickle=False) as arrays:
                frames, steps, restored = (arrays[name] for name in ("frames", "steps", "restored"))
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            raise BundleError(
                f"{self.path}: {REFERENCE_FRAMES} holds no reference frames: {error}"
            ) from error
        expected = (len(frames), len(steps), *self.manifest.specification.size, 3)
        if frames.shape[1:] != expected[2:] or restored.shape != expected:
            raise BundleError(f"{self.path}: {REFERENCE_FRAMES} is {restored.shape}; expected {expected}")
        return ReferenceFrames(frames, tuple(int(number) for number in steps), restored)

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
            BundleError: the bundle has no engines of this backend, or they were released.
        """
        built = self.manifest.specification.backends
        if backend not in built:
            raise BundleError(
                f"{self.path}: has no {backend} engines, it has {', '.join(built)}; build it again with: "
                f"elir-trt build {self.recipe.task} --backend {backend} --weights CHECKPOINT"
            )
        self._require_contents()
        return [self._contents[name] for name in backends.get(backend).engine_files(part)]

    def read_onnx(self, part: str) -> bytes | None:
        """The file that a part's engines are built from, verified; None if the bundle is not portable.

        Raises:
            BundleError: the engines were released.
        """
        self._require_contents()
        return self._contents.get(onnx_file(part))

    def read_reference(self, part: str) -> tuple[bytes, ...] | None:
        """The float32 part for :func:`elir_trt.backends.reference`, verified; None if the bundle has none.

        It was kept for this, or is that backend's engine where this one is in float32.

        Raises:
            BundleError: the engines were released.
        """
        self._require_contents()
        for precision in _FLOATS:
            if precision in self.variants(part):
                return (self.read_variant(part, precision),)
        if reference_files(part, 1)[0] in self._contents:
            return (self._contents[reference_files(part, 1)[0]],)
        names = reference_files(part)
        backend = backends.reference()
        built = backend.name in self.manifest.specification.backends
        if (
            names[0] not in self._contents
            and built
            and backend.keeps_float32(self.precisions(backend.name)[part])
        ):
            names = backend.engine_files(part)
        if names[0] not in self._contents:
            return None
        return tuple(self._contents[name] for name in names)

    def release(self) -> None:
        """Drop the engines' bytes once backends have taken them in; reading them raises from then on."""
        self._contents.clear()
        self._released = True

    def _require_listed(self, name: str) -> None:
        if name not in self._contents:
            raise BundleError(f"{self.path}: manifest field files: {name} is not listed")

    def _require_contents(self) -> None:
        if self._released:
            raise BundleError(
                f"{self.path}: its engines were released when a backend had taken them in; open the bundle again"
            )

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
        self._require_listed(CONDITIONING)
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


def reference_files(part: str, count: int = 2) -> tuple[str, ...]:
    """Paths in a bundle of the float32 part, where no engine is one; ``count`` 1: as ONNX, else as an engine."""
    if count == 1:
        return (f"reference/{part}.onnx",)
    names = (Path(name).name for name in backends.reference().engine_files(part))
    return tuple(f"reference/{name}" for name in names)


def variant_file(part: str, precision: PartPrecision) -> str:
    """Path in a portable bundle of a part as ONNX."""
    return f"onnx/{part}.{precision}.onnx"


def onnx_file(part: str) -> str:
    """Path in a bundle of the file that a part's engines are built again from."""
    return f"onnx/{part}.onnx"


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
    built_names = {folder.name.rpartition("-")[0] for folder in (cache_folder() / "bundles").glob("*-*")}
    near = difflib.get_close_matches(name, sorted({*there, *built_names}), n=1)
    meant = f" (did you mean '{near[0]}'?)" if near else ""
    raise BundleError(
        f"no bundle named '{name}'{meant}: it is neither built, nor a folder, nor among those that ship with the "
        f"package ({', '.join(there) or 'none'}); build it with: elir-trt build {name} --weights CHECKPOINT"
    )
