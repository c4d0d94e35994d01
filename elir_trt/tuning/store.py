"""The store of engines of this machine: a folder in the user's cache, one entry for each engine and each choice.

An entry is found under the bundle's digest and a digest of everything else that decides what is in it: the backend
and its version, the machine, the part, its precision, the size and the batch. It is written whole, under a lock, and
read only if its record states this very key and the digest of its content. Losing the store loses time, nothing else.

    engines/BUNDLE/KEY/record.json, engine.bin      one engine
    engines/BUNDLE/KEY/record.json                  one choice, with the table that it was made from
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from elir_trt.errors import ElirWarning
from elir_trt.files import locked, written_folder
from elir_trt.parts import DIRECT_PARTS
from elir_trt.schema import Schema, SchemaError
from elir_trt.tolerances import PartPrecision

#: How much time a choice may take: see :func:`elir_trt.open`.
Tune = Literal["auto", "off", "full"]
_RECORD, _ENGINE = "record.json", "engine.bin"
#: In a table, all parts.
WHOLE = "all parts"


@dataclass(frozen=True, kw_only=True)
class MachineKey(Schema):
    """What engines and choices are bound to.

    Attributes:
        bundle: its digest.
        backend: its name.
        version: of what runs the engines.
        machine: the processor: its name and what it can do.
        size: height and width of the engines' input.
        batch: tiles that they take together.
    """

    bundle: str
    backend: str
    version: str
    machine: str
    size: tuple[int, int]
    batch: int

    def digest(self) -> str:
        """Hexadecimal digest over every field, and of which kind of key it is."""
        text = json.dumps([type(self).__name__, self.to_data()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class EngineKey(MachineKey):
    """What decides one engine."""

    part: str
    precision: PartPrecision

    def is_of(self, precisions: Mapping[str, PartPrecision]) -> bool:
        """Whether parts in these precisions use it."""
        return precisions[self.part] == self.precision


@dataclass(frozen=True, kw_only=True)
class DirectKey(MachineKey):
    """What decides the engine of frames without steps.

    Attributes:
        precisions: of the parts in it, in the order of :data:`elir_trt.parts.DIRECT_PARTS`.
    """

    precisions: tuple[PartPrecision, ...]

    def is_of(self, precisions: Mapping[str, PartPrecision]) -> bool:
        """Whether parts in these precisions may use it."""
        return tuple(precisions[part] for part in DIRECT_PARTS) == self.precisions


AnyEngineKey = EngineKey | DirectKey


@dataclass(frozen=True, kw_only=True)
class ChoiceRow(Schema):
    """One line of the table that a choice was made from: a part in a precision, all others in the base precision."""

    part: str
    """:data:`WHOLE`: all of them."""
    precision: PartPrecision
    ms: float | None
    """Median time of a call, or of a frame where the choice says so, taken in turns; None: it was not timed."""
    psnr: float | None = None
    """Of a restored reference frame against float32, in dB; None: the part was not run alone."""
    fits: bool | None = None
    """Whether that keeps the bundle's bound."""
    reason: str = ""
    """Why it was not timed."""


@dataclass(frozen=True, kw_only=True)
class Choice(Schema):
    """The precisions that a machine runs a bundle in.

    Attributes:
        precisions: of each part.
        tune: how much time it was given.
        psnr: of restored reference frames against float32, in dB; None: it was not measured.
        base_ms, ms: of a frame with the default steps, with every part in the base precision and as chosen, taken in
            turns; None: it was not measured.
        direct: whether frames without steps go through one engine.
        apart_ms, direct_ms: of such a frame as chosen, through an engine for each part and through one, taken in
            turns; None: it was not measured.
        rows: the table.
        by_frame: whether the table has times of frames, with the copies to a GPU and back, and not of parts.
        complete: whether everything was measured in the time that there was.
    """

    precisions: Mapping[str, PartPrecision]
    tune: Tune
    psnr: float | None = None
    base_ms: float | None = None
    ms: float | None = None
    direct: bool = False
    apart_ms: float | None = None
    direct_ms: float | None = None
    rows: tuple[ChoiceRow, ...] = ()
    by_frame: bool = False
    complete: bool = True


@dataclass(frozen=True, kw_only=True)
class _Record(Schema):
    key: MachineKey | EngineKey | DirectKey
    choice: Choice | None = None
    engine: str | None = None
    """SHA-256 of the engine."""


class Store:
    """Engines and choices in ``folder``; where that cannot be written, in memory, with one warning."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._engines: dict[str, bytes] = {}
        self._choices: dict[str, Choice] = {}
        self._refused = False

    @property
    def backend_cache(self) -> Path | None:
        """Folder for what backends keep to be faster; None where nothing can be written."""
        return None if self._refused else self.folder.parent / "timing"

    def engine(self, key: AnyEngineKey, make: Callable[[], bytes]) -> bytes:
        """An engine, made where there is none, by one process at a time."""
        digest = key.digest()
        if digest in self._engines:
            return self._engines[digest]
        found = self._read_engine(key)
        if found is None:
            with self._locked(key):
                found = self._read_engine(key)
                if found is None:
                    found = make()
                    self.keep_engine(key, found)
        return found

    def keep_engine(self, key: AnyEngineKey, content: bytes) -> None:
        """Keep an engine that was made."""
        record = _Record(key=key, engine=hashlib.sha256(content).hexdigest())
        if not self._write(key, record, content):
            self._engines[key.digest()] = content

    def choice(self, key: MachineKey) -> Choice | None:
        """The choice of this machine, or None."""
        if key.digest() in self._choices:
            return self._choices[key.digest()]
        record = self._read_record(key)
        return None if record is None else record.choice

    def choices(self, here: MachineKey) -> dict[tuple[int, int], Choice]:
        """The choices of this machine for a bundle and a backend, by size; ``here``: of any size."""
        found = {}
        for record in (self.folder / here.bundle[:16]).glob(f"*/{_RECORD}"):
            try:
                size = _Record.from_json(record.read_bytes()).key.size
            except (OSError, SchemaError):
                continue  # Not whole: it is made again when it is needed.
            choice = self.choice(replace(here, size=size))
            if choice is not None:
                found[size] = choice
        choice = self.choice(here)  # It may be in memory alone.
        return found if choice is None else {**found, here.size: choice}

    def keep_choice(self, key: MachineKey, choice: Choice) -> None:
        """Keep a choice that was made."""
        if not self._write(key, _Record(key=key, choice=choice), None):
            self._choices[key.digest()] = choice

    @contextlib.contextmanager
    def choosing(self, key: MachineKey) -> Iterator[None]:
        """Hold the lock of a choice: other processes wait, and then find what was chosen."""
        with self._locked(key):
            yield

    def _place(self, key: MachineKey) -> Path:
        return self.folder / key.bundle[:16] / key.digest()[:16]

    @contextlib.contextmanager
    def _locked(self, key: MachineKey) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            if not self._refused:
                try:
                    stack.enter_context(locked(self._place(key)))
                except OSError as error:
                    self._refuse(error)
            yield

    def _read_record(self, key: MachineKey) -> _Record | None:
        try:
            record = _Record.from_json((self._place(key) / _RECORD).read_bytes())
        except (OSError, SchemaError):
            return None  # Not there, or not whole: it is made again.
        return record if record.key == key else None

    def _read_engine(self, key: AnyEngineKey) -> bytes | None:
        record = self._read_record(key)
        if record is None:
            return None
        try:
            content = (self._place(key) / _ENGINE).read_bytes()
        except OSError:
            return None
        return content if hashlib.sha256(content).hexdigest() == record.engine else None

    def _write(self, key: MachineKey, record: _Record, content: bytes | None) -> bool:
        if self._refused:
            return False
        place = self._place(key)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with written_folder(place) as folder:
                if content is not None:
                    (folder / _ENGINE).write_bytes(content)
                (folder / _RECORD).write_text(json.dumps(record.to_data(), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            self._refuse(error)
            return False
        return True

    def _refuse(self, error: OSError) -> None:
        if not self._refused:
            self._refused = True
            warnings.warn(
                f"{self.folder}: engines cannot be kept there: {error.strerror}; they are made again the next time. "
                "Set ELIR_TRT_CACHE to another folder",
                ElirWarning,
                stacklevel=2,
            )
