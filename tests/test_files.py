"""Whole files and folders, and locks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from elir_trt.files import write_whole, written_folder, written_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 240 + ".bin")
    write_whole(path, b"old")
    before = path.open("rb")
    write_whole(path, memoryview(b"new"))
    assert before.read() == b"old"
    before.close()
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == [path.name]


def test_a_new_file_has_the_usual_rights(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write_whole(tmp_path / "file", b"")
        with written_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(mask)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt])
def test_what_fails_leaves_what_was_there(tmp_path: Path, kind: type[BaseException]) -> None:
    (tmp_path / "file.png").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").write_bytes(b"old")
    with pytest.raises(kind), written_whole(tmp_path / "file.png") as temporary:
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"half")
        raise kind
    with pytest.raises(kind), written_folder(tmp_path / "folder") as folder:
        (folder / "inside").write_bytes(b"half")
        raise kind
    assert names(tmp_path) == ["file.png", "folder"]
    assert (tmp_path / "file.png").read_bytes() == (tmp_path / "folder" / "inside").read_bytes() == b"old"


def test_a_rename_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new")
    assert (names(tmp_path), path.read_bytes()) == (["file"], b"old")


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        with written_folder(tmp_path / "folder") as folder:
            (folder / "inside").write_bytes(content)
        assert (tmp_path / "folder" / "inside").read_bytes() == content
    assert names(tmp_path) == ["folder"]


APPEND = """
import sys, time
from pathlib import Path
from elir_trt.files import locked, write_whole

path = Path(sys.argv[1])
for _ in range(20):
    with locked(path):
        seen = path.read_text() if path.exists() else ""
        time.sleep(0.001)
        write_whole(path, f"{seen}x".encode())
"""


def test_processes_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "new" / "counted"
    # Away from the checkout, whose sources have no core.
    workers = [subprocess.Popen([sys.executable, "-c", APPEND, str(path)], cwd=tmp_path) for _ in range(2)]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    assert path.read_text() == 40 * "x"
