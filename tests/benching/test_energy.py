"""Energy meters over made-up files of a kernel, and figures of many times."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from elir_trt.benching.energy import find_meters, measured_energy
from elir_trt.benching.statistics import histogram, jitter, percentiles, spread


def write(path: Path, text: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")
    return path


def package(root: Path, counter: int) -> Path:
    folder = root / "sys/class/powercap/intel-rapl:0"
    write(folder / "name", "package-0")
    write(folder / "max_energy_range_uj", 9_999_999)
    return write(folder / "energy_uj", counter)


def test_a_counter_of_energy_is_read_around_a_block(tmp_path: Path) -> None:
    counter = package(tmp_path, 1_000_000)
    with measured_energy(tmp_path) as energy:
        write(counter, 3_500_000)
    assert energy.joules["RAPL package-0"] == pytest.approx(2.5)


def test_a_counter_may_begin_anew(tmp_path: Path) -> None:
    counter = package(tmp_path, 9_000_000)
    with measured_energy(tmp_path) as energy:
        write(counter, 500_000)
    assert energy.joules["RAPL package-0"] == pytest.approx(1.5)


def test_power_of_a_jetson_is_added_up(tmp_path: Path) -> None:
    sensors = tmp_path / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    for number, (label, volts, amperes) in enumerate((("VDD_IN", 5000, 2000), ("VDD_CPU", 5000, 500)), 1):
        write(sensors / f"in{number}_label", label)
        write(sensors / f"in{number}_input", volts)
        write(sensors / f"curr{number}_input", amperes)
    began = time.perf_counter()
    with measured_energy(tmp_path) as energy:
        time.sleep(0.2)
    elapsed = time.perf_counter() - began
    # The rail that feeds all others is counted alone.
    joules = energy.joules["INA3221 VDD_IN"]
    assert 10.0 * 0.2 * 0.8 < joules <= 10.0 * elapsed


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    meters, unreadable = find_meters(tmp_path)
    names = " ".join(unreadable)
    assert "RAPL" in names and "INA3221" in names
    assert len(meters) + len(unreadable) >= 3


def test_percentiles_need_enough_values() -> None:
    values = list(np.linspace(0.0, 99.0, 100))
    assert percentiles(values) == {"p50": 49.5, "p95": 94.05, "p99": 98.01, "max": 99.0}
    assert "p99.9" in percentiles(values * 10)
    assert set(percentiles([1.0])) == {"p50", "max"}


def test_jitter_spread_histogram() -> None:
    assert jitter([1.0, 3.0, 2.0]) == 1.5 and jitter([1.0]) == 0.0
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0}
    found = histogram([1.0, 2.0, 3.0, 100.0], bins=4)
    assert sum(found["counts"]) == 4 and len(found["edges_ms"]) == 5
