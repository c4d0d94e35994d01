"""Engines built by the real TensorRT-RTX, which needs no GPU to build."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from elir_trt.errors import BuildError

onnx = pytest.importorskip("onnx")
pytest.importorskip("tensorrt_rtx")

import ml_dtypes  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from elir_trt.backends.tensorrt_builder import EngineBuild, build_engine  # noqa: E402
from elir_trt.backends.widen import widen_transposed  # noqa: E402

TYPES = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


def small_network(precision: str, *, upsample: str = "transposed", name: str = "decoder") -> bytes:
    """Convolution, group normalisation, SiLU and an upsampling, as a decoder has them."""
    kind = TYPES[precision]
    random = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> TensorProto:
        return helper.make_tensor(name, kind, shape, random.normal(0, 0.1, shape).ravel().tolist())

    constants = [
        weights("first_weight", 8, 4, 3, 3),
        weights("first_bias", 8),
        weights("norm_scale", 8),
        weights("norm_bias", 8),
    ]
    nodes = [
        helper.make_node("Conv", ["latent", "first_weight", "first_bias"], ["c"], "first", pads=[1] * 4),
        helper.make_node("GroupNormalization", ["c", "norm_scale", "norm_bias"], ["n"], "norm", num_groups=2),
        helper.make_node("Sigmoid", ["n"], ["s"], "sigmoid"),
        helper.make_node("Mul", ["n", "s"], ["a"], "silu"),
    ]
    if upsample == "transposed":
        constants.append(weights("last_weight", 8, 3, 4, 4))
        nodes.append(
            helper.make_node(
                "ConvTranspose", ["a", "last_weight"], ["decoded"], "last", pads=[1] * 4, strides=[2, 2]
            )
        )
    else:
        constants.append(weights("last_weight", 3, 8, 3, 3))
        constants.append(helper.make_tensor("scales", TensorProto.FLOAT, (4,), [1.0, 1.0, 2.0, 2.0]))
        nodes.append(helper.make_node("Resize", ["a", "", "scales"], ["r"], "resize", mode="nearest"))
        nodes.append(helper.make_node("Conv", ["r", "last_weight"], ["decoded"], "last", pads=[1] * 4))
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("latent", kind, [1, 4, 16, 16])],
        [helper.make_tensor_value_info("decoded", kind, [1, 3, 32, 32])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data


def build(data: bytes | Path, **options: object) -> EngineBuild:
    return build_engine(data, flavour="tensorrt-rtx", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("precision", "upsample"),
    [("fp32", "transposed"), ("fp16", "transposed"), ("bf16", "resize"), ("fp16", "resize")],
)
def test_builds_in_every_precision(precision: str, upsample: str) -> None:
    built = build(small_network(precision, upsample=upsample))
    assert len(built.data) > 10_000
    assert built.layers >= 5
    assert built.flavour == "tensorrt-rtx"
    assert built.version.startswith("1.")
    assert built.seconds > 0
    assert bool(built.warnings) == (precision == "bf16" and upsample == "transposed")


def test_builds_from_a_path_with_weights_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "decoder.onnx"
    model = onnx.load_model_from_string(small_network("fp16"))
    for tensor in model.graph.initializer:  # Only raw data can be moved out.
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    onnx.save_model(model, path, save_as_external_data=True, location="decoder.weights", size_threshold=0)
    assert (tmp_path / "decoder.weights").exists()
    assert len(build(path).data) > 10_000


def test_precision_is_the_files() -> None:
    """Nothing converts quietly: a file whose types disagree is refused, naming part and node."""
    model = onnx.load_model_from_string(small_network("fp16"))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    with pytest.raises(BuildError, match=r"^decoder: tensorrt-rtx .*'first' \(Conv\).*same type"):
        build(model.SerializeToString())


def test_unknown_operator_names_part_and_node() -> None:
    model = onnx.load_model_from_string(small_network("fp16"))
    model.graph.node[1].op_type = "Nonsense"
    with pytest.raises(BuildError, match=r"^decoder: .*does not know: node 1 'norm' \(Nonsense\)") as caught:
        build(model.SerializeToString())
    assert "\n" not in str(caught.value)
    assert "catchCudaError" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"hello, this is no ONNX", small_network("fp16")[:1500]])
def test_what_is_no_onnx_is_refused(data: bytes) -> None:
    with pytest.raises(BuildError, match="ONNX"):
        build(data, part="encoder")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"encoder\.onnx: no such ONNX file"):
        build(tmp_path / "encoder.onnx")


def test_transposed_convolution_in_bfloat16_is_widened() -> None:
    """TensorRT-RTX cannot build one; the rewritten file computes the same up to the type's rounding."""
    data = small_network("bf16")
    built = build(data)
    assert built.warnings == (
        "1 transposed convolutions compute in float32; TensorRT-RTX has none in bfloat16",
    )
    widened = widen_transposed(data)
    assert widened is not None and widened[1] == 1
    model = onnx.load_model_from_string(widened[0])
    onnx.checker.check_model(model)
    value = np.random.default_rng(1).normal(size=(1, 4, 16, 16)).astype(ml_dtypes.bfloat16)
    outputs = [
        np.asarray(ReferenceEvaluator(file).run(["decoded"], {"latent": value})).astype(np.float32)
        for file in (onnx.load_model_from_string(data), model)
    ]
    assert np.linalg.norm(outputs[0] - outputs[1]) <= 2**-6 * np.linalg.norm(outputs[1])


def test_what_needs_no_widening_is_left_alone() -> None:
    assert widen_transposed(small_network("fp16")) is None
    assert widen_transposed(small_network("bf16", upsample="resize")) is None
    assert widen_transposed(b"\xff ConvTranspose") is None


def test_progress_advances_to_the_end() -> None:
    calls: list[tuple[str, int, int]] = []
    build(small_network("fp16"), progress=lambda *call: calls.append(call))
    assert {done == 0 for _, done, _ in calls} == {True, False}
    assert all(0 <= done <= total for _, done, total in calls)
    first = calls[0][0]
    assert calls[-1] == (first, calls[-1][2], calls[-1][2])


def test_cancelled_build_stops() -> None:
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    with pytest.raises(BuildError, match=r"^decoder: cancelled$"):
        build(small_network("fp16"), cancelled=cancelled)
    assert asked == 4
    assert len(build(small_network("fp16")).data) > 10_000  # The next build is not cancelled.


@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt])
def test_what_progress_raises_comes_out(kind: type[BaseException]) -> None:
    def progress(phase: str, done: int, total: int) -> None:
        raise kind

    with pytest.raises(kind):
        build(small_network("fp16"), progress=progress)


def test_targets() -> None:
    data = small_network("fp16")
    assert build(data, compute_capabilities=["75"]).data != build(data, compute_capabilities=["120"]).data
    with pytest.raises(BuildError, match=r"'35'.*builds for 75, 80"):
        build(data, compute_capabilities=["86", "35"])


def test_workspace_is_checked() -> None:
    assert len(build(small_network("fp16"), workspace_bytes=1 << 28).data) > 10_000
    with pytest.raises(BuildError, match="workspace_bytes is 0"):
        build(small_network("fp16"), workspace_bytes=0)


def test_rtx_leaves_the_timing_cache_alone(tmp_path: Path) -> None:
    cache = tmp_path / "timing.cache"
    cache.write_bytes(b"garbage")
    assert len(build(small_network("fp16"), timing_cache=cache).data) > 10_000
    assert cache.read_bytes() == b"garbage"
    assert list(tmp_path.iterdir()) == [cache]


def test_threads_build_one_after_the_other() -> None:
    built: dict[int, EngineBuild] = {}

    def work(index: int) -> None:
        built[index] = build(small_network("fp16", name=f"part{index}"))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(built) == [0, 1, 2]
    assert all(result.warnings == () for result in built.values())
