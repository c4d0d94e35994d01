"""Precisions of single parts: quantization, the gate, the search, overflow, and verifying what came out."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import onnx
import pytest
import torch
from bundles import small_recipe
from onnx import TensorProto, numpy_helper
from torch.utils.flop_counter import FlopCounterMode

import elir_trt
from elir_trt.backends.eight_bits import count_quantized
from elir_trt.backends.narrow import narrow
from elir_trt.backends.tensorrt_builder import build_engine
from elir_trt.backends.tensorrt_plan import read_plan
from elir_trt.backends.tensorrt_rewrite import for_tensorrt
from elir_trt.building import build, precision
from elir_trt.building.calibration import part_inputs
from elir_trt.building.export import export_part, relative_error
from elir_trt.building.precision import Chooser
from elir_trt.building.quantize import Scheme, quantize, run_file
from elir_trt.building.request import parse_precision
from elir_trt.building.typed import count_multiplications, overflowing
from elir_trt.bundle import Bundle
from elir_trt.cli import main
from elir_trt.errors import BuildError, CalibrationError
from elir_trt.model import load_model
from elir_trt.model.engine_parts import part_module
from elir_trt.parts import PARTS, part_shapes, part_tensors
from elir_trt.procedural import dead_leaves
from elir_trt.recipe import Recipe
from elir_trt.samples import Samples, load_samples
from elir_trt.verify import verify

SIZE = (64, 128)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return small_recipe()


@pytest.fixture(scope="module")
def model(small_checkpoint: Path) -> Any:
    return load_model(small_checkpoint).eval()


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [dead_leaves(128, rng) for _ in range(6)]


@pytest.fixture(scope="module")
def calibration(recipe: Recipe, pictures: list[np.ndarray]) -> Samples:
    return load_samples(recipe, SIZE, pictures)


@pytest.fixture(scope="module")
def fed(model: Any, recipe: Recipe, calibration: Samples) -> dict[str, Any]:
    return part_inputs(model, recipe, calibration.frames)


# Calibration


def test_a_folder_and_a_video_give_a_spread_of_frames(
    recipe: Recipe, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    for index, picture in enumerate(pictures):
        cv2.imwrite(str(tmp_path / f"{index}.png"), picture)
    found = load_samples(recipe, SIZE, tmp_path)
    assert len(found.frames) + len(found.held_out) == 6
    assert {frame.shape for frame in (*found.frames, *found.held_out)} == {(64, 128, 3)}
    assert found.digest == load_samples(recipe, SIZE, tmp_path).digest
    assert found.digest != load_samples(recipe, SIZE, tmp_path, seed=1).digest
    video = tmp_path / "clip.mp4"
    from elir_trt.io.writer import VideoWriter  # noqa: F401  (the encoder is there)

    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"mp4v"), 25, (128, 128))
    for index in range(60):
        writer.write(np.roll(pictures[0], 2 * index, axis=1))
    writer.release()
    moving = load_samples(recipe, SIZE, video)
    assert len(moving.frames) + len(moving.held_out) == 12


BAD: dict[str, tuple[Any, str]] = {
    "constant": (
        lambda p: [np.full((128, 128, 3), 90, np.uint8)] * 8,
        r"0 usable frames \(8 of 8 are of one",
    ),
    "few": (lambda p: p[:3], "3 usable frames; at least 4 are needed"),
    "small": (lambda p: [x[:40] for x in p], "array 0 is 128x40; at least 64 a side are needed"),
    "nan": (
        lambda p: [np.full((128, 128, 3), np.nan)] * 8,
        "array 0 holds NaN or infinity; expected numbers",
    ),
    "range": (lambda p: [x.astype(np.float32) for x in p], r"array 0 has values from .*expected \[0, 1\]"),
    "gray": (lambda p: [x[:, :, 0] for x in p], "array 0 is of shape 128x128; expected HxWx3"),
    "random": (
        lambda p: list(np.random.default_rng(0).integers(0, 256, (8, 128, 128, 3), dtype=np.uint8)),
        "array 0 is random: neighbouring pixels have a correlation of",
    ),
    "missing": (lambda p: Path("/no/such/folder"), "/no/such/folder: no such file or folder"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_calibration_is_named(
    kind: str, recipe: Recipe, pictures: list[np.ndarray], small_checkpoint: Path, tmp_path: Path
) -> None:
    make, message = BAD[kind]
    with pytest.raises(CalibrationError, match=message):
        build(
            recipe,
            small_checkpoint,
            output=tmp_path / "b",
            backends=["openvino"],
            precision="int8",
            calibrate=make(pictures),
        )
    assert not list(tmp_path.glob("b*"))


# Files


def test_quantized_files_are_symmetric_and_signed(model: Any, fed: dict[str, Any]) -> None:
    for part in PARTS:
        data = export_part(model, part, size=SIZE).data
        quantized = onnx.load_model_from_string(quantize(data, fed[part], "int8-full"))
        arrays = {i.name: i for i in quantized.graph.initializer}
        nodes = [n for n in quantized.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
        assert nodes
        for node in nodes:
            zero = arrays[node.input[2]]
            assert zero.data_type == TensorProto.INT8
            assert not numpy_helper.to_array(zero).any()
        per_channel = [n for n in nodes if numpy_helper.to_array(arrays[n.input[1]]).size > 1]
        convolutions = sum(n.op_type in ("Conv", "ConvTranspose") for n in quantized.graph.node)
        assert len(per_channel) == convolutions  # the weights
        assert count_quantized(quantized) > 0


@pytest.mark.parametrize("half", ["fp16", "bf16"])
def test_narrowed_files_compute_the_same(half: Any, model: Any, fed: dict[str, Any]) -> None:
    data = export_part(model, "velocity", size=SIZE).data
    nodes = [n.name for n in onnx.load_model_from_string(data).graph.node]
    expected = run_file(data, fed["velocity"][:1])[0]
    for wide in ([], nodes[3:9], nodes[-2:], nodes):
        narrowed = narrow(data, half, wide)
        checked = onnx.load_model_from_string(narrowed)
        types = {i.data_type for i in checked.graph.initializer}
        assert (TensorProto.FLOAT in types) == bool(wide)
        if half == "fp16":  # ONNX of this opset has no convolution in BF16; TensorRT's parser has.
            onnx.checker.check_model(checked, full_check=True)
            found = run_file(narrowed, fed["velocity"][:1])[0]
            assert relative_error(found, expected) < 5e-3


def test_overflow_is_found_and_kept_wide(model: Any, recipe: Recipe, calibration: Samples) -> None:
    import copy

    loud = copy.deepcopy(model)
    convolutions = [m for m in loud.enc.modules() if isinstance(m, torch.nn.Conv2d)]
    with torch.no_grad():
        convolutions[-2].weight *= 3e5
        if convolutions[-2].bias is not None:
            convolutions[-2].bias *= 3e5
        convolutions[-1].weight /= 3e5
    inputs = part_inputs(loud, recipe, calibration.frames)["encoder"]
    data = export_part(loud, "encoder", size=SIZE).data
    found = overflowing(data, inputs)
    assert max(found.values()) > 65504
    plain, kept = (run_file(narrow(data, "fp16", wide), inputs)[0] for wide in ([], list(found)))
    expected = run_file(data, inputs)[0]
    assert not relative_error(plain, expected) < 0.1
    assert relative_error(kept, expected) < 1e-2
    chooser = Chooser(loud, recipe, calibration, size=SIZE, backend="tensorrt-rtx", base="fp16")
    assert chooser.error("encoder", "fp16") < 1e-2
    assert re.search(r"beyond FP16's 65504 and kept in FP32, .*: node_\w+ \(", chooser.notes["encoder"])


# What is asked for


def test_precisions_are_parsed() -> None:
    assert parse_precision("auto") == "auto"
    assert parse_precision("int8") == dict.fromkeys(PARTS, "int8")
    assert parse_precision("velocity=int8, decoder=fp16") == {"velocity": "int8", "decoder": "fp16"}
    with pytest.raises(BuildError, match="precision is 'int4'; allowed: auto, fp32"):
        parse_precision("int4")
    with pytest.raises(BuildError, match="for part 'middle'; allowed: encoder, coarse"):
        parse_precision("middle=int8")


def test_precisions_that_cannot_be_are_refused(
    small_checkpoint: Path, tmp_path: Path, recipe: Recipe
) -> None:
    def attempt(asked: str, backend: Any, **options: Any) -> None:
        build(recipe, small_checkpoint, output=tmp_path / "b", backends=[backend], precision=asked, **options)

    with pytest.raises(BuildError, match="fp8: OpenVINO has none"):
        attempt("fp8", "openvino")
    with pytest.raises(BuildError, match="the backend torch has fp32, fp16 and bf16"):
        attempt("int8", "torch")
    with pytest.raises(BuildError, match="batch is 65; expected 1 to 64"):
        attempt("int8", "openvino", batch=65)
    with pytest.raises(BuildError, match="min_psnr is -1"):
        attempt("auto", "openvino", min_psnr=-1)


# Bundles


def test_int8_on_the_cpu_is_gated_and_verified(
    recipe: Recipe, small_checkpoint: Path, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    report = build(
        recipe,
        small_checkpoint,
        output=tmp_path / "b",
        backends=["openvino"],
        precision="encoder=int8,decoder=int8",
        calibrate=pictures,
    )
    records = report.manifest.parts["openvino"]
    assert records["velocity"].precision in ("bf16", "fp32")
    asked = {part: records[part].precision for part in ("encoder", "decoder")}
    for part, got in asked.items():
        assert got == "int8" or records[part].note, (part, got)
    assert report.manifest.pipelines["openvino"].psnr >= precision.LEAST_PSNR
    found = verify(report.path, data=pictures)
    assert found.passed, found
    assert found.picture.shape == (64, 4 * 128, 3)
    with elir_trt.open(report.path) as restorer:
        assert restorer.engines.precision in ("mixed", "bf16", "fp32")


def test_a_part_that_drifts_is_built_a_precision_higher(
    recipe: Recipe, model: Any, calibration: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    chooser = Chooser(model, recipe, calibration, size=SIZE, backend="openvino", base="fp32")
    true_error = chooser.error
    drift = {("coarse", "int8-full"): 0.97, ("coarse", "int8"): float("nan")}
    monkeypatch.setattr(
        chooser, "error", lambda part, asked: drift.get((part, asked)) or true_error(part, asked)
    )
    choice = chooser.named({"coarse": "int8-full"}, 5.0, lambda text: None)
    assert choice.precisions["coarse"] == "fp32"
    assert (
        choice.records["coarse"].note == "int8-full was off by 0.970 of 0.200; int8 was off by nan of 0.150"
    )


def test_the_pipelines_floor_raises_the_worst_part(recipe: Recipe, model: Any, calibration: Samples) -> None:
    chooser = Chooser(model, recipe, calibration, size=SIZE, backend="openvino", base="fp32")
    choice = chooser.named({"decoder": "int8"}, 100.0, lambda text: None)
    assert choice.precisions["decoder"] == "fp32"
    assert "left the pipeline at" in (choice.records["decoder"].note or "")


def test_auto_keeps_its_floor_and_shows_its_table(
    recipe: Recipe, small_checkpoint: Path, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / "b"
    report = build(
        recipe,
        small_checkpoint,
        output=path,
        backends=["openvino"],
        precision="auto",
        calibrate=pictures,
        min_psnr=35,
    )
    pipeline = report.manifest.pipelines["openvino"]
    assert pipeline.psnr >= 35
    assert {(row.part, row.precision) for row in pipeline.search} >= {(p, "int8") for p in PARTS}
    for part, record in report.manifest.parts["openvino"].items():
        rows = [r for r in pipeline.search if r.part == part and r.precision == record.precision]
        assert record.precision == "fp32" or rows[0].within_bounds
    again = build(
        recipe,
        small_checkpoint,
        output=path,
        backends=["openvino"],
        precision="auto",
        calibrate=pictures,
        min_psnr=35,
    )
    assert again.cached


def test_a_tampered_scale_makes_verify_fail(
    recipe: Recipe,
    small_checkpoint: Path,
    pictures: list[np.ndarray],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "b"
    build(
        recipe,
        small_checkpoint,
        output=path,
        backends=["openvino"],
        precision="decoder=int8",
        calibrate=pictures,
    )
    assert Bundle(path).precisions("openvino")["decoder"] == "int8"
    import openvino as ov

    core = ov.Core()
    file = path / "openvino" / "decoder.xml"
    whole = core.read_model(file)
    ranges = next(op for op in whole.get_ops() if op.get_type_name() == "FakeQuantize")
    for port in (3, 4):
        constant = ranges.input_value(port).get_node()
        wrong = ov.opset13.constant(3 * np.asarray(constant.data), dtype=constant.get_element_type())
        ranges.input(port).replace_source_output(wrong.output(0))
    tampered = tmp_path / "tampered.xml"
    ov.save_model(whole, tampered, compress_to_fp16=False)
    manifest = json.loads((path / "manifest.json").read_text())
    for suffix in (".xml", ".bin"):
        content = tampered.with_suffix(suffix).read_bytes()
        file.with_suffix(suffix).write_bytes(content)
        manifest["files"][f"openvino/decoder{suffix}"] = hashlib.sha256(content).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))
    picture = tmp_path / "worst.png"
    monkeypatch.setattr("sys.argv", ["elir-trt", "verify", str(path), "--picture", str(picture)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    shown = capsys.readouterr()
    assert "decoder" in shown.err
    assert "further from float32" in shown.err
    assert cv2.imread(str(picture)).shape == (64, 4 * 128, 3)


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_tensorrt_rtx_builds_floats_where_8_bits_gain_nothing(
    scheme: str, recipe: Recipe, small_checkpoint: Path, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    """By the kernels of its engines: its convolutions in 8 bits write float32, which others have to read."""
    report = build(
        recipe,
        small_checkpoint,
        output=tmp_path / "b",
        backends=["tensorrt-rtx"],
        precision=f"encoder={scheme},decoder={scheme},velocity={scheme}",
        calibrate=pictures,
    )
    records = report.manifest.parts["tensorrt-rtx"]
    for part in ("encoder", "velocity", "decoder"):
        assert (records[part].precision, records[part].quantized_layers) == ("fp16", 0)
        assert re.fullmatch(
            rf"{scheme} needs \d+ kernels and \d+ MB where the float needs \d+ and \d+; "
            r"(\d+) of its \1 convolutions in 8 bits write float32",
            records[part].note or "",
        )
        plan = read_plan((tmp_path / "b" / "tensorrt-rtx" / f"{part}.engine").read_bytes())
        assert plan.quantized_convolutions == 0 and plan.float32_outputs() == ()
    assert records["coarse"].note is None
    assert (tmp_path / "b" / "reference" / "decoder.xml").is_file()


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_tensorrt_rtx_engines_in_8_bits_are_counted_by_their_kernels(
    scheme: str, model: Any, fed: dict[str, Any]
) -> None:
    """Who times engines may build them all the same."""
    data = export_part(model, "encoder", size=SIZE).data
    quantized = narrow(quantize(data, fed["encoder"], cast(Scheme, scheme)), "fp16")
    built = build_engine(for_tensorrt(quantized), flavour="tensorrt-rtx", part="encoder")
    plan = built.plan()
    assert plan is not None
    assert built.quantized_layers == plan.quantized_convolutions > 3


def test_auto_without_times_takes_the_least_arithmetic(
    recipe: Recipe, model: Any, calibration: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Engines of TensorRT run on no CPU, and no time of a CPU stands for theirs."""
    chooser = Chooser(model, recipe, calibration, size=SIZE, backend="tensorrt", base="fp16")
    refused = {("decoder", "int8"), ("decoder", "int8-full")}
    reason = "int8 needs more"
    monkeypatch.setattr(
        chooser, "reason_against", lambda part, precision: reason if (part, precision) in refused else None
    )
    errors = {"int8": 0.02, "int8-full": 0.04, "fp16": 1e-3}
    monkeypatch.setattr(chooser, "error", lambda part, precision: errors[precision])
    monkeypatch.setattr(chooser, "squared_error", lambda precisions: 1e-6 * len(precisions))
    choice = chooser.search(40.0, lambda text: None)
    assert choice.precisions == {"encoder": "int8", "coarse": "int8", "velocity": "int8", "decoder": "fp16"}
    assert {row.ms for row in choice.search} == {None}
    assert not refused & {(row.part, row.precision) for row in choice.search}
    assert choice.records["decoder"].note == f"{reason}; {reason}"
    # What is added to a convolution in 8 bits is in 8 bits.
    nodes = onnx.load_model_from_string(choice.files["encoder"]).graph.node
    dequantized = {name for n in nodes if n.op_type == "DequantizeLinear" for name in n.output}
    assert any(n.op_type == "Add" and dequantized & set(n.input) for n in nodes)


def test_multiplications_are_those_of_torch(model: Any) -> None:
    for part in PARTS:
        module = part_module(model, part)
        shapes = part_shapes(model.architecture, SIZE, model.fmir.condition_width)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(*(torch.zeros(shapes[name]) for name in part_tensors(part, model.architecture)[0]))
        data = export_part(model, part, size=SIZE).data
        assert 2 * count_multiplications(data) == pytest.approx(counter.get_total_flops(), rel=1e-6)


def test_shipped_bundle_verifies(tmp_path: Path) -> None:
    found = verify("camera")
    assert found.passed, found
    assert {check.part for check in found.parts} == set(PARTS)
