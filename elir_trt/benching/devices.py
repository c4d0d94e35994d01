"""Published peaks of devices: what their makers' data sheets promise, without sparsity and without a boost of it.

Arithmetic is in units of 10^12 operations a second, a multiplication and an addition counted as two. FP32 is what the
CUDA cores do; TF32 is what TensorRT takes for float32 networks on tensor cores unless it is told not to. FP16 is with
the faster accumulator where there are two (GeForce), BF16 and FP8 have float32's alone there. A Jetson's are those of
its GPU, without the DLAs, which these networks do not run on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from elir_trt.errors import ElirError

PlanPrecision = Literal["fp32", "tf32", "fp16", "bf16", "int8", "fp8"]
#: Bytes of a number of each precision, in the order in which they are shown.
ELEMENT_BYTES: Mapping[PlanPrecision, int] = {
    "fp32": 4,
    "tf32": 4,
    "fp16": 2,
    "bf16": 2,
    "int8": 1,
    "fp8": 1,
}
#: Microseconds between two kernels of a recorded CUDA graph: an assumption, as nobody publishes it.
LAUNCH_US = 2.0


@dataclass(frozen=True)
class Device:
    """What a device can do at most.

    Attributes:
        name: on the command line.
        title: for people.
        peaks: by precision, in 10^12 operations a second; what is not there the device does not have.
        gigabytes_per_s: of its memory.
        source: where these numbers stand.
        launch_us: microseconds from kernel to kernel.
        software: that these numbers hold with, such as a power mode; empty: any.
    """

    name: str
    title: str
    peaks: Mapping[PlanPrecision, float]
    gigabytes_per_s: float
    source: str
    launch_us: float = LAUNCH_US
    software: str = ""


@dataclass(frozen=True)
class _Orin:
    """An Orin module in a power mode: its peaks follow from tensor cores, CUDA cores and the GPU's clock."""

    name: str
    title: str
    tensor_cores: int
    mhz: float
    gigabytes_per_s: float
    software: str
    sheet: str
    #: INT8 operations of a tensor core in a clock, dense; FP16 and BF16 are half of that, TF32 a quarter.
    per_clock: int = 1024
    cuda_cores_each: int = field(default=32)

    def device(self) -> Device:
        """The peaks in this mode."""
        int8 = self.tensor_cores * self.per_clock * self.mhz / 1e6
        fp32 = self.tensor_cores * self.cuda_cores_each * 2 * self.mhz / 1e6
        return Device(
            self.name,
            self.title,
            {"fp32": fp32, "tf32": int8 / 4, "fp16": int8 / 2, "bf16": int8 / 2, "int8": int8},
            self.gigabytes_per_s,
            f"{self.sheet}: {self.tensor_cores} tensor cores at {self.mhz:g} MHz",
            software=self.software,
        )


_ORIN = "NVIDIA Jetson Orin {} series data sheet"
_SUPER = "JetPack 6.2 and later, 7.2; power mode MAXN SUPER"
_PLAIN = "JetPack 6 and 7.2; power mode {}"
_ORINS = (
    _Orin("orin-nano", "Jetson Orin Nano 8GB", 32, 625, 68, _PLAIN.format("15 W"), _ORIN.format("Nano")),
    _Orin("orin-nano-super", "Jetson Orin Nano 8GB Super", 32, 1020, 102, _SUPER, _ORIN.format("Nano")),
    _Orin("orin-nx-8", "Jetson Orin NX 8GB", 32, 765, 102.4, _PLAIN.format("MAXN"), _ORIN.format("NX")),
    _Orin("orin-nx", "Jetson Orin NX 16GB", 32, 918, 102.4, _PLAIN.format("MAXN"), _ORIN.format("NX")),
    _Orin("orin-nx-super", "Jetson Orin NX 16GB Super", 32, 1173, 102.4, _SUPER, _ORIN.format("NX")),
    _Orin("agx-orin-32", "Jetson AGX Orin 32GB", 56, 930, 204.8, _PLAIN.format("MAXN"), _ORIN.format("AGX")),
    _Orin("agx-orin", "Jetson AGX Orin 64GB", 64, 1300, 204.8, _PLAIN.format("MAXN"), _ORIN.format("AGX")),
)
_THOR = "NVIDIA Jetson Thor series data sheet: {} FP4 sparse TFLOPS; FP8 dense a quarter of it, FP16 dense an eighth"
_JETPACK_7 = "JetPack 7; power mode MAXN"
_AMPERE = "NVIDIA Ampere GA102 GPU architecture white paper, appendix A"
_ADA = "NVIDIA Ada GPU architecture white paper, appendix A"
_BLACKWELL = "NVIDIA RTX Blackwell GPU architecture white paper, appendix A"


def _geforce(
    name: str, title: str, fp32: float, fp16: float, bandwidth: float, source: str, *, fp8: bool
) -> Device:
    """Of GeForce: float32 accumulation, which BF16 and FP8 need, halves the rate; TF32 is half of that again."""
    peaks: dict[PlanPrecision, float] = {
        "fp32": fp32,
        "tf32": fp16 / 4,
        "fp16": fp16,
        "bf16": fp16 / 2,
        "int8": 2 * fp16,
    }
    if fp8:
        peaks["fp8"] = fp16
    return Device(name, title, peaks, bandwidth, source)


_OTHERS = (
    Device(
        "thor-t4000",
        "Jetson Thor T4000",
        {"fp32": 4.8, "fp16": 150, "bf16": 150, "int8": 300, "fp8": 300},
        273,
        _THOR.format(1200),
        software=_JETPACK_7,
    ),
    Device(
        "thor",
        "Jetson Thor T5000",
        {"fp32": 8.06, "fp16": 259, "bf16": 259, "int8": 517, "fp8": 517},
        273,
        _THOR.format(2070),
        software=_JETPACK_7,
    ),
    _geforce("rtx-3080", "GeForce RTX 3080 10GB", 29.8, 119, 760, _AMPERE, fp8=False),
    _geforce("rtx-3090", "GeForce RTX 3090", 35.6, 142, 936, _AMPERE, fp8=False),
    _geforce("rtx-4080", "GeForce RTX 4080", 48.7, 194.9, 716.8, _ADA, fp8=True),
    _geforce("rtx-4090", "GeForce RTX 4090", 82.6, 330.3, 1008, _ADA, fp8=True),
    _geforce("rtx-5080", "GeForce RTX 5080", 56.3, 225.1, 960, _BLACKWELL, fp8=True),
    _geforce("rtx-5090", "GeForce RTX 5090", 104.8, 419, 1792, _BLACKWELL, fp8=True),
    Device("t4", "T4", {"fp32": 8.1, "fp16": 65, "int8": 130}, 320, "NVIDIA T4 data sheet"),
    Device(
        "a10",
        "A10",
        {"fp32": 31.2, "tf32": 62.5, "fp16": 125, "bf16": 125, "int8": 250},
        600,
        "NVIDIA A10 data sheet",
    ),
    Device(
        "a100",
        "A100 80GB SXM",
        {"fp32": 19.5, "tf32": 156, "fp16": 312, "bf16": 312, "int8": 624},
        2039,
        "NVIDIA A100 data sheet",
    ),
    Device(
        "l4",
        "L4",
        {"fp32": 30.3, "tf32": 60, "fp16": 121, "bf16": 121, "int8": 242, "fp8": 242},
        300,
        "NVIDIA L4 data sheet, half of the sparse figures",
    ),
    Device(
        "l40s",
        "L40S",
        {"fp32": 91.6, "tf32": 183, "fp16": 362, "bf16": 362, "int8": 733, "fp8": 733},
        864,
        "NVIDIA L40S data sheet",
    ),
    Device(
        "h100",
        "H100 80GB SXM",
        {"fp32": 67, "tf32": 495, "fp16": 989, "bf16": 989, "int8": 1979, "fp8": 1979},
        3350,
        "NVIDIA H100 data sheet, half of the sparse figures",
    ),
    Device(
        "h200",
        "H200 141GB SXM",
        {"fp32": 67, "tf32": 495, "fp16": 989, "bf16": 989, "int8": 1979, "fp8": 1979},
        4800,
        "NVIDIA H200 data sheet, half of the sparse figures",
    ),
    Device(
        "b200",
        "B200 SXM",
        {"fp32": 75, "tf32": 1100, "fp16": 2250, "bf16": 2250, "int8": 4500, "fp8": 4500},
        7700,
        "NVIDIA HGX B200 data sheet, an eighth of eight, half of the sparse figures",
    ),
)

DEVICES: Mapping[str, Device] = {
    device.name: device for device in (*(orin.device() for orin in _ORINS), *_OTHERS)
}


def find_device(name: str) -> Device:
    """A device by its name.

    Raises:
        ElirError: there is none of that name.
    """
    if name not in DEVICES:
        raise ElirError(f"--device is {name!r}; allowed: here, {', '.join(DEVICES)}")
    return DEVICES[name]
