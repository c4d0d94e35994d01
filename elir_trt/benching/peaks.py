"""What this CPU can do, measured: arithmetic in OpenVINO's convolutions, and bytes in copies of large arrays.

These are practical peaks. Six 3x3 convolutions one after the other, of shapes as restorers have them, are what a
network of this kind can hope for; the best shape counts, and the fastest of many runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from elir_trt.backends.openvino import compile_part, cpu_precisions
from elir_trt.benching.devices import Device, PlanPrecision
from elir_trt.cpu import available_cpus, cpu_model
from elir_trt.extras import needs

#: Channels and side of the convolutions.
_SHAPES = ((256, 32), (128, 64), (64, 256))
_DEPTH = 6
#: Seconds that each is repeated for.
_SECONDS = 0.3
#: Bytes of each array that is copied: far more than caches hold.
_COPIED = 1 << 27


@dataclass(frozen=True)
class Peaks:
    """Measured peaks.

    Attributes:
        gflops: by precision, in 10^9 operations a second.
        gigabytes_per_s: read and written, in 10^9 bytes a second.
    """

    gflops: dict[PlanPrecision, float]
    gigabytes_per_s: float


def measure_peaks() -> Peaks:
    """Measure this CPU with all the threads that the process has; some seconds.

    Raises:
        MissingPackageError: OpenVINO is not installed.
    """
    precisions: tuple[PlanPrecision, ...] = (
        "fp32",
        *(("bf16",) if "bf16" in cpu_precisions() else ()),
        "int8",
    )
    gflops = {
        precision: max(_gflops(channels, side, precision) for channels, side in _SHAPES)
        for precision in precisions
    }
    return Peaks(gflops, _gigabytes_per_s())


def this_cpu() -> Device:
    """This CPU as a device, with measured peaks."""
    peaks = measure_peaks()
    return Device(
        "here",
        cpu_model(),
        {precision: gflops / 1e3 for precision, gflops in peaks.gflops.items()},
        round(peaks.gigabytes_per_s, 1),
        f"measured here with {available_cpus()} threads",
        launch_us=0.0,
    )


def _gflops(channels: int, side: int, precision: PlanPrecision) -> float:
    hint = "bf16" if precision == "bf16" else "f32"
    request = compile_part(_convolutions(channels, side, precision == "int8"), hint).create_infer_request()
    flop = 2 * 9 * channels * channels * side * side * _DEPTH
    return flop / _fastest(request.infer) / 1e9


def _convolutions(channels: int, side: int, quantized: bool) -> Any:
    with needs("openvino", extra="cpu", what="measuring this CPU"):
        import openvino as ov
        from openvino import opset13 as ops

    rng = np.random.default_rng(0)

    def rounded(node: Any, levels: int) -> Any:
        if not quantized:
            return node
        low, high = (ops.constant(np.array(end, np.float32)) for end in (-1.0, 1.0))
        return ops.fake_quantize(node, low, high, low, high, levels)

    image = ops.parameter([1, channels, side, side], ov.Type.f32)
    node: Any = image
    for _ in range(_DEPTH):
        weights = (rng.standard_normal((channels, channels, 3, 3)) / (3 * channels**0.5)).astype(np.float32)
        kernel = rounded(ops.constant(weights), 255)
        node = ops.convolution(rounded(node, 256), kernel, [1, 1], [1, 1], [1, 1], [1, 1])
    return ov.Model([node], [image])


def _gigabytes_per_s() -> float:
    count = available_cpus()
    pairs = [(np.zeros(_COPIED, np.uint8), np.ones(_COPIED, np.uint8)) for _ in range(count)]

    def copy_all() -> None:
        threads = [
            threading.Thread(target=np.copyto, args=pair) for pair in pairs
        ]  # Copying releases the GIL.
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return 2 * count * _COPIED / _fastest(copy_all) / 1e9


def _fastest(run: Callable[[], Any]) -> float:
    """Seconds of the fastest run, after one that is not counted."""
    run()
    found: list[float] = []
    until = time.perf_counter() + _SECONDS
    while len(found) < 3 or time.perf_counter() < until:
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return min(found)
