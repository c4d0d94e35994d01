"""The store of engines: what is found again, what is made again, and what happens where nothing can be kept."""

from __future__ import annotations

import errno
import json
import threading
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from elir_trt.errors import ElirWarning
from elir_trt.tuning import store as store_module
from elir_trt.tuning.store import Choice, EngineKey, MachineKey, Store

KEY = EngineKey(
    bundle="b" * 64,
    backend="openvino",
    version="2026.1",
    machine="Some CPU: avx2",
    size=(64, 128),
    batch=1,
    part="encoder",
    precision="int8",
)
MACHINE = MachineKey(**{name: getattr(KEY, name) for name in MachineKey.__dataclass_fields__})
CHOICE = Choice(precisions={"encoder": "int8"}, tune="auto", psnr=50.0)


def never() -> bytes:
    raise AssertionError("it was there")


def test_what_was_made_is_found_by_another_process(tmp_path: Path) -> None:
    assert Store(tmp_path).engine(KEY, lambda: b"engine") == b"engine"
    assert Store(tmp_path).engine(KEY, never) == b"engine"
    Store(tmp_path).keep_choice(MACHINE, CHOICE)
    assert Store(tmp_path).choice(MACHINE) == CHOICE


@pytest.mark.parametrize(
    "changes",
    [
        {"bundle": "c" * 64},
        {"backend": "other"},
        {"version": "2026.2"},
        {"machine": "Some CPU: avx2 amx_int8"},
        {"size": (128, 64)},
        {"batch": 2},
        {"part": "decoder"},
        {"precision": "fp32"},
    ],
)
def test_whatever_changes_another_engine_is_made(tmp_path: Path, changes: dict[str, Any]) -> None:
    kept = Store(tmp_path)
    kept.engine(KEY, lambda: b"engine")
    kept.keep_choice(MACHINE, CHOICE)
    other = replace(KEY, **changes)
    assert kept.engine(other, lambda: b"another") == b"another"
    assert kept.engine(KEY, never) == b"engine"
    if set(changes) <= set(MachineKey.__dataclass_fields__):
        assert kept.choice(replace(MACHINE, **changes)) is None


def test_what_was_damaged_or_moved_is_not_trusted(tmp_path: Path) -> None:
    kept = Store(tmp_path)
    kept.engine(KEY, lambda: b"engine")
    (file,) = tmp_path.rglob("engine.bin")
    file.write_bytes(b"changed")
    assert kept.engine(KEY, lambda: b"engine") == b"engine" and file.read_bytes() == b"engine"
    record = file.with_name("record.json")
    # A record that states another key: a folder that was copied, or a digest that was cut to the same name.
    data = json.loads(record.read_text())
    data["key"]["version"] = "2025.1"
    record.write_text(json.dumps(data))
    assert kept.engine(KEY, lambda: b"again") == b"again"
    record.write_text("{")
    assert kept.engine(KEY, lambda: b"once more") == b"once more"


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize("where", ["locked", "written_folder"])
def test_a_cache_that_takes_nothing_is_warned_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, where: str
) -> None:
    def refuse(path: Path) -> Any:
        raise OSError(number, "refused")

    monkeypatch.setattr(store_module, where, refuse)
    kept = Store(tmp_path)
    with pytest.warns(
        ElirWarning, match=f"{tmp_path}: engines cannot be kept there: refused; .*ELIR_TRT_CACHE"
    ):
        assert kept.engine(KEY, lambda: b"engine") == b"engine"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kept.engine(KEY, never) == b"engine"
        kept.keep_choice(MACHINE, CHOICE)
        assert kept.choice(MACHINE) == CHOICE
        with kept.choosing(MACHINE):
            pass


def test_two_at_once_do_the_work_once(tmp_path: Path) -> None:
    """Locks are of open files, so that two stores in one process are to each other as two processes."""
    made: list[int] = []
    begun = threading.Barrier(4)

    def make() -> bytes:
        made.append(1)
        return b"engine"

    def ask() -> None:
        begun.wait()
        assert Store(tmp_path).engine(KEY, make) == b"engine"

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
