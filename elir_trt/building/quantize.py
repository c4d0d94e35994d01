"""Post-training quantization of one part: Q/DQ nodes with the ranges of calibration data, by NNCF.

INT8 is symmetric and signed, per channel for weights, so that one file serves OpenVINO and every TensorRT. FP8 (E4M3)
is the same file with the same ranges in the other type.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

from elir_trt.backends.eight_bits import (
    CONVOLUTIONS,
    INT8_LARGEST,
    arrays_of,
    count_quantized,
    quantize_residuals,
    quantizers,
    to_fp8,
)
from elir_trt.building.equalize import equalize
from elir_trt.errors import BuildError

Scheme = Literal["int8", "int8-full", "fp8"]


def quantize(
    data: bytes,
    inputs: Sequence[Mapping[str, npt.NDArray[np.float32]]],
    scheme: Scheme = "int8",
    *,
    residuals: bool = False,
    ends: bool = True,
    equalized: bool = False,
    clipped: bool = True,
) -> bytes:
    """Quantize a part.

    Args:
        data: its float32 ONNX model.
        inputs: what it is fed, as :func:`elir_trt.building.calibration.part_inputs` gives it.
        scheme: "int8" and "fp8" leave the first and the last convolution, sums and concatenations as they are:
            these see the picture itself, or the latent, and not features. "int8-full" quantizes whatever can be.
        residuals: let what is added to a convolution's output come from 8 bits too, where it already has a range:
            full TensorRT then makes one 8-bit kernel of both, and otherwise two with a float between them. For the
            other backends it only costs accuracy.
        ends: whether "int8" and "fp8" leave the first and the last convolution and concatenations as they are. A part
            that adds what it computes to a latent, as coarse does, can do without; OpenVINO then runs a dense block
            in 8 bits throughout.
        equalized: give channels similar ranges first (:func:`elir_trt.building.equalize.equalize`).
        clipped: let ranges be the means of those of the inputs, so that outliers are clipped; otherwise the largest.

    Returns:
        the ONNX model with Q/DQ nodes.

    Raises:
        BuildError: NNCF is not installed, or nothing was quantized.
    """
    try:
        with _quiet():
            import nncf
            from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix
            from nncf.quantization.range_estimator import RangeEstimatorParametersSet
    except ImportError as error:
        raise BuildError(
            f"quantization needs NNCF and ONNX Runtime ({error}); install them with: "
            "pip install 'elir_trt[quantize]'"
        ) from error
    model = onnx.load_model_from_string(data)
    left: set[str] = set()
    types = ["Add", "Mul"]
    if ends:
        left, types = _ends(model.graph), ["Add", "Mul", "Concat"]
    if equalized:
        whole = scheme == "int8-full"
        model = onnx.load_model_from_string(equalize(data, inputs, leave=() if whole else left))
    ignored = nncf.IgnoredScope(names=sorted(left), types=types, validate=False)
    ranges = RangeEstimatorParametersSet.MEAN_MINMAX if clipped else RangeEstimatorParametersSet.MINMAX
    with _quiet():
        quantized = nncf.quantize(
            model,
            nncf.Dataset(list(inputs)),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            subset_size=len(inputs),
            ignored_scope=None if scheme == "int8-full" else ignored,
            advanced_parameters=AdvancedQuantizationParameters(
                # It would spare a bit of some weights for CPUs whose sums of products saturate; what such a CPU
                # makes of the file is compared with float32 before it is used.
                overflow_fix=OverflowFix.DISABLE,
                activations_range_estimator_params=ranges,
            ),
        )
    _make_signed(quantized)
    if residuals:
        quantize_residuals(quantized)
    if scheme == "fp8":
        to_fp8(quantized)
    del quantized.graph.value_info[:]  # of the types that there were before
    if count_quantized(quantized) == 0:
        raise BuildError(f"{model.graph.name}: no convolution was quantized to {scheme}")
    result: bytes = quantized.SerializeToString()
    return result


def _ends(graph: onnx.GraphProto) -> set[str]:
    """Names of the convolutions that come after no other, and of those that no other comes after."""
    behind: dict[str, set[str]] = {}  # The convolutions that each tensor comes from.
    found = {node.name: False for node in graph.node if node.op_type in CONVOLUTIONS}
    first = set()
    for node in graph.node:
        before = set().union(*(behind.get(name, set()) for name in node.input))
        if node.name in found:
            found.update(dict.fromkeys(before, True))
            if not before:
                first.add(node.name)
            before = {*before, node.name}
        behind.update(dict.fromkeys(node.output, before))
    return first | {name for name, is_followed in found.items() if not is_followed}


def _make_signed(model: onnx.ModelProto) -> None:
    """Turn unsigned ranges, which start at zero, into the upper half of signed ones, which TensorRT takes."""
    arrays = arrays_of(model)
    done: set[str] = set()
    for _, scale, zero in quantizers(model):
        if arrays[zero].data_type != TensorProto.UINT8 or scale in done:
            continue
        points = numpy_helper.to_array(arrays[zero])
        if points.any():
            raise BuildError(
                f"{model.graph.name}: a zero point is not zero; TensorRT takes symmetric ranges alone"
            )
        widened = numpy_helper.to_array(arrays[scale]) * np.float32(255.0 / INT8_LARGEST)
        arrays[scale].CopyFrom(numpy_helper.from_array(widened.astype(np.float32), scale))
        done.add(scale)
    for _, _, zero in quantizers(model):
        if arrays[zero].data_type == TensorProto.UINT8:
            points = numpy_helper.to_array(arrays[zero]).astype(np.int8)
            arrays[zero].CopyFrom(numpy_helper.from_array(points, zero))


def session(data: bytes) -> Any:
    """The file in ONNX Runtime, which computes Q/DQ as they are written.

    Without its optimizations: those of version 1.32 make some FP16 files with Q/DQ wrong.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run_file(data: bytes, feeds: Sequence[Mapping[str, npt.NDArray[Any]]]) -> list[npt.NDArray[np.float32]]:
    """Outputs of a file for these inputs, cast to the types it has; what it does not take is passed over."""
    opened = session(data)
    types = {i.name: np.float16 if "float16" in i.type else np.float32 for i in opened.get_inputs()}
    results = []
    for feed in feeds:
        (output,) = opened.run(None, {name: feed[name].astype(kind) for name, kind in types.items()})
        results.append(cast("npt.NDArray[np.float32]", np.asarray(output, dtype=np.float32)))
    return results


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """NNCF writes progress bars and advice; errors still come as exceptions."""
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)

    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            tempfile.TemporaryFile("w") as nowhere,
            contextlib.redirect_stderr(nowhere),
        ):
            warnings.simplefilter("ignore")
            # NNCF reports on its use to its makers, unless this says that a test runs it.
            os.environ.setdefault("NNCF_CI", "1")
            yield
    finally:
        logger.setLevel(level)
