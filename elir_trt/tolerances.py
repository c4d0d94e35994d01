"""How far engines may be from float32, by their precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

PartPrecision = Literal["fp32", "bf16", "fp16", "int8", "int8-full", "fp8"]
PART_PRECISIONS: tuple[PartPrecision, ...] = ("fp32", "bf16", "fp16", "int8", "int8-full", "fp8")

#: Largest ``||found - expected|| / ||expected||`` of a part's output, means over frames.
PART_BOUNDS: Mapping[PartPrecision, float] = {
    "fp32": 2e-3,
    "bf16": 6e-2,
    "fp16": 2e-2,
    "int8": 0.15,
    "int8-full": 0.2,
    "fp8": 0.2,
}
#: Least PSNR of the restored frames against float32, in dB, with every part in this precision.
PIPELINE_BOUNDS: Mapping[PartPrecision, float] = {
    "fp32": 45.0,
    "bf16": 32.0,
    "fp16": 38.0,
    "int8": 30.0,
    "int8-full": 26.0,
    "fp8": 26.0,
}
