"""Pydantic's share: its models keep their own rules, wherever they stand in a value.

Nothing here imports pydantic before a type of pydantic's is in use: only a program that has imported it has one.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Annotated, Any, Final, Union, get_args, get_origin

import msgspec

if TYPE_CHECKING:
    import pydantic
    from pydantic.json_schema import GenerateJsonSchema

__all__ = [
    "Adapter",
    "Misfit",
    "SchemaError",
    "adapter",
    "from_data",
    "is_model",
    "is_model_type",
    "is_pure",
    "schema_of",
    "to_data",
]

# What pydantic and msgspec write and read alike; of bytes, for one, they have different opinions.
_CONTAINERS: Final = (list, dict, tuple, set, frozenset, Sequence, Mapping, AbstractSet, Union, types.UnionType)
_SCALARS: Final = (str, int, float, bool, types.NoneType, None, ...)


class Misfit(ValueError):
    """Pydantic refused a payload."""

    def __init__(self, error: pydantic.ValidationError) -> None:
        first, *others = error.errors(include_url=False, include_context=False, include_input=False)
        more = f" (and {len(others)} more)" if others else ""
        super().__init__(f"{first['msg']}{more}")
        self.path: str = "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])


class SchemaError(TypeError):
    """Pydantic cannot build a schema for a type."""


def is_model(type_: Any) -> bool:
    """Whether pydantic made this class: a model, or a dataclass of its own."""
    return isinstance(type_, type) and "__pydantic_validator__" in type_.__dict__


def is_model_type(type_: Any) -> bool:
    """Whether a type is a model, or a container or union of models, at any depth of type arguments."""
    if is_model(type_):
        return True
    arguments = get_args(type_)
    if get_origin(type_) is Annotated:
        arguments = arguments[:1]
    return any(is_model_type(argument) for argument in arguments)


def is_pure(type_: Any) -> bool:
    """Whether a type is made of models, and of nothing else that pydantic would write in a way of its own."""
    if is_model(type_) or any(type_ is scalar for scalar in _SCALARS):
        return True
    origin, arguments = get_origin(type_), get_args(type_)
    if origin is Annotated:
        return is_pure(arguments[0])
    return origin in _CONTAINERS and all(map(is_pure, arguments))


class Adapter:
    """Pydantic's rules for one type, its exceptions made ours."""

    __slots__ = ("_adapter",)

    def __init__(self, type_: Any) -> None:
        import pydantic

        try:
            self._adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(type_)
        except pydantic.errors.PydanticUserError as error:
            raise SchemaError(error.message) from None

    def dump(self, value: object) -> Any:
        return self._adapter.dump_python(value, mode="json", by_alias=True, round_trip=True, warnings="error")

    def load(self, data: bytes) -> Any:
        import pydantic

        try:
            return self._adapter.validate_json(data)
        except pydantic.ValidationError as error:
            raise Misfit(error) from None

    def schema(self) -> dict[str, Any]:
        return self._adapter.json_schema(schema_generator=_generator())


@functools.cache
def _generator() -> type[GenerateJsonSchema]:
    from pydantic.json_schema import GenerateJsonSchema

    class Stable(GenerateJsonSchema):
        """Writes the default of a set in an order that is the same in every process."""

        def encode_default(self, dft: Any) -> Any:
            encoded = super().encode_default(dft)
            return sorted(encoded, key=msgspec.json.encode) if isinstance(dft, set | frozenset) else encoded

    return Stable


adapter: Final = functools.lru_cache(maxsize=1024)(Adapter)
"""The rules for a type, made once: that takes longer than using them."""


def to_data(value: Any) -> Any:
    """msgspec's hook for writing what it does not know."""
    if is_model(type(value)):
        return value.model_dump(mode="json", by_alias=True, round_trip=True, warnings="error")
    msg = f"a {type(value).__qualname__} has no form in JSON"
    raise TypeError(msg)


def from_data(type_: Any, data: Any) -> Any:
    """msgspec's hook for reading what it does not know."""
    if type_ is object:
        return data
    try:
        # Through JSON again, as models read JSON and Python values by different rules.
        return adapter(type_).load(msgspec.json.encode(data))
    except Misfit as error:
        # As msgspec itself tells of a place, and will tell of the one that this is in.
        msg = f"{error} - at `{error.path}`"
        raise ValueError(msg) from None


def schema_of(type_: Any) -> dict[str, Any]:
    """The JSON Schema of a type of msgspec's; models inside bring theirs."""
    definitions: dict[str, Any] = {}

    def hook(model: Any) -> dict[str, Any]:
        if model is object:
            return {"description": "any JSON value"}  # an empty schema counts as none with msgspec
        schema = adapter(model).schema()
        # References start at the root of the document, so what they point at has to move there.
        definitions.update(schema.pop("$defs", {}))
        return schema

    schema = msgspec.json.schema(type_, schema_hook=hook)
    if definitions:
        schema["$defs"] = definitions | schema.get("$defs", {})
    return schema
