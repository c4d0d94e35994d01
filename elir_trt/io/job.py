"""A film that is being restored: what was asked for, and the segments that are done, in a folder beside it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from elir_trt.errors import MediaError
from elir_trt.files import write_whole, written_whole
from elir_trt.io.segments import Segment, read_segment
from elir_trt.stream_state import StreamState

_RECORD = "job.json"
_VERSION = 1
_HEAD_BYTES = 1 << 20


class Job:
    """The work folder of an output: held by one process at a time.

    Attributes:
        folder: hidden, beside the output, with a name made of its name.
        segments: that are done, from the film's start without a gap.
        finished: the film is made.
        restarted: why segments that were there are not used; None: there were none, or they are.
    """

    def __init__(self, output: Path, command: Mapping[str, Any], *, restart: bool = False) -> None:
        """Open the folder, or make it; segments of another command are removed.

        Args:
            output: the film.
            command: everything that decides the frames, as JSON.
            restart: begin from the start in any case.

        Raises:
            MediaError: another process works on the same output, or the folder cannot be made.
        """
        self.output = output
        self.folder = work_folder(output)
        self.segments: list[Segment] = []
        self.finished = False
        self.restarted: str | None = None
        self._state: dict[str, Any] = {"version": _VERSION, "command": json.loads(json.dumps(command))}
        try:
            self.folder.mkdir(exist_ok=True)
            self._lock = open(self.folder / "lock", "w")  # noqa: SIM115  (held for as long as the job)
        except OSError as error:
            raise MediaError(f"{output}: cannot be written: {error.strerror or error}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise MediaError(f"{output}: another process is writing it; wait for it, or stop it") from None
        try:
            self._load(restart)
        except OSError as error:
            self._lock.close()
            raise MediaError(f"{self.folder}: cannot be read: {error.strerror or error}") from None

    def _load(self, restart: bool) -> None:
        found = self._read()
        if found is not None and not restart and found.get("command") == self._state["command"]:
            self._state = found
            self.segments = self._whole()
            return
        if found is not None and not restart:
            self.restarted = _difference(found.get("command"), self._state["command"])
        self._clear()
        self._save()

    def _read(self) -> dict[str, Any] | None:
        try:
            found = json.loads((self.folder / _RECORD).read_text())
        except FileNotFoundError:
            return None
        except ValueError:
            return {}
        return found if isinstance(found, dict) and found.get("version") == _VERSION else {}

    def _whole(self) -> list[Segment]:
        """The segments from the start up to the first that is missing or damaged; those behind it go."""
        found: list[Segment] = []
        while (path := self.path_of(len(found))).exists():
            segment = read_segment(path)
            if segment is None:
                break
            found.append(segment)
        kept = {segment.path for segment in found}
        for path in self.folder.glob("*.seg"):
            if path not in kept:
                path.unlink()
        states = {self._state_path(len(found) - 1), self._state_path(len(found) - 2)}
        for path in set(self.folder.glob("*.state")) - states:
            path.unlink()
        return found

    def keep_state(self, state: StreamState) -> None:
        """Keep the stream's state behind the segment that is written next; it replaces the one before.

        Raises:
            OSError: the disk is full or refuses.
        """
        if state.temporal is None:
            return
        path = self._state_path(len(self.segments))
        # The archive has a checksum of what is in it.
        with written_whole(path, durable=True) as temporary, open(temporary, "wb") as file:
            np.savez(file, frames=state.frames, temporal=state.temporal)
        for old in self.folder.glob("*.state"):
            if old not in (path, self._state_path(len(self.segments) - 1)):
                old.unlink()

    def go_back_to_state(self) -> StreamState | None:
        """Give up the segments behind the last whole state, which is given; None: there is none, and no segment."""
        while self.segments:
            state = _read_state(self._state_path(len(self.segments) - 1))
            if state is not None and state.frames == self.frames:
                return state
            self.segments.pop().path.unlink()
        return None

    def _state_path(self, number: int) -> Path:
        return self.path_of(number).with_suffix(".state")

    def start_afresh(self, reason: str) -> None:
        """Give up the segments that are done."""
        self.restarted, self.segments = reason, []
        self._state.pop("facts", None)
        self._clear()
        self._save()

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if path.name != "lock":
                path.unlink()

    def _save(self) -> None:
        write_whole(self.folder / _RECORD, json.dumps(self._state, indent=1).encode())

    @property
    def frames(self) -> int:
        """Frames in the segments that are done."""
        return self.segments[-1].end.frames if self.segments else 0

    def fact(self, name: str) -> Any:
        """What was noted with :meth:`note`; None: nothing."""
        return self._state.get("facts", {}).get(name)

    def note(self, **facts: Any) -> None:
        """Keep what was found out on the way, as JSON.

        Raises:
            OSError: the disk refuses.
        """
        self._state["facts"] = {**self._state.get("facts", {}), **facts}
        self._save()

    def path_of(self, number: int) -> Path:
        """The file of a segment, counted from 0."""
        return self.folder / f"{number:06d}.seg"

    def close(self) -> None:
        """Let another process have the folder; it goes if nothing is worth keeping in it."""
        if self._lock.closed:
            return
        if not self.segments:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    def remove(self) -> None:
        """The film is finished: the folder goes."""
        self.finished = True
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


def remove_finished(output: Path) -> None:
    """Remove the work folder of a film that got its name, where the run was killed before it could do that."""
    folder = work_folder(output)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        facts = json.loads((folder / _RECORD).read_text())["facts"]
        if facts["film"] == os.stat(output).st_ino:
            shutil.rmtree(folder)


def work_folder(output: Path) -> Path:
    """Where the state of a job lies: hidden, beside the output."""
    return output.parent / f".{output.name[:200]}.elir"


def _read_state(path: Path) -> StreamState | None:
    """The state in a file, or None if it is not whole."""
    try:
        with open(path, "rb") as file, np.load(file) as found:
            return StreamState(int(found["frames"]), found["temporal"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def input_identity(path: Path) -> dict[str, Any]:
    """What tells a file from another, or from itself after a change: size, time of change, digest of its head.

    Raises:
        OSError: it cannot be read.
    """
    state = os.stat(path)
    with open(path, "rb") as file:
        head = hashlib.sha256(file.read(_HEAD_BYTES)).hexdigest()
    return {
        "path": str(path.resolve()),
        "bytes": state.st_size,
        "changed_ns": state.st_mtime_ns,
        "head": head,
    }


def restorer_identity(restorer: Any) -> dict[str, Any]:
    """What decides a restorer's results: its ``identity``, or bundle and engines; empty for what states neither."""
    found: dict[str, Any] = {}
    with contextlib.suppress(AttributeError):
        return dict(restorer.identity)
    with contextlib.suppress(AttributeError):
        found["bundle"] = restorer.bundle.digest
    with contextlib.suppress(AttributeError):
        found["engines"] = f"{restorer.engines.name} {restorer.engines.precision}"
    return found


def _difference(before: Any, now: Mapping[str, Any]) -> str:
    """In words, which parts of the command differ."""
    if not isinstance(before, dict):
        return "its record cannot be read"
    names = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    return f"it was begun with another {' and '.join(names)}"
