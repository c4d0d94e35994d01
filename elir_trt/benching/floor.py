"""The least time that a frame can take on a device: no engine is faster, and how near one comes is to be measured.

Each part takes at least as long as its arithmetic at the device's peak, as its bytes at its memory's peak, and as its
kernels one after the other; parts follow each other, so that their floors add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from elir_trt.benching.devices import ELEMENT_BYTES, Device, PlanPrecision
from elir_trt.benching.work import Counted, Work
from elir_trt.recipe import Recipe

#: Sizes of frames that are tried, height and width.
SIZES = ((256, 256), (288, 512), (360, 640), (512, 512), (480, 854), (720, 1280), (1080, 1920), (2160, 3840))
RATES = (30, 60)

ASSUMPTIONS = (
    "every kernel at the peak of the data sheet, all the time: a floor, not a forecast",
    "all arithmetic in the precision named, also where an engine keeps some layers in another",
    "what is computed element by element is fused into the kernel before it; nothing stays in caches between kernels",
    "frames one after the other, whole, and copies to and from the device hidden behind the computation",
)


@dataclass(frozen=True)
class Floor:
    """The least milliseconds of something, and of what they come.

    Attributes:
        arithmetic_ms, bytes_ms, launches_ms: each by itself.
        ms: the floor: of one part the largest of the three, of a frame the sum of its parts' floors.
    """

    arithmetic_ms: float
    bytes_ms: float
    launches_ms: float
    ms: float

    @property
    def bound(self) -> str:
        """What takes longest."""
        three = {"arithmetic": self.arithmetic_ms, "bytes": self.bytes_ms, "launches": self.launches_ms}
        return max(three, key=lambda name: three[name])


def floor_of(work: Work, device: Device, precision: PlanPrecision) -> Floor:
    """The floor of a part.

    Raises:
        KeyError: the device does not have the precision.
    """
    arithmetic = work.flop / device.peaks[precision] / 1e9
    moved = work.bytes(ELEMENT_BYTES[precision]) / device.gigabytes_per_s / 1e6
    launches = work.launches * device.launch_us / 1e3
    return Floor(arithmetic, moved, launches, max(arithmetic, moved, launches))


def frame_floor(works: Mapping[str, Work], device: Device, precision: PlanPrecision) -> Floor:
    """The floor of a frame, given the work of its parts."""
    floors = [floor_of(work, device, precision) for work in works.values()]
    return Floor(
        sum(floor.arithmetic_ms for floor in floors),
        sum(floor.bytes_ms for floor in floors),
        sum(floor.launches_ms for floor in floors),
        sum(floor.ms for floor in floors),
    )


@dataclass(frozen=True)
class SizePlan:
    """Frames of one size.

    Attributes:
        size: height and width of the frame.
        engine: of the engines' input, padded to what the network takes.
        work: of frames of 0, 1, ... steps, by part.
        floors_ms: device, precision, and a number for each number of steps.
    """

    size: tuple[int, int]
    engine: tuple[int, int]
    work: list[dict[str, Work]]
    floors_ms: dict[str, dict[PlanPrecision, list[float]]]


def plan_sizes(
    recipe: Recipe, devices: Sequence[Device], sizes: Sequence[tuple[int, int]] = SIZES
) -> list[SizePlan]:
    """The floors of frames of several sizes on several devices, with every number of steps.

    A recipe that fits frames to its engines, or scales them, is planned by the size of the engines' input.
    """
    counted = Counted(recipe)
    multiple = recipe.prepare.multiple
    found = []
    for size in sizes:
        engine = (-(-size[0] // multiple) * multiple, -(-size[1] // multiple) * multiple)
        work = counted.frames(engine)
        floors: dict[str, dict[PlanPrecision, list[float]]] = {
            device.name: {
                precision: [frame_floor(works, device, precision).ms for works in work]
                for precision in device.peaks
            }
            for device in devices
        }
        found.append(SizePlan(size, engine, work, floors))
    return found


def most_steps(floors_ms: Sequence[float], rate: float) -> int | None:
    """The most steps with which a frame's floor is within ``1 / rate`` seconds; None: not even without any."""
    fitting = [steps for steps, ms in enumerate(floors_ms) if ms <= 1e3 / rate]
    return max(fitting) if fitting else None
