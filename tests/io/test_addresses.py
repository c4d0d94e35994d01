"""Videos at addresses: http from a server of this machine."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from media_files import FakeRestorer, make_video

from elir_trt.errors import MediaError
from elir_trt.io.addresses import comes_once, is_address, is_file, is_live
from elir_trt.io.restore import restore_path
from elir_trt.io.video import VideoReader


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None: ...


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_video_over_http(tmp_path: Path, server: str, suffix: str) -> None:
    # A server that sends from the start only: the index of an MP4 comes first.
    options = {"movflags": "faststart"} if suffix == ".mp4" else None
    make_video(tmp_path / f"a{suffix}", audio=True, options=options)
    report = restore_path(FakeRestorer(), f"{server}/a{suffix}", tmp_path / f"b{suffix}")
    assert report.frames == 12
    with VideoReader(tmp_path / f"b{suffix}") as reader:
        assert len(list(reader)) == 12
        assert len(reader.container.streams.audio) == 1


def test_what_is_not_there_or_no_video(tmp_path: Path, server: str) -> None:
    with pytest.raises(MediaError, match=r"http://127.*/none\.mkv: this address cannot be opened"):
        restore_path(FakeRestorer(), f"{server}/none.mkv", tmp_path / "b.mkv")
    # What an address leads to is never a file of this machine.
    make_video(tmp_path / "a.mkv")
    (tmp_path / "list.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{tmp_path}/a.mkv\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(MediaError, match="this address cannot be opened"):
        restore_path(FakeRestorer(), f"{server}/list.m3u8", tmp_path / "b.mkv")
    assert not (tmp_path / "b.mkv").exists()


def test_which_names_are_addresses(tmp_path: Path) -> None:
    for name, address, live in (
        ("https://x/a.mp4", True, False),
        ("RTSP://camera/1", True, True),
        ("rtsps://camera/1", True, True),
        ("file:///a.mp4", False, False),
        ("a:b.mp4", False, False),
    ):
        assert (is_address(name), is_live(name)) == (address, live)
        assert comes_once(name) == address
    (tmp_path / "a").touch()
    assert is_file(tmp_path / "a")
    assert not is_file("-")
