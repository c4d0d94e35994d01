"""A bench of a small bundle: its report, its peers, its tables and plots."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bundles import small_recipe

import elir_trt
from elir_trt.benching.contenders import COMPILED, ONNX_RUNTIME, OPENVINO, find_peers
from elir_trt.benching.plots import write_plots
from elir_trt.benching.run import OURS, Request, run_bench
from elir_trt.benching.tables import contenders_grid, floors, grids, machine_line, markdown
from elir_trt.bundle import Bundle
from elir_trt.errors import ElirError
from elir_trt.metrics import psnr
from elir_trt.samples import load_samples


@pytest.fixture(scope="module")
def report(small_bundle: Path) -> dict[str, Any]:
    found = run_bench(
        Request(bundle=str(small_bundle), rounds=3, seconds=0.5, peers=False), lambda text: None
    )
    read: dict[str, Any] = json.loads(json.dumps(found))
    return read


def test_a_report_has_all_figures(report: dict[str, Any]) -> None:
    stream = report["stream"]
    assert stream["frames"] >= 1 and stream["latency_ms"]["p50"] > 0 and stream["throughput_fps"] > 0
    assert {"encoder", "velocity", "decoder", "total"} <= set(stream["stages_ms"])
    assert sum(stream["histogram"]["counts"]) == stream["frames"]
    energy = stream["energy"]
    assert energy["joules_per_frame"] or energy["unreadable"]
    assert report["memory"]["peak_mib"] >= report["memory"]["before_mib"] > 0
    assert report["versions"]["elir_trt"] == elir_trt.__version__ and report["machine"]["cpu"]
    assert set(report["steps"]) == {"0", "1", "2", "3"}
    assert report["peaks"]["gflops"]["fp32"] > 0 and report["peaks"]["gigabytes_per_s"] > 0


def test_every_number_of_steps_has_its_time_and_its_quality(report: dict[str, Any]) -> None:
    for rows in report["steps"].values():
        row = rows[OURS]
        assert row["ms"]["min"] <= row["ms"]["median"] <= row["ms"]["max"]
        assert 0 < row["psnr"] <= 120 and row["times_ours"]["median"] == 1.0


def test_tables_show_them(report: dict[str, Any]) -> None:
    found = grids(report)
    assert [len(set(map(len, (grid.columns, *grid.rows)))) for grid in found] == [1] * len(found)
    assert "small at 64x128 on" in machine_line(report)
    assert markdown(contenders_grid(report)).startswith("|  | K = 0")
    assert set(floors(report)) == {"0", "1", "2", "3"}


def test_plots_are_written_and_equal_for_equal_figures(report: dict[str, Any], tmp_path: Path) -> None:
    first = write_plots(report, tmp_path / "a")
    assert [path.name for path in first] == ["small_latency.svg", "small_quality.svg", "small_roofline.svg"]
    again = write_plots(report, tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_peers_restore_what_the_stream_does(
    small_bundle: Path, small_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda restore: restore)  # What it does is PyTorch's to test.
    bundle = Bundle(small_bundle)
    frame = load_samples(small_recipe(), (64, 128), count=4).held_out[0]
    peers = find_peers(bundle, small_checkpoint, frame, lambda text: None)
    assert peers.absent == {} and not peers.random
    assert {ONNX_RUNTIME, OPENVINO} <= set(peers.restores)
    assert any(name.startswith(COMPILED) for name in peers.restores)
    with elir_trt.open(small_bundle) as restorer:
        for steps in (0, 3):
            ours = restorer(frame, steps=steps)
            for name, restore in peers.restores.items():
                assert psnr(ours, restore(frame, steps)) > 35.0, (name, steps)


def test_another_checkpoint_is_refused(small_bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pth"
    other.write_bytes(b"another")
    frame = load_samples(small_recipe(), (64, 128), count=4).held_out[0]
    with pytest.raises(ElirError, match=r"other\.pth: its SHA-256 is .*the bundle was built of"):
        find_peers(Bundle(small_bundle), other, frame, lambda text: None)


def test_who_is_not_installed_is_named(small_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "torch" else real(name, *more)
    )
    frame = load_samples(small_recipe(), (64, 128), count=4).held_out[0]
    peers = find_peers(Bundle(small_bundle), None, frame, lambda text: None)
    assert peers.restores == {} and all("elir_trt[export]" in reason for reason in peers.absent.values())
