"""What a frame costs at least: counting, published peaks, and floors that measured frames keep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from bundles import small_recipe
from typer.testing import CliRunner

from elir_trt.benching.devices import DEVICES, Device, find_device
from elir_trt.benching.floor import frame_floor, most_steps, plan_sizes
from elir_trt.benching.work import Counted, total
from elir_trt.building.export import export_part
from elir_trt.building.typed import count_multiplications
from elir_trt.cli.app import app
from elir_trt.errors import ElirError
from elir_trt.model import Elir
from elir_trt.parts import PARTS
from elir_trt.recipe import load_recipe


def test_arithmetic_is_that_of_the_exported_files() -> None:
    recipe = small_recipe()
    torch.manual_seed(0)
    model = Elir(recipe.architecture).eval().requires_grad_(False)
    counted = Counted(recipe).parts((64, 128))
    for part in ("coarse", "velocity"):
        exported = export_part(model, part, size=(64, 128)).data
        assert counted[part].flop == 2 * count_multiplications(exported)


def test_four_times_the_pixels_are_four_times_the_work_and_the_same_weights() -> None:
    counted = Counted(small_recipe())
    small, large = counted.parts((64, 128)), counted.parts((128, 256))
    for part in PARTS:
        assert large[part].flop == 4 * small[part].flop
        assert large[part].weights == small[part].weights
        assert large[part].launches == small[part].launches
        # The row of the time, which the velocity takes, does not grow.
        assert large[part].activations == pytest.approx(4 * small[part].activations, rel=0.01)


def test_steps_add_velocity_calls() -> None:
    frames = Counted(small_recipe(steps=3)).frames((64, 128))
    assert [frame["velocity"].flop for frame in frames] == [k * frames[1]["velocity"].flop for k in range(4)]
    assert frames[0]["core"].launches == 2 and frames[3]["core"].launches == 6


def test_a_frame_costs_no_more_than_the_kernels_that_were_counted_in_engines() -> None:
    """TensorRT-RTX's plan of the same network has 674 launches and moves 2.24 GB in FP16."""
    work = total(Counted(load_recipe("bfr")).frames((512, 512))[5])
    assert work.flop == pytest.approx(485e9, rel=0.02)
    assert 0.8 * 2.24e9 < work.bytes(2) <= 2.24e9
    assert 300 < work.launches <= 674


def test_floors_of_a_measured_machine_are_kept() -> None:
    """Peaks and frames of one AMD EPYC with two threads, bfr at full size; see docs/bench.md."""
    peaks = {"fp32": 0.230, "bf16": 0.445, "int8": 0.860}
    measured = {"fp32": 2388.0, "bf16": 1124.0, "int8": 688.0}
    device = Device("amd", "AMD EPYC", peaks, 20.0, "measured", launch_us=0.0)  # type: ignore[arg-type]
    work = Counted(load_recipe("bfr")).frames((512, 512))[5]
    for precision, ms in measured.items():
        floor = frame_floor(work, device, precision)  # type: ignore[arg-type]
        assert floor.ms <= ms <= 1.3 * floor.ms, precision


def test_published_peaks_are_consistent() -> None:
    assert find_device("agx-orin").peaks["fp16"] == pytest.approx(42.6, rel=0.01)
    assert find_device("orin-nano-super").peaks["int8"] == pytest.approx(33.4, rel=0.01)
    for device in DEVICES.values():
        assert device.peaks["fp32"] <= device.peaks["fp16"] <= device.peaks["int8"], device.name
        assert device.gigabytes_per_s > 60 and device.source
    with pytest.raises(ElirError, match="--device is 'gtx'; allowed: here, orin-nano"):
        find_device("gtx")


def test_most_steps() -> None:
    assert most_steps([5.0, 20.0, 40.0], 30) == 1
    assert most_steps([5.0, 20.0, 40.0], 60) == 0
    assert most_steps([50.0], 60) is None


def test_sizes_are_padded_to_what_the_network_takes() -> None:
    (plan,) = plan_sizes(small_recipe(), [find_device("thor")], [(50, 100)])
    assert plan.engine == (64, 128) and len(plan.work) == 4
    assert plan.floors_ms["thor"]["fp16"] == sorted(plan.floors_ms["thor"]["fp16"])


def test_the_command_tells_floors_and_assumptions(tmp_path: Path) -> None:
    file = tmp_path / "new" / "plan.json"
    words = ["plan", "camera", "--device", "orin-nano-super", "--size", "720x1280", "--json", str(file)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "floors" in done.output and "720x1280" in done.output and "Orin Nano" in done.output
    data = json.loads(file.read_text())
    assert [size["size"] for size in data["sizes"]] == [[512, 512], [720, 1280]]
    assert data["devices"][0]["source"] and data["assumptions"]
    done = CliRunner().invoke(app, ["plan", "--list"])
    assert done.exit_code == 0 and all(name in done.output for name in DEVICES)
