"""What a stream is made of, as Python says it: geometries and options, checked before any device is opened."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from core_streams import geometry, make, options

from elir_trt import _core

GEOMETRY: dict[str, Any] = {
    "frame": (20, 30),
    "engine": (32, 64),
    "scaled": (40, 90),
    "scale": (2.0, 3.0),
    "interpolation": "nearest",
    "tiles": ((0, 0), (8, 0), (8, 28), (0, 28)),
    "downscale": 4,
    "latent_channels": 7,
}
OPTIONS: dict[str, Any] = {
    "sigma": 0.25,
    "steps": 1,
    "table": np.arange(9, dtype=np.float32).reshape(3, 3),
    "seed": 2**64 - 1,
    "noise": "per-frame",
    "depth": 4096,
    "drop": "oldest",
    "format": "nv12",
    "output_format": "bgra",
    "matrix": "bt601",
    "full_range": True,
    "results": "device",
    "element": "bfloat16",
    "device": "cuda",
    "ordinal": 3,
    "record": False,
    "frames": "mapped",
    "batch": 64,
}
DEFAULTS: dict[str, Any] = {
    "seed": 0,
    "noise": "fixed",
    "depth": 3,
    "drop": "block",
    "format": "rgb24",
    "output_format": "rgb24",
    "matrix": "bt709",
    "full_range": False,
    "results": "host",
    "element": "float32",
    "device": "cpu",
    "ordinal": 0,
    "record": True,
    "frames": "auto",
    "batch": 1,
}


def test_a_geometry_is_what_it_was_made_of() -> None:
    made = _core.Geometry(**GEOMETRY)
    assert {name: getattr(made, name) for name in GEOMETRY} == GEOMETRY
    assert (
        repr(made) == "Geometry(" + ", ".join(f"{name}={value!r}" for name, value in GEOMETRY.items()) + ")"
    )
    with pytest.raises(AttributeError):
        made.downscale = 8  # type: ignore[misc]


def test_options_are_what_they_were_made_of() -> None:
    """Those of a GPU too, on a machine that has none."""
    made = _core.StreamOptions(**OPTIONS)
    assert {name: getattr(made, name) for name in OPTIONS if name != "table"} == {
        name: value for name, value in OPTIONS.items() if name != "table"
    }
    np.testing.assert_array_equal(made.table, OPTIONS["table"])
    made.table[...] = 0  # a copy
    np.testing.assert_array_equal(made.table, OPTIONS["table"])
    assert repr(made).startswith("StreamOptions(sigma=0.25, steps=1, table=<float32 of shape 3x3>, seed=1844")
    with pytest.raises(AttributeError):
        made.steps = 2  # type: ignore[misc]


def test_defaults_are_those_of_the_stub() -> None:
    made = options()
    assert {name: getattr(made, name) for name in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize("name", GEOMETRY)
def test_a_geometry_is_given_whole_and_by_names(name: str) -> None:
    with pytest.raises(TypeError):
        _core.Geometry(**{key: value for key, value in GEOMETRY.items() if key != name})
    with pytest.raises(TypeError):
        _core.Geometry(*GEOMETRY.values())
    with pytest.raises(TypeError):
        _core.Stream(geometry((8, 8), (8, 8)), **OPTIONS)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sigma": float("nan")}, "sigma is nan; expected 0 or more"),
        ({"steps": -1}, "steps is -1; expected 0 or more"),
        ({"steps": 2}, "table has 0 rows; expected .* at least steps, 2"),
        ({"table": np.zeros((2, 3))}, "table has 2 rows"),
        ({"table": np.zeros(3)}, "table has 1 dimensions; expected 2"),
        ({"table": np.zeros((1, 0))}, "table has rows of 0 numbers"),
        ({"depth": 0}, "depth is 0; expected 1 to 4096"),
        ({"depth": 10**9, "device": "cuda"}, "depth is 1000000000; expected 1 to 4096"),
        ({"batch": 65}, "batch is 65; expected 1 to 64"),
        ({"results": "gpu"}, "results is 'gpu'; allowed: host, device"),
        ({"frames": "pinned"}, "frames is 'pinned'; allowed: auto, copied, mapped"),
        ({"element": "int8"}, "element is 'int8'; allowed: float32, float16, bfloat16"),
        ({"output_format": "yuv"}, "output_format is 'yuv'; allowed: rgb24"),
    ],
)
def test_wrong_options_are_errors_before_a_device_is_opened(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        options(**changes)


def test_python_goes_on_while_a_stream_is_opened() -> None:
    """Opening one with 100 MB of frames takes a while, in which another thread counts."""
    counted, opened = [0], threading.Event()

    def count() -> None:
        while not opened.is_set():
            counted[0] += 1
            time.sleep(0.0005)

    counter = threading.Thread(target=count)
    counter.start()
    before = counted[0]
    stream = make((256, 256), (256, 256), depth=256)
    after = counted[0]
    assert stream.execution_mode == "eager"  # held until here: its end takes a while, too
    opened.set()
    counter.join()
    assert after - before >= 5
