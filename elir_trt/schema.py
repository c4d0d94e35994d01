"""Checked data: frozen dataclasses that are read from TOML and JSON, and written to JSON.

A field's annotation says what it holds, and bounds stand beside it: ``Annotated[int, Bounds(least=1)]``. Every way
to make an object checks it, ``dataclasses.replace`` too.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

S = TypeVar("S", bound="Schema")


class SchemaError(ValueError):
    """Data that does not fit.

    Attributes:
        field: its path from the outermost object, such as "architecture.widths.0"; empty: the object as a whole.
        problem: what was found and what was expected.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field, self.problem = field, problem


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What a number may be: at ``least``, ``above``, at ``most``, a ``multiple`` of."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    multiple: int | None = None

    def check(self, value: Any) -> None:
        """Raise a ValueError that says what is expected of ``value``."""
        if self.least is not None and not value >= self.least:
            raise ValueError(f"must be at least {self.least}")
        if self.above is not None and not value > self.above:
            raise ValueError(f"must be greater than {self.above}")
        if self.most is not None and not value <= self.most:
            raise ValueError(f"must be at most {self.most}")
        if self.multiple is not None and value % self.multiple:
            raise ValueError(f"must be a multiple of {self.multiple}")


@dataclasses.dataclass(frozen=True)
class Pattern:
    """What a string must match as a whole, and how that is called."""

    expression: str
    meaning: str

    def check(self, value: Any) -> None:
        """Raise a ValueError that says what is expected of ``value``."""
        if not re.fullmatch(self.expression, value):
            raise ValueError(f"must be {self.meaning}")


class Schema:
    """Base of checked, frozen dataclasses; their fields are given by keyword.

    Fields may be ``bool``, ``int``, ``float`` (which takes integers), ``str``, a ``Literal``, a tuple, a mapping,
    another schema, one of several schemas with different fields, each also or None.
    """

    def __post_init__(self) -> None:
        """Check every field, then the whole.

        Raises:
            SchemaError: a value does not fit.
        """
        for name, kind in _kinds(type(self)).items():
            object.__setattr__(self, name, _checked(kind, getattr(self, name), name))
        try:
            self.check()
        except SchemaError:
            raise
        except ValueError as error:
            raise SchemaError("", str(error)) from None

    def check(self) -> None:
        """Raise a ValueError where fields do not fit together."""

    @classmethod
    def from_data(cls: type[S], data: Any) -> S:
        """Make one from what TOML or JSON gave: lists for tuples, dictionaries for schemas.

        Raises:
            SchemaError: a key is unknown or missing, or a value does not fit.
        """
        if not isinstance(data, Mapping):
            raise SchemaError("", f"must be a table of keys and values{_found(data)}")
        fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        for key in data:
            if key not in fields:
                raise SchemaError(str(key), f"no such key; known are {', '.join(sorted(fields))}")
        for name, field in fields.items():
            none = dataclasses.MISSING
            if name not in data and field.default is none and field.default_factory is none:
                raise SchemaError(name, "is missing")
        return cls(**data)

    @classmethod
    def from_json(cls: type[S], text: str | bytes) -> S:
        """Read one from JSON.

        Raises:
            SchemaError: it is no JSON, or a value does not fit.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise SchemaError("", f"not JSON: {error}") from None
        return cls.from_data(data)

    def to_data(self) -> dict[str, Any]:
        """Nested dictionaries and lists, as JSON has them."""
        return {name: _plain(getattr(self, name)) for name in _kinds(type(self))}


def _kinds(cls: Any) -> dict[str, Any]:
    """Names of the fields and their annotations, read once for each class."""
    if "_kinds_of_fields" not in vars(cls):
        hints = get_type_hints(cls, include_extras=True)
        cls._kinds_of_fields = {field.name: hints[field.name] for field in dataclasses.fields(cls)}
    kinds: dict[str, Any] = vars(cls)["_kinds_of_fields"]
    return kinds


def _plain(value: Any) -> Any:
    if isinstance(value, Schema):
        return value.to_data()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _found(value: Any) -> str:
    return f" (found {str(value)[:80]!r})" if isinstance(value, str) else f" (found {str(value)[:80]})"


def _checked(kind: Any, value: Any, field: str) -> Any:
    """``value`` as ``kind``, an annotation, has it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        value = _checked(arguments[0], value, field)
        for bound in arguments[1:]:
            try:
                bound.check(value)
            except ValueError as error:
                raise SchemaError(field, f"{error}{_found(value)}") from None
        return value
    if origin is Literal:
        if not any(value == allowed and type(value) is type(allowed) for allowed in arguments):
            raise SchemaError(field, f"must be {' or '.join(map(repr, arguments))}{_found(value)}")
        return value
    if origin in (Union, types.UnionType):
        return _one_of(arguments, value, field)
    if origin is tuple:
        return _tuple(arguments, value, field)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise SchemaError(field, f"must be a table of keys and values{_found(value)}")
        return {
            _checked(arguments[0], key, f"{field}.{key}"): _checked(arguments[1], item, f"{field}.{key}")
            for key, item in value.items()
        }
    if isinstance(kind, type) and issubclass(kind, Schema):
        if isinstance(value, kind):
            return value
        try:
            return kind.from_data(value)
        except SchemaError as error:
            path = f"{field}.{error.field}" if error.field else field
            raise SchemaError(path, error.problem) from None
    return _scalar(kind, value, field)


def _one_of(kinds: tuple[Any, ...], value: Any, field: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    if len(others) > 1:
        for kind in others:
            names = set(_kinds(kind))
            if type(value) is kind or (isinstance(value, Mapping) and set(value) == names):
                return _checked(kind, value, field)
        raise SchemaError(
            field, f"must be one of {', '.join(kind.__name__ for kind in others)}{_found(value)}"
        )
    return _checked(others[0], value, field)


def _tuple(kinds: tuple[Any, ...], value: Any, field: str) -> tuple[Any, ...]:
    if not isinstance(value, (tuple, list)):
        raise SchemaError(field, f"must be a list{_found(value)}")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise SchemaError(field, f"must have {len(kinds)} values{_found(value)}")
    return tuple(
        _checked(kind, item, f"{field}.{index}")
        for index, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


def _scalar(kind: type, value: Any, field: str) -> Any:
    names = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise SchemaError(field, f"must be {names[kind]}{_found(value)}")
    return value
