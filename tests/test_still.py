"""Still regions as users ask for them."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elir_trt
from elir_trt.still import OVERLAP, TILE, still_grid, still_levels

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("still", "levels"), [("off", None), ("exact", 0.0), (3, 3.0), (np.float32(0.5), 0.5)]
)
def test_what_may_be_asked_for(still: Any, levels: float | None) -> None:
    assert still_levels(still) == levels


@pytest.mark.parametrize("still", ["on", 0, -1.0, 65, float("nan"), True, None])
def test_what_may_not(still: Any) -> None:
    with pytest.raises(ValueError, match=r"still is .*; allowed: off, exact, or levels"):
        still_levels(still)


@pytest.mark.parametrize("frame", [(360, 480), (1080, 1920), (64, 64), (50, 700), (16, 16)])
def test_tiles_cover_the_frame(frame: tuple[int, int]) -> None:
    grid = still_grid(frame, multiple=16, grid=4, most_pixels=10**9)
    for length, tile, starts in zip(frame, grid.tile, (grid.rows, grid.columns), strict=True):
        assert tile % 16 == 0 and tile <= TILE
        assert starts[0] == 0 and starts[-1] + tile >= length
        shared = [before + tile - after for before, after in itertools.pairwise(starts)]
        assert min(shared, default=OVERLAP) >= OVERLAP - 4


def test_a_stream_takes_what_did_not_change(portable_bundle: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (96, 160, 3), dtype=np.uint8)
    with elir_trt.open(portable_bundle, tune="off") as restorer:
        with pytest.raises(ValueError, match="still is with noise='per-frame'"):
            restorer.stream(still="exact", noise="per-frame")
        with restorer.stream(depth=1, still="exact") as still, restorer.stream(depth=1, still=4) as about:
            first = [stream.submit(frame) is not None and stream.result() for stream in (still, about)]
            assert [result.reused for result in first] == [0.0, 0.0]
            again = [stream.submit(frame) is not None and stream.result() for stream in (still, about)]
            assert again[0].reused == 1.0 and again[1].reused > 0.5
            np.testing.assert_array_equal(again[0].frame, first[0].frame)
            assert again[0].stages["encoder"] == again[0].stages["direct"] == 0.0
            frame[3, 3] ^= 1
            for stream, share in ((still, 1.0), (about, 1.1)):
                stream.submit(frame)
                assert 0.0 < stream.result().reused < share


def test_a_short_soak(portable_bundle: Path, tmp_path: Path) -> None:
    told = tmp_path / "soak.json"
    command = [sys.executable, ROOT / "benchmarks" / "soak.py", "--bundle", portable_bundle]
    done = subprocess.run(
        [*command, "--frames", "1500", "--json", told],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    report = json.loads(told.read_text())
    assert report["adds_up"] and report["in_order"], report
    assert report["counts"]["submitted"] == 1500 and report["counts"]["failed"] == 0
    assert report["counts"]["completed"] > 300 and report["reused"] > 0.3
    # Too short to be flat: engines are compiled at its beginning.
    assert report["grown"] < 64 * 2**20, done.stdout
