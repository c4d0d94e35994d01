"""The builder against every supported TensorRT, as far as that goes without their libraries and a GPU.

tests/data/tensorrt_api.json lists the members of the classes that are used, read from NVIDIA's own bindings.
Here they are checked against the protocols, and stand-ins that have the listed names and no others run the
builder.
"""

from __future__ import annotations

import ast
import sys
import warnings
from pathlib import Path

import pytest
from tensorrt_stand_ins import FULL, LISTING, ONNX, VERSIONS, install, members, names

from elir_trt.backends import tensorrt, tensorrt_api, tensorrt_builder
from elir_trt.backends.tensorrt_builder import build_engine
from elir_trt.errors import BackendError, BuildError, ElirWarning


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


@pytest.mark.parametrize("version", VERSIONS)
def test_builds_with_the_names_of_every_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str
) -> None:
    stand_in = install(monkeypatch, version)
    flavour: tensorrt_api.Flavour = "tensorrt-rtx" if version.startswith("rtx") else "tensorrt"
    calls: list[tuple[str, int, int]] = []
    built = build_engine(
        ONNX,
        flavour=flavour,
        part="encoder",
        timing_cache=tmp_path / "timing.cache",
        workspace_bytes=1 << 30,
        builder_optimization_level=5,
        max_aux_streams=2,
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
    (config,) = stand_in.configs
    assert (config.builder_optimization_level, config.max_aux_streams) == (5, 2)
    assert config._limits == ((0, 1 << 30),)
    # Without it, TensorRT-RTX does not promise that what it builds can be recorded.
    assert config._flags == (("user allocation",) if flavour == "tensorrt-rtx" else ())


@pytest.mark.parametrize("version", VERSIONS)
def test_an_engine_has_one_stream_unless_asked(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    stand_in = install(monkeypatch, version)
    build_engine(ONNX, flavour="tensorrt-rtx" if version.startswith("rtx") else "tensorrt", part="encoder")
    (config,) = stand_in.configs
    assert (config.max_aux_streams, config.builder_optimization_level, config._limits) == (0, 3, ())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workspace_bytes": -1}, "encoder: workspace_bytes is -1; expected a positive number"),
        ({"builder_optimization_level": 6}, "encoder: builder_optimization_level is 6; expected 0 to 5"),
        ({"max_aux_streams": -1}, "encoder: max_aux_streams is -1; expected 0 or more"),
    ],
)
def test_bad_options_are_named(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, int], message: str
) -> None:
    install(monkeypatch, FULL[0])
    with pytest.raises(BuildError, match=message):
        build_engine(ONNX, flavour="tensorrt", part="encoder", **options)  # type: ignore[arg-type]


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
