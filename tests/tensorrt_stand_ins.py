"""Stand-ins for TensorRT that have the listed names of a version and no others."""

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

LISTING: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "tensorrt_api.json").read_text())
VERSIONS: list[str] = LISTING["versions"]
FULL = [version for version in VERSIONS if not version.startswith("rtx")]
ONNX = b"any bytes; the stand-in's parser takes them"
#: Of each version the largest opset of a file, and whether group normalization may have a scale a channel.
ONNX_RULES: dict[str, tuple[int, bool]] = {
    "10.3.0": (20, False),
    "10.7.0": (20, False),
    "10.13.3.9": (20, False),
    "10.16.1.11": (24, True),
    "11.4.0.106": (25, True),
    "rtx-1.7.1": (24, True),
}


def parser_error(version: str, data: bytes) -> str | None:
    """What that version's parser has against a file; None: it takes it."""
    import onnx

    model = onnx.load_model_from_string(data)
    opset, (largest, channel_scales) = model.opset_import[0].version, ONNX_RULES[version]
    weights = {initializer.name: initializer for initializer in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "GroupNormalization":
            groups = next(attribute.i for attribute in node.attribute if attribute.name == "num_groups")
            scales = weights[node.input[1]].dims[0]
            if scales != groups and not (channel_scales and opset > 20):
                return f"{node.name}: {scales} scales of {groups} groups"
    return f"opset {opset}" if opset > largest else None


def names(version: str, class_name: str) -> set[str]:
    row: dict[str, list[str]] = LISTING[class_name]
    return {*row["*"], *row.get(version, ())}


def members(protocol: type) -> set[str]:
    found = {*vars(protocol), *vars(protocol).get("__annotations__", ())}
    return {name for name in found if not name.startswith("_")}


def strict(version: str, class_name: str, body: dict[str, Any]) -> Any:
    """A class that has those members of ``body`` which the version lists, and refuses all other names."""
    allowed = names(version, class_name)

    def check(name: str) -> None:
        if not name.startswith("_") and name not in allowed:
            raise AttributeError(f"TensorRT {version}: {class_name} has no {name}")

    def get(self: object, name: str) -> Any:
        check(name)
        return object.__getattribute__(self, name)

    def put(self: object, name: str, value: object) -> None:
        check(name)
        object.__setattr__(self, name, value)

    kept = {name: value for name, value in body.items() if name.startswith("_") or name in allowed}
    return type(class_name, (), {**kept, "__getattribute__": get, "__setattr__": put})


class StandIn:
    """A TensorRT of some version: it has that version's names, and builds an "engine" from any file.

    Its timing caches are ``b"cache GPU item item ..."``; a build adds the item ``tactic``.
    """

    def __init__(self, version: str) -> None:
        self.gpu = "gpu0"
        self.no_gpu = False
        self.fails = False
        self.parse_error = False
        self.loaded: list[bytes] = []
        self.parsed: list[bytes] = []
        self.configs: list[Any] = []
        self.logger: Any = None
        self.module = types.ModuleType("tensorrt_rtx" if version.startswith("rtx") else "tensorrt")
        self.module.__dict__.update(self._classes(version), __version__=version.removeprefix("rtx-"))

    def _classes(self, version: str) -> dict[str, Any]:
        outer = self

        def make(class_name: str, **body: Any) -> Any:
            return strict(version, class_name, body)

        class Memory(bytes):
            @property
            def nbytes(self) -> int:
                return len(self)

        def make_cache(data: bytes) -> Any:
            return make(
                "ITimingCache",
                _items=data.split() or [b"cache", outer.gpu.encode()],
                combine=lambda self, other, ignore: bool(
                    self._items.extend(item for item in other._items if item not in self._items) or True
                ),
                serialize=lambda self: Memory(b" ".join(self._items)),
            )()

        def create_timing_cache(self: Any, data: bytes) -> Any:
            assert outer.module.__name__ == "tensorrt", "deprecated in TensorRT-RTX"
            if data and not data.startswith(b"cache "):
                outer.logger.log(2, "Failed to deserialize timing cache. Returning an empty timing cache.")
                data = b""
            return make_cache(data)

        def set_timing_cache(self: Any, cache: Any, ignore_mismatch: bool) -> bool:
            if cache._items[1].decode() != outer.gpu:
                return False
            outer.loaded.append(b" ".join(cache._items))
            self._cache = cache
            return True

        def init_builder(self: Any, logger: Any) -> None:
            outer.logger = logger
            if outer.no_gpu:
                logger.log(1, "CUDA initialization failure with error: 35")
                raise TypeError("pybind11::init(): factory function returned nullptr")

        def build(self: Any, network: Any, config: Any) -> Memory | None:
            if outer.fails:
                outer.logger.log(1, "Error Code 10: no implementation for node first")
                outer.logger.log(1, "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime")
                return None
            outer.logger.log(2, "something is slow")
            outer.logger.log(2, "something is slow")
            outer.logger.log(3, "merely information")
            config.progress_monitor.phase_start("Building engine", None, 2)
            for step in range(2):
                if not config.progress_monitor.step_complete("Building engine", step):
                    return None
            config.progress_monitor.phase_finish("Building engine")
            if config._cache is not None and b"tactic" not in config._cache._items:
                config._cache._items.append(b"tactic")
            return Memory(b"engine")

        def create_network(self: Any, flags: int) -> Any:
            assert flags == 2, "strongly typed"
            return make("INetworkDefinition", num_layers=7, num_outputs=1)()

        config = make(
            "IBuilderConfig",
            _cache=None,
            _flags=(),
            _limits=(),
            builder_optimization_level=3,
            create_timing_cache=create_timing_cache,
            get_timing_cache=lambda self: self._cache,
            max_aux_streams=-1,
            num_compute_capabilities=0,
            progress_monitor=None,
            set_compute_capability=lambda self, target, index: True,
            set_flag=lambda self, flag: setattr(self, "_flags", (*self._flags, flag)),
            set_memory_pool_limit=lambda self, pool, size: setattr(
                self, "_limits", (*self._limits, (pool, size))
            ),
            set_timing_cache=set_timing_cache,
        )
        error = make(
            "ParserError",
            _text="Assertion failed:\nkernel too large",
            desc=lambda self: self._text,
            node=lambda self: 3,
            node_name=lambda self: "first",
            node_operator=lambda self: "Conv",
        )

        def create_config(self: Any) -> Any:
            outer.configs.append(config())
            return outer.configs[-1]

        def parse(self: Any, model: bytes) -> bool:
            outer.parsed.append(model)
            if model != ONNX and not outer.parse_error:
                self._text = parser_error(version, model)
                self.num_errors = int(self._text is not None)
            return not outer.parse_error and self.num_errors == 0

        def get_error(self: Any, index: int) -> Any:
            found = error()
            found._text = self._text or found._text
            return found

        classes = {
            "Builder": make(
                "Builder",
                __init__=init_builder,
                build_serialized_network=build,
                create_builder_config=create_config,
                create_network=create_network,
            ),
            "BuilderFlag": make("BuilderFlag", REQUIRE_USER_ALLOCATION="user allocation")(),
            "ComputeCapability": types.SimpleNamespace(SM75=0, SM80=1, SM120=2),
            "IBuilderConfig": config,
            "IExecutionContext": make("IExecutionContext", is_stream_capturable=lambda self, stream: True),
            "ILogger": make("ILogger"),
            "IProgressMonitor": make("IProgressMonitor"),
            "MemoryPoolType": make("MemoryPoolType", WORKSPACE=0)(),
            "NetworkDefinitionCreationFlag": make("NetworkDefinitionCreationFlag", STRONGLY_TYPED=1)(),
            "OnnxParser": make(
                "OnnxParser",
                __init__=lambda self, network, logger: None,
                _text=None,
                get_error=get_error,
                num_errors=int(self.parse_error),
                parse=parse,
            ),
        }
        return {name: value for name, value in classes.items() if name in names(version, "")}


def install(monkeypatch: pytest.MonkeyPatch, version: str, **state: Any) -> StandIn:
    stand_in = StandIn(version)
    vars(stand_in).update(state)
    if state.get("parse_error"):
        stand_in.module.__dict__["OnnxParser"].num_errors = 1
    monkeypatch.setitem(sys.modules, stand_in.module.__name__, stand_in.module)
    return stand_in
