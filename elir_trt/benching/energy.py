"""Energy, where the machine tells it: a CPU's RAPL counters, an NVIDIA GPU's NVML, a Jetson's INA3221 sensors."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

#: Seconds between two looks at a Jetson's sensors, which tell power and not energy.
_PERIOD_S = 0.05
#: The rail of an Orin Nano or NX that feeds all others; an AGX has none, and its rails are added.
_WHOLE_RAIL = "VDD_IN"


class Meter(Protocol):
    """Something that counts joules."""

    name: str

    def start(self) -> None:
        """Count from here."""

    def stop(self) -> float:
        """Joules since the start."""


@dataclass
class Energy:
    """What was read.

    Attributes:
        joules: by meter.
        unreadable: why other meters tell nothing.
    """

    joules: dict[str, float] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)


@contextmanager
def measured_energy(root: Path = Path("/")) -> Iterator[Energy]:
    """Read every meter of the machine around a block; the result is complete when the block is left.

    Args:
        root: of the file system that is looked at.
    """
    meters, unreadable = find_meters(root)
    energy = Energy(unreadable=unreadable)
    for meter in meters:
        meter.start()
    try:
        yield energy
    finally:
        for meter in meters:
            energy.joules[meter.name] = meter.stop()


def find_meters(root: Path = Path("/")) -> tuple[list[Meter], list[str]]:
    """The meters that can be read, and why others cannot."""
    meters: list[Meter] = []
    unreadable = []
    packages = sorted(root.glob("sys/class/powercap/intel-rapl:[0-9]"))
    if not packages:
        unreadable.append("RAPL: no /sys/class/powercap/intel-rapl:* (a virtual machine has none)")
    for folder in packages:
        try:
            meters.append(_Rapl(folder))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            unreadable.append(f"RAPL: {folder.name}/energy_uj: {reason} (root alone may read it)")
    try:
        meters.append(_Nvml())
    except OSError as error:
        unreadable.append(f"NVML: {error}")
    rails = _rails(root)
    if rails:
        meters.append(_Ina3221(rails))
    else:
        unreadable.append("INA3221: this is no Jetson, or its sensors are not readable")
    return meters, unreadable


class _Rapl:
    """A counter of microjoules that begins anew at its end."""

    def __init__(self, folder: Path) -> None:
        self._counter = folder / "energy_uj"
        self._range = int((folder / "max_energy_range_uj").read_text())
        self.name = f"RAPL {(folder / 'name').read_text().strip()}"
        self._begin = self._read()

    def _read(self) -> int:
        return int(self._counter.read_text())

    def start(self) -> None:
        self._begin = self._read()

    def stop(self) -> float:
        return (self._read() - self._begin) % (self._range + 1) / 1e6


class _Nvml:
    """The first GPU's counter of millijoules (Volta and later)."""

    name = "NVML"

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            raise OSError("libnvidia-ml.so.1 is not installed: no NVIDIA driver") from None
        self._device = ctypes.c_void_p()
        if self._library.nvmlInit_v2() or self._library.nvmlDeviceGetHandleByIndex_v2(
            0, ctypes.byref(self._device)
        ):
            raise OSError("the driver sees no GPU")
        self._begin = self._read()

    def _read(self) -> int:
        found = ctypes.c_ulonglong()
        code = self._library.nvmlDeviceGetTotalEnergyConsumption(self._device, ctypes.byref(found))
        if code:
            raise OSError(f"this GPU does not count its energy (error {code})")
        return found.value

    def start(self) -> None:
        self._begin = self._read()

    def stop(self) -> float:
        return (self._read() - self._begin) / 1e3


def _rails(root: Path) -> dict[str, tuple[Path, Path]]:
    """The files of millivolts and milliamperes of each rail that is to be added up."""
    found = {}
    for label in sorted(root.glob("sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/in[1-3]_label")):
        number = label.name[2]
        volts, amperes = (label.with_name(f"{kind}{number}_input") for kind in ("in", "curr"))
        if volts.is_file() and amperes.is_file():
            found[label.read_text().strip()] = (volts, amperes)
    return {_WHOLE_RAIL: found[_WHOLE_RAIL]} if _WHOLE_RAIL in found else found


class _Ina3221:
    """Power that is looked at again and again, added up over time."""

    def __init__(self, rails: dict[str, tuple[Path, Path]]) -> None:
        self.name = f"INA3221 {', '.join(rails)}"
        self._rails = rails
        self._joules = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watts(self) -> float:
        return (
            sum(int(volts.read_text()) * int(amperes.read_text()) for volts, amperes in self._rails.values())
            / 1e6
        )

    def _watch(self) -> None:
        before, watts = time.perf_counter(), self._watts()
        while True:
            stopped = self._stop.wait(_PERIOD_S)
            now, watts_now = time.perf_counter(), self._watts()
            self._joules += (now - before) * (watts + watts_now) / 2
            before, watts = now, watts_now
            if stopped:
                return

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> float:
        self._stop.set()
        self._thread.join()
        return self._joules
