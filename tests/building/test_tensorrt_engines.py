"""Engines of every supported TensorRT, as far as they run without its libraries and a GPU: on stand-ins."""

import contextlib
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bundles import small_recipe
from tensorrt_stand_ins import VERSIONS, names, strict

from elir_trt.backends import tensorrt
from elir_trt.errors import BackendError, ElirWarning
from elir_trt.parts import PARTS, part_shapes, part_tensors
from elir_trt.recipe import Architecture


class Engines:
    """A TensorRT of some version that runs: engines are the names of the parts."""

    def __init__(self, version: str, architecture: Architecture, shapes: dict[str, tuple[int, ...]]) -> None:
        self.refused = ""
        self.dtype = "DataType.HALF"
        self.capturable = True
        self.asked: list[int] = []
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
            is_stream_capturable=lambda self, stream: outer.asked.append(stream) or outer.capturable,
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
            inputs, output = part_tensors(part, architecture)
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
            "BuilderFlag": make("BuilderFlag", REQUIRE_USER_ALLOCATION="user allocation")(),
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
        return 10 + sorted(part_shapes(small_recipe().architecture, (64, 128), 40)).index(name)

    def reserve(self, bytes: int) -> int:
        self.reserved = bytes
        return 99

    def buffer(self, name: str) -> Any:
        raise AssertionError("on the GPU")


@pytest.fixture(params=["none", "gated"])
def bundle(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    recipe = small_recipe()
    recipe = replace(recipe, architecture=replace(recipe.architecture, skip=request.param))
    specification = types.SimpleNamespace(
        precision="fp16", recipe=recipe, size=(64, 128), batch=1, tensorrt="10.3", gpu=None
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
    shapes = part_shapes(recipe.architecture, (64, 128), bundle.condition_width)
    stand_in = Engines(version, recipe.architecture, shapes)
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
    bound = backend.bind((64, 128), 1, core)
    assert list(bound) == list(PARTS) == list(stand_in.contexts)
    assert core.reserved == 1300, "the largest part's, once"
    for part, context in stand_in.contexts.items():
        inputs, output = part_tensors(part, bundle.recipe.architecture)
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
        tensorrt.TensorRtEngines(bundle, flavour).bind((64, 128), 1, core)
        assert stand_in.deserialized == [b"compiled here"] == [kept.read_bytes()]
        assert [path.name for path in kept.parent.iterdir()] == ["runtime.cache"]


@pytest.mark.parametrize("version", VERSIONS)
def test_engines_that_cannot_be_recorded_are_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, bundle: Any, version: str
) -> None:
    stand_in, flavour = engines(monkeypatch, version, bundle)
    bound = tensorrt.TensorRtEngines(bundle, flavour).bind((64, 128), 1, Core())
    bound["encoder"](7)
    assert stand_in.asked == ([7] if flavour == "tensorrt-rtx" else [])
    stand_in.capturable = False
    if flavour == "tensorrt":  # which has no such question
        bound["velocity"](7)
        return
    with pytest.warns(ElirWarning, match=r"tensorrt-rtx 1\..* cannot record the velocity engine") as caught:
        for _ in range(3):
            bound["velocity"](7)
    assert len(caught) == 1
    assert stand_in.contexts["velocity"]._handles == [7, 7, 7]


def test_engines_live_in_the_primary_context(monkeypatch: pytest.MonkeyPatch, bundle: Any) -> None:
    """Whatever context the thread has: what was made in another could not be used by the core."""
    seen: list[str] = []
    stand_in, flavour = engines(monkeypatch, "10.3.0", bundle)

    @contextlib.contextmanager
    def primary() -> Iterator[None]:
        seen.append("in")
        yield
        seen.append("out")

    monkeypatch.setattr(tensorrt, "primary_context", primary)
    runtime = stand_in.module.__dict__["Runtime"]
    deserialize = runtime.deserialize_cuda_engine

    def noted(self: Any, content: bytes) -> Any:
        seen.append("load")
        return deserialize(self, content)

    monkeypatch.setattr(runtime, "deserialize_cuda_engine", noted)
    backend = tensorrt.TensorRtEngines(bundle, flavour)
    assert seen == ["in", *["load"] * 4, "out", "in", "out"]
    seen.clear()
    backend.bind((64, 128), 1, Core())
    assert seen == ["in", "out"] * 4


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
        backend.bind((64, 64), 1, Core())
    bound = backend.bind((64, 128), 1, Core())
    stand_in.refused = "run"
    with pytest.raises(BackendError, match="illegal memory access"):
        bound["encoder"](7)
