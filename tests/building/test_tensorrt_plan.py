"""What TensorRT-RTX makes of the parts: its kernels, counted in engines that it builds without a GPU."""

from __future__ import annotations

import dataclasses
from typing import Any

import onnx
import pytest
import torch

from elir_trt.backends.eight_bits import count_quantized
from elir_trt.backends.narrow import narrow
from elir_trt.backends.tensorrt_plan import Kernel, Plan, PlanTensor, read_plan, reason_against_quantized
from elir_trt.backends.tensorrt_rewrite import for_tensorrt, for_tensorrt_rtx
from elir_trt.building.calibration import part_inputs
from elir_trt.building.export import export_part
from elir_trt.building.quantize import quantize, run_file
from elir_trt.errors import BuildError
from elir_trt.model import Elir
from elir_trt.parts import PARTS
from elir_trt.recipe import load_recipe
from elir_trt.samples import load_samples

pytest.importorskip("tensorrt_rtx")

from elir_trt.backends.tensorrt_builder import build_engine

#: Pixels of the full-size model's frames; only sizes of groups and tensors depend on it, and the big parts are small.
SIZES = {"encoder": (128, 128), "coarse": (512, 512), "velocity": (512, 512), "decoder": (128, 128)}
#: Kernels of the full-size parts in FP16, of TensorRT-RTX 1.7.1.
LAUNCHES = {"encoder": 37, "coarse": 85, "velocity": 80, "decoder": 37}


@pytest.fixture(scope="module")
def model() -> Elir:
    torch.manual_seed(0)
    return Elir(load_recipe("bfr").architecture).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def files(model: Elir) -> dict[str, bytes]:
    return {part: export_part(model, part, size=SIZES[part]).data for part in PARTS}


def plan_of(data: bytes, part: str = "part", **options: Any) -> Plan:
    return read_plan(build_engine(data, flavour="tensorrt-rtx", part=part, **options).data)


@pytest.fixture(scope="module")
def plans(files: dict[str, bytes]) -> dict[str, Plan]:
    """Of what TensorRT-RTX gets."""
    return {p: plan_of(for_tensorrt_rtx(for_tensorrt(narrow(files[p], "fp16"))), p) for p in PARTS}


@pytest.fixture(scope="module")
def quantized(model: Elir, files: dict[str, bytes]) -> bytes:
    recipe = load_recipe("bfr")
    fed = part_inputs(model, recipe, load_samples(recipe, SIZES["encoder"], count=4).frames)
    return quantize(files["encoder"], fed["encoder"], "int8")


@pytest.mark.parametrize("part", PARTS)
def test_launches(part: str, plans: dict[str, Plan]) -> None:
    """A change of this is a change of the frame's time on a fast GPU: find out why, and say so."""
    assert plans[part].launches == LAUNCHES[part]


@pytest.mark.parametrize("part", PARTS)
def test_every_convolution_is_one_kernel_in_half_precision(
    part: str, plans: dict[str, Plan], files: dict[str, bytes]
) -> None:
    nodes = onnx.load_model_from_string(files[part]).graph.node
    convolutions = [kernel for kernel in plans[part].kernels if kernel.convolves]
    assert len(convolutions) == sum(node.op_type in ("Conv", "ConvTranspose") for node in nodes)
    assert {tensor.element for kernel in convolutions for tensor in kernel.writes} == {"half"}
    assert plans[part].casts() == ()
    assert plans[part].quantized_convolutions == 0


def test_normalization_and_silu_are_one_kernel(plans: dict[str, Plan], files: dict[str, bytes]) -> None:
    nodes = onnx.load_model_from_string(files["velocity"]).graph.node
    wanted = sum(node.op_type == "GroupNormalization" for node in nodes)
    names = [kernel.name for kernel in plans["velocity"].kernels]
    whole = [name for name in names if name == "__myl_SiluGnor"]
    layers = [name for name in names if "Mean" in name]
    assert all(name.endswith("Silu") and name.count("Mean") == 2 for name in layers)
    assert (len(whole), len(layers)) == (11, 12) and len(whole) + len(layers) == wanted


def test_the_rewrites_save_kernels_and_bytes(plans: dict[str, Plan], files: dict[str, bytes]) -> None:
    before = {part: plan_of(narrow(files[part], "fp16"), part) for part in ("coarse", "velocity")}
    assert (before["coarse"].launches, before["velocity"].launches) == (85, 92)
    # 36 concatenations that copied all that a dense block had seen.
    assert before["coarse"].bytes - plans["coarse"].bytes == pytest.approx(94e6, rel=0.01)
    assert before["velocity"].bytes > plans["velocity"].bytes


def test_one_kernel_slices_the_condition(plans: dict[str, Plan]) -> None:
    reading = [
        kernel
        for kernel in plans["velocity"].kernels
        if any(tensor.name.startswith("condition") for tensor in kernel.reads)
    ]
    assert len(reading) == 1 and len(reading[0].writes) == 11


def test_int8_is_refused_with_the_reason(quantized: bytes, plans: dict[str, Plan]) -> None:
    eight = plan_of(for_tensorrt(narrow(quantized, "fp16")), "encoder")
    assert eight.quantized_convolutions == 33 == len(eight.float32_outputs())
    reason = reason_against_quantized(eight, plans["encoder"])
    assert reason is not None
    assert eight.bytes > 2 * plans["encoder"].bytes
    assert reason.startswith(
        f"int8 needs 71 kernels and {eight.bytes / 1e6:.0f} MB where the float needs 37 and "
        f"{plans['encoder'].bytes / 1e6:.0f}"
    )
    assert reason.endswith("33 of its 33 convolutions in 8 bits write float32")


def test_eight_bits_are_counted_in_the_plan(quantized: bytes, plans: dict[str, Plan]) -> None:
    """For compute capability 7.5 TensorRT-RTX has no such kernels: the network says 33, the engine has none."""
    data = for_tensorrt(narrow(quantized, "fp16"))
    turing = build_engine(data, flavour="tensorrt-rtx", part="encoder", compute_capabilities=["75"])
    assert count_quantized(onnx.load_model_from_string(data)) == 33
    plan = read_plan(turing.data)
    assert plan.quantized_convolutions == 0
    assert reason_against_quantized(plan, plans["encoder"], "fp8") == "the engine has no convolution in fp8"


def test_residuals_join_in_eight_bits(model: Elir, files: dict[str, bytes], quantized: bytes) -> None:
    recipe = load_recipe("bfr")
    fed = part_inputs(model, recipe, load_samples(recipe, SIZES["encoder"], count=4).frames)["encoder"]
    joined = quantize(files["encoder"], fed, "int8", residuals=True)

    def narrow_sums(data: bytes) -> int:
        nodes = onnx.load_model_from_string(data).graph.node
        dequantized = {name for n in nodes if n.op_type == "DequantizeLinear" for name in n.output}
        return sum(n.op_type == "Add" and any(name in dequantized for name in n.input) for n in nodes)

    assert (narrow_sums(quantized), narrow_sums(joined)) == (0, 10)
    onnx.checker.check_model(onnx.load_model_from_string(joined))
    (exact,), (found,) = (run_file(data, fed[:1]) for data in (files["encoder"], joined))
    assert ((found - exact) ** 2).sum() ** 0.5 <= 0.05 * (exact**2).sum() ** 0.5


def kernel(reads: str, writes: str, size: int = 1000, convolves: bool = True) -> Kernel:
    tensors = [(PlanTensor(name, (size,), name),) for name in (reads, writes)]
    return Kernel("corrltn" if convolves else "function", "k", *tensors, ("node",), convolves)


def test_eight_bits_are_taken_where_nothing_becomes_worse() -> None:
    floating = Plan((kernel("half", "half"),) * 4)
    assert floating.bytes == 16_000
    assert reason_against_quantized(Plan((kernel("int8", "int8"),) * 4), floating) is None
    fewer = Plan((kernel("int8", "int8", 8001),))
    assert (
        reason_against_quantized(fewer, floating)
        == "int8 needs 1 kernels and 0 MB where the float needs 4 and 0"
    )
    more = Plan((kernel("int8", "int8"),) * 5)
    assert more.bytes < floating.bytes and reason_against_quantized(more, floating) is not None
    wide = Plan((kernel("int8", "float"),) * 2)
    assert (wide.launches, wide.bytes) < (floating.launches, floating.bytes)
    reason = reason_against_quantized(wide, floating, "fp8")
    assert reason is not None and reason.endswith("2 of its 2 convolutions in 8 bits write float32")


def test_a_tensor_that_is_read_twice_is_counted_once() -> None:
    once = kernel("half", "half")
    assert dataclasses.replace(once, reads=once.reads * 2).bytes == once.bytes == 4000


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no list of kernels"),
        (b"\ndescriptors {\n}\nmain {\n label bb1: \n}\n", "is empty"),
        (b"\ndescriptors {\n}\nmain {\n  function={ name=__myl_X args={ } }\n}\n", "without input_args"),
        (
            b'\ndescriptors {\n}\nmain {\n  corrltn={ name="c" output={"a" } input={"b" } }\n}\n',
            "names a tensor 'b' that it does not have",
        ),
        (
            b'\ndescriptors {\n  tensor={ dims={ 4 } name="b" type=int4 }\n}\n'
            b'main {\n  corrltn={ name="c" output={"b" } input={"b" } }\n}\n',
            "elements 'int4'",
        ),
    ],
)
def test_what_cannot_be_read_is_an_error(data: bytes, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        read_plan(data)
