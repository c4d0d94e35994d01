"""The builder against every supported TensorRT, as far as that goes without their libraries and a GPU.

tests/data/tensorrt_api.json lists the members of the classes that are used, read from NVIDIA's own bindings.
Here they are checked against the protocols, and stand-ins that have the listed names and no others run the
builder.
"""

from __future__ import annotations

import ast
import json
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import pytest
from bundles import small_recipe

from elir_trt.backends import tensorrt, tensorrt_api, tensorrt_builder
from elir_trt.backends.tensorrt_builder import build_engine
from elir_trt.errors import BackendError, BuildError, ElirWarning
from elir_trt.parts import PARTS, TENSORS, part_shapes

LISTING: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "tensorrt_api.json").read_text())
VERSIONS: list[str] = LISTING["versions"]
FULL = [version for version in VERSIONS if not version.startswith("rtx")]
ONNX = b"any bytes; the stand-in's parser takes them"


def names(version: str, class_name: str) -> set[str]:
    row: dict[str, list[str]] = LISTING[class_name]
    return {*row["*"], *row.get(version, ())}


def members(protocol: type) -> set[str]:
    found = {*vars(protocol), *vars(protocol).get("__annotations__", ())}
    return {name for name in found if not name.startswith("_")}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_exists_or_is_chosen_by_a_feature_test(version: str) -> None:
    for protocol in (tensorrt_api.Module, *tensorrt_api.PROTOCOLS):
        listed = "" if protocol is tensorrt_api.Module else protocol.__name__
        chosen = tensorrt_api.CHOSEN.get(listed, frozenset())
        assert members(protocol) - chosen - {
            "IBuilderConfig",
            "IExecutionContext",
            "IRuntimeConfig",
        } <= names(version, listed)


def test_every_chosen_name_exists_somewhere_and_not_everywhere() -> None:
    for class_name, chosen in tensorrt_api.CHOSEN.items():
        for name in chosen:
            having = [version for version in VERSIONS if name in names(version, class_name)]
            assert having and having != VERSIONS, f"{class_name}.{name} is in {having}"


def test_no_name_is_used_beside_the_protocols() -> None:
    """The type checker sees to it where types are known; this also covers what it knows as Any."""
    listed = {
        name for version in VERSIONS for row in LISTING if row != "versions" for name in names(version, row)
    }
    known = {
        name for protocol in (tensorrt_api.Module, *tensorrt_api.PROTOCOLS) for name in members(protocol)
    }
    own = {"name", "logger", "update"}  # Also attributes of paths, of TensorRt and of sets.
    for module in (tensorrt_api, tensorrt_builder, tensorrt):
        tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert used & listed <= known | own


def test_tensorrt_is_imported_in_one_place() -> None:
    package = Path(str(tensorrt_api.__file__)).parents[1]
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in found if name.split(".")[0] in ("tensorrt", "tensorrt_rtx")], path


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
            create_timing_cache=create_timing_cache,
            get_timing_cache=lambda self: self._cache,
            num_compute_capabilities=0,
            progress_monitor=None,
            set_compute_capability=lambda self, target, index: True,
            set_memory_pool_limit=lambda self, pool, size: None,
            set_timing_cache=set_timing_cache,
        )
        error = make(
            "ParserError",
            desc=lambda self: "Assertion failed:\nkernel too large",
            node=lambda self: 3,
            node_name=lambda self: "first",
            node_operator=lambda self: "Conv",
        )
        classes = {
            "Builder": make(
                "Builder",
                __init__=init_builder,
                build_serialized_network=build,
                create_builder_config=lambda self: config(),
                create_network=create_network,
            ),
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
                get_error=lambda self, index: error(),
                num_errors=int(self.parse_error),
                parse=lambda self, model: not outer.parse_error,
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


@pytest.mark.parametrize("version", VERSIONS)
def test_builds_with_the_names_of_every_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str
) -> None:
    install(monkeypatch, version)
    flavour: tensorrt_api.Flavour = "tensorrt-rtx" if version.startswith("rtx") else "tensorrt"
    calls: list[tuple[str, int, int]] = []
    built = build_engine(
        ONNX,
        flavour=flavour,
        part="encoder",
        timing_cache=tmp_path / "timing.cache",
        workspace_bytes=1 << 30,
        compute_capabilities=["75", "120"] if flavour == "tensorrt-rtx" else [],
        progress=lambda *call: calls.append(call),
    )
    assert built.data == b"engine"
    assert built.layers == 7
    assert (built.flavour, built.version) == (flavour, version.removeprefix("rtx-"))
    assert built.warnings == ("something is slow",)
    assert calls[-1] == ("Building engine", 2, 2)
    features = tensorrt_api.load(flavour).features
    assert features.timing_cache == (tmp_path / "timing.cache").exists() == (flavour == "tensorrt")
    assert features.compute_capabilities == features.stream_capturable == (flavour == "tensorrt-rtx")


def test_stand_ins_are_strict(monkeypatch: pytest.MonkeyPatch) -> None:
    module = install(monkeypatch, "10.3.0").module
    config = module.__dict__["IBuilderConfig"]()
    with pytest.raises(AttributeError, match="num_compute_capabilities"):
        config.num_compute_capabilities = 1
    assert not hasattr(module, "ComputeCapability")


@pytest.mark.parametrize("version", FULL)
def test_full_tensorrt_builds_for_its_own_gpu_only(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    install(monkeypatch, version)
    with pytest.raises(BuildError, match="pip install tensorrt-rtx"):
        build_engine(ONNX, flavour="tensorrt", part="encoder", compute_capabilities=["86"])


def test_no_gpu_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FULL[0], no_gpu=True)
    with pytest.raises(BuildError, match=r"does not start; it needs a GPU.*CUDA initialization failure"):
        build_engine(ONNX, flavour="tensorrt", part="encoder")


def test_failed_build_says_why_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FULL[0], fails=True)
    with pytest.raises(BuildError, match=r"^encoder: .*cannot build the engine: Error Code 10: .* first$"):
        build_engine(ONNX, flavour="tensorrt", part="encoder")


def test_parser_errors_are_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FULL[0], parse_error=True)
    with pytest.raises(BuildError, match=r"^encoder: .*node 3 'first' \(Conv\): Assertion failed: kernel"):
        build_engine(ONNX, flavour="tensorrt", part="encoder")


def build_cached(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_engine(ONNX, flavour="tensorrt", part="encoder", timing_cache=path)


def test_timing_cache_is_kept_and_used_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_in = install(monkeypatch, FULL[0])
    path = tmp_path / "new folder" / "timing.cache"
    build_cached(path)
    assert path.read_bytes() == b"cache gpu0 tactic"
    build_cached(path)
    assert stand_in.loaded == [b"cache gpu0", b"cache gpu0 tactic"]
    assert sorted(file.name for file in path.parent.iterdir()) == [".timing.cache.lock", "timing.cache"]


def test_timing_cache_is_merged_with_what_others_wrote(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, FULL[0])
    path = tmp_path / "timing.cache"
    path.write_bytes(b"cache gpu0")
    build_engine(
        ONNX,
        flavour="tensorrt",
        part="encoder",
        timing_cache=path,
        progress=lambda *_: [path.write_bytes(b"cache gpu0 theirs")],  # type: ignore[arg-type]
    )
    assert path.read_bytes() == b"cache gpu0 tactic theirs"


@pytest.mark.parametrize(
    ("content", "reason"), [(b"garbage", "Failed to deserialize"), (b"cache gpu7 x", "another GPU")]
)
def test_useless_timing_cache_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes, reason: str
) -> None:
    install(monkeypatch, FULL[0])
    path = tmp_path / "timing.cache"
    path.write_bytes(content)
    with pytest.warns(ElirWarning, match=reason):
        built = build_engine(ONNX, flavour="tensorrt", part="encoder", timing_cache=path)
    assert built.data == b"engine"
    assert path.read_bytes().startswith(b"cache gpu0 tactic")
    build_cached(path)


def test_timing_cache_that_cannot_be_written_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, FULL[0])
    (tmp_path / "file").write_bytes(b"")
    with pytest.warns(ElirWarning, match="cannot be"):
        built = build_engine(
            ONNX, flavour="tensorrt", part="encoder", timing_cache=tmp_path / "file" / "timing.cache"
        )
    assert built.data == b"engine"


def test_missing_tensorrt_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for flavour, name in tensorrt_api.MODULES.items():
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(BackendError, match=f"{flavour} cannot be imported.*pip install {flavour}"):
            tensorrt_api.load(flavour)
    with pytest.raises(BackendError, match="allowed are tensorrt, tensorrt-rtx"):
        tensorrt_api.load("tensorflow")  # type: ignore[arg-type]


class Engines:
    """A TensorRT of some version that runs: engines are the names of the parts."""

    def __init__(self, version: str, shapes: dict[str, tuple[int, ...]]) -> None:
        self.refused = ""
        self.dtype = "DataType.HALF"
        self.contexts: dict[str, Any] = {}
        self.deserialized: list[bytes] = []
        outer = self
        self.logger: Any = None

        def make(class_name: str, **body: Any) -> Any:
            return strict(version, class_name, body)

        class Memory(bytes):
            @property
            def nbytes(self) -> int:
                return len(self)

        cache = make(
            "IRuntimeCache",
            deserialize=lambda self, blob: outer.deserialized.append(blob) or True,
            serialize=lambda self: Memory(b"compiled here"),
        )
        config = make(
            "IRuntimeConfig",
            _strategy=None,
            _cache=None,
            cuda_graph_strategy="WHOLE",
            create_runtime_cache=lambda self: cache(),
            set_execution_context_allocation_strategy=lambda self, s: setattr(self, "_strategy", s),
            set_runtime_cache=lambda self, kept: setattr(self, "_cache", kept) or True,
        )

        def execute(self: Any, handle: int) -> bool:
            self._handles.append(handle)
            if outer.refused == "run":
                outer.logger.log(1, "an illegal memory access was encountered")
            return outer.refused != "run"

        context = make(
            "IExecutionContext",
            is_stream_capturable=lambda self, stream: True,
            execute_async_v3=execute,
            set_device_memory=lambda self, memory, size: setattr(self, "_block", (memory, size)),
            set_tensor_address=lambda self, name, memory: self._bound.update({name: memory}) or True,
        )

        def create(self: Any, strategy: Any) -> Any:
            made = context()
            made._bound, made._handles, made._made_with = {}, [], strategy
            outer.contexts[self._part] = made
            return made

        def deserialize(self: Any, content: bytes) -> Any:
            part = content.decode()
            if outer.refused == part:
                outer.logger.log(1, "The engine plan file is not compatible with this version")
                return None
            inputs, output = TENSORS[part]
            tensors = (*inputs, output)
            return make(
                "ICudaEngine",
                _part=part,
                device_memory_size_v2=1000 + 100 * PARTS.index(part),
                num_io_tensors=len(tensors),
                create_execution_context=create,
                create_runtime_config=lambda self: config(),
                get_tensor_dtype=lambda self, name: outer.dtype,
                get_tensor_name=lambda self, index: tensors[index],
                get_tensor_shape=lambda self, name: shapes[name],
            )()

        def start(self: Any, logger: Any) -> None:
            outer.logger = logger

        classes = {
            "CudaGraphStrategy": types.SimpleNamespace(DISABLED="disabled"),
            "ExecutionContextAllocationStrategy": make(
                "ExecutionContextAllocationStrategy", USER_MANAGED="user managed"
            )(),
            "IBuilderConfig": make("IBuilderConfig"),
            "IExecutionContext": context,
            "ILogger": make("ILogger"),
            "IRuntimeConfig": config,
            "Runtime": make("Runtime", __init__=start, deserialize_cuda_engine=deserialize),
        }
        self.module = types.ModuleType("tensorrt_rtx" if version.startswith("rtx") else "tensorrt")
        kept = {name: value for name, value in classes.items() if name in names(version, "")}
        self.module.__dict__.update(kept, __version__=version.removeprefix("rtx-"))


class Core:
    """The core's buffers, by numbers."""

    def address(self, name: str) -> int:
        return 10 + sorted({n for inputs, output in TENSORS.values() for n in (*inputs, output)}).index(name)

    def reserve(self, bytes: int) -> int:
        self.reserved = bytes
        return 99

    def buffer(self, name: str) -> Any:
        raise AssertionError("on the GPU")


@pytest.fixture
def bundle(tmp_path: Path) -> Any:
    recipe = small_recipe()
    specification = types.SimpleNamespace(
        precision="fp16", recipe=recipe, size=(64, 128), tensorrt="10.3", gpu=None
    )
    (tmp_path / "tensorrt-rtx").mkdir()
    return types.SimpleNamespace(
        path=tmp_path,
        recipe=recipe,
        condition_width=40,
        manifest=types.SimpleNamespace(specification=specification),
        read_engine=lambda backend, part: [part.encode()],
        precisions=lambda backend: dict.fromkeys(PARTS),
    )


def engines(monkeypatch: pytest.MonkeyPatch, version: str, bundle: Any) -> tuple[Engines, Any]:
    recipe = bundle.recipe
    stand_in = Engines(version, part_shapes(recipe.architecture, (64, 128), bundle.condition_width))
    monkeypatch.setitem(sys.modules, stand_in.module.__name__, stand_in.module)
    return stand_in, "tensorrt-rtx" if version.startswith("rtx") else "tensorrt"


@pytest.mark.parametrize("version", VERSIONS)
def test_runs_with_the_names_of_every_version(
    monkeypatch: pytest.MonkeyPatch, bundle: Any, version: str
) -> None:
    stand_in, flavour = engines(monkeypatch, version, bundle)
    backend = tensorrt.TensorRtEngines(bundle, flavour)
    assert (backend.device, backend.element, backend.sizes()) == ("cuda", "float16", ((64, 128),))
    core = Core()
    bound = backend.bind((64, 128), core)
    assert list(bound) == list(PARTS) == list(stand_in.contexts)
    assert core.reserved == 1300, "the largest part's, once"
    for part, context in stand_in.contexts.items():
        inputs, output = TENSORS[part]
        assert context._block == (99, 1300)
        assert context._bound == {name: core.address(name) for name in (*inputs, output)}
        bound[part](7)
        assert context._handles == [7]
        made_with = context._made_with
        if flavour == "tensorrt":
            assert made_with == "user managed"
        else:
            assert (made_with._strategy, made_with.cuda_graph_strategy) == ("user managed", "disabled")
            assert made_with._cache is not None
    backend.stream_closed()
    kept = bundle.path / tensorrt.RUNTIME_CACHE
    assert kept.exists() == (flavour == "tensorrt-rtx")
    if flavour == "tensorrt-rtx":
        tensorrt.TensorRtEngines(bundle, flavour).bind((64, 128), core)
        assert stand_in.deserialized == [b"compiled here"] == [kept.read_bytes()]
        assert [path.name for path in kept.parent.iterdir()] == ["runtime.cache"]


def test_engines_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch, bundle: Any) -> None:
    stand_in, flavour = engines(monkeypatch, "10.3.0", bundle)
    stand_in.refused = "velocity"
    with pytest.raises(
        BackendError, match=r"tensorrt 10.3.0 does not load the velocity engine.*not compatible"
    ):
        tensorrt.TensorRtEngines(bundle, flavour)
    stand_in.refused = ""
    stand_in.dtype = "DataType.FLOAT"
    with pytest.raises(
        BackendError, match="the encoder engine's image is FLOAT; a bundle of fp16 has float16"
    ):
        tensorrt.TensorRtEngines(bundle, flavour)
    stand_in.dtype = "DataType.HALF"
    backend = tensorrt.TensorRtEngines(bundle, flavour)
    with pytest.raises(
        BackendError, match=r"the encoder engine's image is \(1, 3, 64, 128\); frames of 64x64"
    ):
        backend.bind((64, 64), Core())
    bound = backend.bind((64, 128), Core())
    stand_in.refused = "run"
    with pytest.raises(BackendError, match="illegal memory access"):
        bound["encoder"](7)
