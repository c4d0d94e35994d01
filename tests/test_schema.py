"""Checked data: what is refused, and how it is said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass, field, replace
from typing import Annotated, Any, Literal

import pytest

from elir_trt.schema import Bounds, Pattern, Schema, SchemaError


@dataclass(frozen=True, kw_only=True)
class Inner(Schema):
    count: Annotated[int, Bounds(least=1, most=64, multiple=2)] = 2


@dataclass(frozen=True, kw_only=True)
class Other(Schema):
    word: str


@dataclass(frozen=True, kw_only=True)
class Outer(Schema):
    name: Annotated[str, Pattern(r"[a-z]+", "a word in lower case")]
    ratio: Annotated[float, Bounds(above=0)] = 1.0
    kind: Literal["a", 1] = "a"
    flag: bool = False
    size: tuple[int, int] = (1, 2)
    levels: tuple[Inner, ...] = ()
    table: Mapping[Literal["x", "y"], Inner] = field(default_factory=dict)
    either: Inner | Other | None = None

    def check(self) -> None:
        if self.size[0] > self.size[1]:
            raise ValueError("size: rows first")


GOOD: dict[str, Any] = {
    "name": "abc",
    "ratio": 2,
    "kind": 1,
    "flag": True,
    "size": [3, 4],
    "levels": [{"count": 4}, {}],
    "table": {"x": {"count": 6}},
    "either": {"word": "w"},
}


def test_data_goes_both_ways() -> None:
    made = Outer.from_data(GOOD)
    assert made.ratio == 2.0 and type(made.ratio) is float
    assert made.size == (3, 4) and made.levels == (Inner(count=4), Inner())
    assert made.table == {"x": Inner(count=6)} and made.either == Other(word="w")
    assert Outer.from_json(json.dumps(made.to_data())) == made
    assert made.to_data()["levels"] == [{"count": 4}, {"count": 2}]


@pytest.mark.parametrize(
    ("changes", "field_name", "words"),
    [
        ({"name": "ABC"}, "name", ["must be a word in lower case", "found 'ABC'"]),
        ({"name": "abc\n"}, "name", ["must be a word in lower case"]),
        ({"name": 5}, "name", ["must be a string", "found 5"]),
        ({"ratio": 0}, "ratio", ["must be greater than 0", "found 0"]),
        ({"ratio": float("nan")}, "ratio", ["must be greater than 0"]),
        ({"ratio": True}, "ratio", ["must be a number", "found True"]),
        ({"kind": True}, "kind", ["must be 'a' or 1", "found True"]),
        ({"kind": "b"}, "kind", ["must be 'a' or 1", "found 'b'"]),
        ({"flag": 1}, "flag", ["must be true or false"]),
        ({"size": [1, 2, 3]}, "size", ["must have 2 values"]),
        ({"size": "12"}, "size", ["must be a list"]),
        ({"size": [1, 2.0]}, "size.1", ["must be an integer", "found 2.0"]),
        ({"size": [5, 4]}, "", ["size: rows first"]),
        ({"levels": [{}, {"count": 3}]}, "levels.1.count", ["must be a multiple of 2", "found 3"]),
        ({"levels": [{"count": 66}]}, "levels.0.count", ["must be at most 64"]),
        ({"levels": [{"cuont": 2}]}, "levels.0.cuont", ["no such key; known are count"]),
        ({"levels": [[]]}, "levels.0", ["must be a table"]),
        ({"table": {"z": {}}}, "table.z", ["must be 'x' or 'y'"]),
        ({"table": []}, "table", ["must be a table"]),
        ({"either": {"neither": 1}}, "either", ["must be one of Inner, Other"]),
        ({"colour": 1}, "colour", ["no such key; known are", "name"]),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], field_name: str, words: list[str]) -> None:
    with pytest.raises(SchemaError) as caught:
        Outer.from_data({**GOOD, **changes})
    assert caught.value.field == field_name
    for word in words:
        assert word in str(caught.value)


def test_a_missing_key_is_named_and_other_things_are_no_table() -> None:
    with pytest.raises(SchemaError, match="name: is missing"):
        Outer.from_data({})
    with pytest.raises(SchemaError, match="must be a table of keys and values"):
        Outer.from_data([1])
    with pytest.raises(SchemaError, match="not JSON"):
        Outer.from_json("{")


def test_objects_are_checked_however_they_are_made_and_do_not_change() -> None:
    made = Outer(name="abc")
    with pytest.raises(SchemaError, match="ratio: must be greater"):
        replace(made, ratio=-1.0)
    with pytest.raises(SchemaError, match="name"):
        Outer(name="A")
    with pytest.raises(FrozenInstanceError):
        made.name = "b"  # type: ignore[misc]
