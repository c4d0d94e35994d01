"""A TensorRT over the emulated GPU: it builds an engine from any file, and runs it as operations queued there.

An engine fills its output with one number, and takes as long as it is told to: so many operations.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tensorrt_stand_ins import StandIn, install, strict

from elir_trt.bundle import CONDITIONING, REFERENCE_FRAMES, variant_file
from elir_trt.gpu import Gpu as FoundGpu
from elir_trt.manifest import BuildSpecification, GateRecord, VariantRecord, write_manifest
from elir_trt.parts import OUTPUTS, PARTS, part_shapes, part_tensors
from elir_trt.recipe import Recipe, parse_recipe
from elir_trt.tolerances import PartPrecision
from elir_trt.tuning.timing import FrameBench

SIZE = (64, 64)
WIDTH = 40  # Of the rows of the conditioning table.
FORMS: tuple[PartPrecision, ...] = ("fp32", "fp16", "int8")
#: What an engine fills its output with; nothing is added to the latent, so that the decoder gives what coarse gives.
VALUES = {"encoder": 0.75, "coarse": 0.25, "velocity": 0.0, "decoder": 0.25}
_ELEMENTS = {
    TensorProto.FLOAT: ("FLOAT", "fp32"),
    TensorProto.FLOAT16: ("HALF", "fp16"),
    TensorProto.BFLOAT16: ("BF16", "bf16"),
}
_NAMES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}


def recipe(skip: str = "none") -> Recipe:
    data: dict[str, Any] = {
        "task": "emulated",
        "title": "For the emulated GPU",
        "steps": 2,
        "default_steps": 0,
        "sigma": 0.001,
        "size": list(SIZE),
        "architecture": {
            "coarse": {"growth": 16, "blocks": 1},
            "velocity": {"hidden": 32, "middle": 1},
            "skip": skip,
        },
        "prepare": {"mode": "pad", "multiple": 32},
    }
    return parse_recipe(data, "emulated")


def part_file(of: Recipe, part: str, form: PartPrecision) -> bytes:
    """An ONNX file with a part's tensors, in float32, FP16, or with Q/DQ in float32."""
    kind = TensorProto.FLOAT16 if form == "fp16" else TensorProto.FLOAT
    shapes = part_shapes(of.architecture, SIZE, WIDTH)
    names, output = part_tensors(part, of.architecture)
    inputs = [helper.make_tensor_value_info(name, kind, shapes[name]) for name in names]
    read, wide = names[0], part == "decoder"
    fold = shapes["image"][2] // shapes["latent"][2] if part in ("encoder", "decoder") else 1
    channels = (shapes[read][1], shapes[output][1]) if wide else (shapes[output][1], shapes[read][1])
    weight = np.zeros((*channels, fold, fold), np.float16 if form == "fp16" else np.float32)
    nodes, weights = [], [numpy_helper.from_array(weight, "weight")]
    if form == "int8":
        weights += [
            numpy_helper.from_array(np.float32(0.01), "scale"),
            numpy_helper.from_array(np.int8(0), "zero"),
        ]
        nodes.append(helper.make_node("QuantizeLinear", [read, "scale", "zero"], ["q"], "quantize"))
        nodes.append(helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"], "dequantize"))
        read = "dq"
    kernel = "ConvTranspose" if wide else "Conv"
    nodes.append(helper.make_node(kernel, [read, "weight"], [output], "convolution", strides=[fold, fold]))
    outputs = [helper.make_tensor_value_info(output, kind, shapes[output])]
    graph = helper.make_graph(nodes, part, inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    found: bytes = model.SerializeToString()
    return found


def write_bundle(folder: Path, skip: str = "none", batch: int = 1) -> Path:
    """A portable bundle whose reference frames are what the engines give."""
    of = recipe(skip)
    (folder / "onnx").mkdir(parents=True)
    for part in PARTS:
        for form in FORMS:
            (folder / variant_file(part, form)).write_bytes(part_file(of, part, form))
    rows = of.steps * (of.steps + 1) // 2
    np.save(folder / CONDITIONING, np.zeros((rows, WIDTH), np.float32))
    frames = np.random.default_rng(1).integers(0, 256, (2, *SIZE, 3), dtype=np.uint8)
    steps = np.array([0, 2])
    restored = np.full((2, 2, *SIZE, 3), round(255 * VALUES["decoder"]), np.uint8)
    np.savez_compressed(folder / REFERENCE_FRAMES, frames=frames, steps=steps, restored=restored)
    specification = BuildSpecification(
        recipe=of,
        checkpoint="0" * 64,
        backends=(),
        precision=None,
        size=SIZE,
        batch=batch,
        portable=True,
        quantized=True,
        search_floor=30.0,
        workspace_bytes=1 << 20,
    )
    variants: dict[str, dict[PartPrecision, VariantRecord]] = {
        part: {form: VariantRecord(relative_error=0.0) for form in FORMS} for part in PARTS
    }
    write_manifest(folder, specification, WIDTH, {}, {}, {}, variants, GateRecord(min_psnr=30.0))
    return folder


class EmulatedTensorRt:
    """A TensorRT of some version.

    Attributes:
        built: the part and the precision of each engine that was built.
        costs: operations that an engine takes more, by part and precision; none is said: 2.
        values: what an engine fills its output with, where it is not :data:`VALUES`.
        refused: engines that cannot be built.
        stand_in: its builder.
    """

    def __init__(self, patch: pytest.MonkeyPatch, gpu: Any, version: str = "10.13.3.9") -> None:
        self.built: list[tuple[str, str]] = []
        self.costs: dict[tuple[str, str], int] = {}
        self.values: dict[tuple[str, str], float] = {}
        self.refused: set[tuple[str, str]] = set()
        self.gpu = gpu
        self.stand_in: StandIn = install(patch, version)
        self._add_builder(version)
        self._add_runtime(version)
        patch.setattr("elir_trt.backends.tensorrt_api.installed", lambda: ("tensorrt",))
        self.be(patch, FoundGpu("Emulated", "89", "12.6"), "540.3.0")

    @staticmethod
    def be(patch: pytest.MonkeyPatch, gpu: FoundGpu, driver: str) -> None:
        """Let the machine have this GPU and driver."""
        patch.setattr("elir_trt.gpu.find_gpu", lambda: gpu)
        patch.setattr("elir_trt.backends.tensorrt.find_gpu", lambda: gpu)
        patch.setattr("elir_trt.gpu.driver_release", lambda: driver)

    def keep_time(self, patch: pytest.MonkeyPatch) -> None:
        """Let the time of a frame be the number of operations that the emulated GPU executes for it, in ms."""
        real = FrameBench.run

        def run(bench: FrameBench, assignment: Any, frame: Any, steps: int) -> Any:
            self.gpu.counts(clear=True)
            restored, stages = real(bench, assignment, frame, steps)
            return restored, {**stages, "total": float(sum(self.gpu.counts()["executed"].values()))}

        patch.setattr(FrameBench, "run", run)

    def _add_builder(self, version: str) -> None:
        outer, module = self, self.stand_in.module
        real = module.Builder.build_serialized_network

        class Memory(bytes):
            @property
            def nbytes(self) -> int:
                return len(self)

        def build(self: Any, network: Any, config: Any) -> Memory | None:
            found = describe_file(outer.stand_in.parsed[-1])
            name = (found["part"], found["precision"])
            if name in outer.refused:
                outer.stand_in.logger.log(1, "no implementation for this")
                return None
            if real(self, network, config) is None:
                return None
            outer.built.append(name)
            return Memory(json.dumps(found).encode())

        def tensor(name: str) -> Any:
            return types.SimpleNamespace(name=name)

        def layer(kind: str, read: list[str], written: str) -> Any:
            return types.SimpleNamespace(
                type=kind,
                num_inputs=len(read),
                num_outputs=1,
                get_input=lambda index: tensor(read[index]),
                get_output=lambda index: tensor(written),
            )

        layers = [
            layer("DEQUANTIZE", ["q"], "data"),
            layer("DEQUANTIZE", ["w"], "weights"),
            layer("CONVOLUTION", ["data", "weights"], "out"),
        ]
        network = strict(
            version,
            "INetworkDefinition",
            {"num_layers": len(layers), "num_outputs": 1, "get_layer": lambda self, index: layers[index]},
        )
        module.Builder.build_serialized_network = build
        module.Builder.create_network = lambda self, flags: network()

    def _add_runtime(self, version: str) -> None:
        outer = self

        def make(class_name: str, body: dict[str, Any]) -> Any:
            return strict(version, class_name, body)

        def execute(self: Any, stream: int) -> bool:
            outer._queue(stream, self._engine, self._addresses)
            return True

        def context(engine: Mapping[str, Any]) -> Any:
            made = make(
                "IExecutionContext",
                {
                    "execute_async_v3": execute,
                    "set_device_memory": lambda self, memory, size: None,
                    "set_tensor_address": lambda self, name, memory: (
                        self._addresses.update({name: memory}) or True
                    ),
                },
            )()
            made._engine, made._addresses = engine, {}
            return made

        def deserialize(self: Any, content: bytes) -> Any:
            engine = json.loads(content)
            names = list(engine["shapes"])
            return make(
                "ICudaEngine",
                {
                    "device_memory_size_v2": 1000,
                    "num_io_tensors": len(names),
                    "create_execution_context": lambda self, strategy: context(engine),
                    "get_tensor_dtype": lambda self, name: f"DataType.{engine['element']}",
                    "get_tensor_name": lambda self, index: names[index],
                    "get_tensor_shape": lambda self, name: tuple(engine["shapes"][name]),
                },
            )()

        body = {"__init__": lambda self, logger: None, "deserialize_cuda_engine": deserialize}
        strategy = {"USER_MANAGED": "user managed"}
        self.stand_in.module.__dict__.update(
            Runtime=make("Runtime", body),
            ExecutionContextAllocationStrategy=make("ExecutionContextAllocationStrategy", strategy)(),
        )

    def _queue(self, stream: int, engine: Mapping[str, Any], addresses: Mapping[str, int]) -> None:
        """Fill the output from the first input: all that is read was written, as AddressSanitizer would see."""
        name = (engine["part"], engine["precision"])
        source, target = next(iter(engine["shapes"])), OUTPUTS[engine["part"]]
        element = _NAMES[engine["element"]]
        count = int(np.prod(engine["shapes"][source]))
        whole = int(np.prod(engine["shapes"][target]))
        value = self.values.get(name, VALUES[engine["part"]])
        size = 4 if element == "float32" else 2
        # It shows what the other parts made.
        factor, shift = (1.0, value - VALUES["decoder"]) if engine["part"] == "decoder" else (0.0, value)
        for first in (*[0] * self.costs.get(name, 2), *range(0, whole, count)):
            some = min(count, whole - first)
            to = addresses[target] + first * size
            self.gpu.affine(stream, addresses[source], to, some, element, factor, shift)


def describe_file(data: bytes) -> dict[str, Any]:
    """What an engine of a file is."""
    graph = onnx.load_model_from_string(data).graph
    part = next(part for part in PARTS if OUTPUTS[part] == graph.output[0].name)
    element, precision = _ELEMENTS[graph.input[0].type.tensor_type.elem_type]
    kinds = {initializer.data_type for initializer in graph.initializer}
    if TensorProto.INT8 in kinds:
        precision = "int8"
    elif TensorProto.FLOAT8E4M3FN in kinds:
        precision = "fp8"
    shapes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    return {"part": part, "precision": precision, "element": element, "shapes": shapes}
