"""From a function's signature to its payloads."""

from __future__ import annotations

import inspect
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from flovyn.definitions.annotations import read_annotation
from flovyn.errors import DefinitionError, PayloadError
from flovyn.serde import as_data, codec_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flovyn.serde import Codec

__all__ = ["QUERY", "RUN", "SIGNAL", "Form", "Signature", "site"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def site(fn: Callable[..., Any]) -> str:
    """Where a function stands, as ``file:line``."""
    code = inspect.unwrap(fn).__code__
    return f"{code.co_filename}:{code.co_firstlineno}"


@dataclass(frozen=True, slots=True)
class Form:
    """What a function must look like.

    Attributes:
        decorator: The decorator's name, for messages.
        method: Whether it stands in a class, so that its first parameter is the instance.
        context: Whether it takes the context before its own parameters.
        asynchronous: Whether it is an `async def`; otherwise it must not be one.
    """

    decorator: str
    method: bool = False
    context: bool = True
    asynchronous: bool = True


RUN: Final = Form("workflow", method=True)
SIGNAL: Final = Form("signal", method=True)
QUERY: Final = Form("query", method=True, context=False, asynchronous=False)


class Signature:
    """The function's own parameters (after `self` and the context) and its result, and how each is read.

    Args:
        form: What the function must look like.
        fn: What was decorated.
        names: The names that are known where the decorator stands, beyond the module's own.

    Raises:
        DefinitionError: The function cannot be a definition; the message says where it stands and what to change.
    """

    __slots__ = ("_default", "_fields", "_fn", "_input", "_parameters", "_positional", "output")

    has_code: bool = True

    def __init__(self, form: Form, fn: Any, names: Mapping[str, Any]) -> None:
        self._fn = fn
        parameters = _parameters(form, fn)
        self._parameters = inspect.Signature(parameters)
        annotated = {parameter.name: read_annotation(fn, parameter.name, names, site(fn)) for parameter in parameters}
        for name, type_ in annotated.items():
            _codec(fn, f"parameter `{name}`", type_)
        self.output: Codec = _codec(fn, "result", read_annotation(fn, "return", names, site(fn)))
        self._fields = tuple(annotated)
        self._positional = all(parameter.kind in _POSITIONAL for parameter in parameters)
        self._input = _codec(fn, "input", _input_type(fn.__name__, parameters, annotated))
        self._default = _default(parameters, self._input)

    @property
    def where(self) -> str:
        """Where the function stands, as ``file:line``."""
        return site(self._fn)

    def input_schema(self) -> bytes:
        """The JSON Schema of the input, with those defaults that have a form in JSON."""
        schema: dict[str, Any] = msgspec.json.decode(self._input.schema())
        places = {self._fields[0]: schema} if len(self._fields) == 1 else _properties(schema)
        for name, parameter in self._parameters.parameters.items():
            if parameter.default is not inspect.Parameter.empty:
                try:
                    places[name]["default"] = as_data(parameter.default)
                except PayloadError:
                    continue  # it is the function's own business, then
        return msgspec.json.encode(schema if self._default is None else _or_null(schema))

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        if self._positional and not kwargs and len(args) == len(self._fields):
            # Each argument stands in its place. Binding costs more than all the rest of a call that is replayed.
            return self._encode(dict(zip(self._fields, args, strict=True)))
        try:
            bound = self._parameters.bind(*args, **kwargs)
        except TypeError as error:
            msg = f"{self._fn.__qualname__}{self._parameters} cannot be called like that: {error}"
            raise DefinitionError(msg) from None
        bound.apply_defaults()
        return self._encode(bound.arguments)

    def _encode(self, arguments: dict[str, Any]) -> bytes:
        if len(self._fields) == 1:
            return self._input.encode(arguments[self._fields[0]])
        return _PLAIN.encode(arguments or None)

    def decode(self, data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if self._default is not None and data in (b"", b"null"):
            arguments = {self._fields[0]: self._default.value}
        elif len(self._fields) == 1:
            arguments = {self._fields[0]: self._input.decode(data)}
        elif not self._fields:
            arguments = {}
        else:
            record = self._input.decode(data)
            values = ((name, getattr(record, name)) for name in self._fields)
            arguments = {name: value for name, value in values if value is not msgspec.UNSET}
        bound = inspect.BoundArguments(self._parameters, arguments)
        bound.apply_defaults()
        return bound.args, bound.kwargs


_PLAIN = codec_for(Any)


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an only parameter that may be left out, which nothing but null can say."""
    apart = ("default", "$defs")
    inner = {key: value for key, value in schema.items() if key not in apart}
    return {"anyOf": [inner, {"type": "null"}], **{key: schema[key] for key in apart if key in schema}}


def _properties(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The fields of an object, which may stand among the definitions."""
    for step in schema.get("$ref", "#").split("/")[1:]:
        schema = schema[step]
    properties: dict[str, dict[str, Any]] = schema.get("properties", {})
    return properties


class _Default(msgspec.Struct, frozen=True):
    value: Any


def _parameters(form: Form, fn: Any) -> list[inspect.Parameter]:
    """The parameters that a payload carries, once the others are found to be as they must."""
    decorator = form.decorator
    if not isinstance(fn, types.FunctionType):
        what = "a class" if isinstance(fn, type) else f"a {type(fn).__qualname__}"
        kind = "an `async def` function" if form.asynchronous else "a plain function"
        msg = f"@{decorator} decorates {kind}, not {what}: {fn!r}"
        raise DefinitionError(msg)
    where = f"{site(fn)}: {fn.__qualname__}"
    _check_kind(form, fn, where)
    parameters = list(inspect.signature(fn, follow_wrapped=False).parameters.values())
    if form.method:
        if not parameters or parameters[0].kind not in _POSITIONAL:
            msg = f"{where} is a method and needs `self` as its first parameter"
            raise DefinitionError(msg)
        del parameters[0]
    if form.context:
        if not parameters or not _is_context(parameters[0]):
            got = f"`{parameters[0]}`" if parameters else "none"
            after = "first parameter after `self`" if form.method else "first parameter"
            msg = f"{where} needs the context as its {after}, named `ctx`; its first parameter is {got}"
            raise DefinitionError(msg)
        del parameters[0]
    for parameter in parameters:
        if parameter.kind in _VARIADIC:
            msg = f"{where}: `{parameter}` has no place in a payload; name each parameter, or take one list or dict"
            raise DefinitionError(msg)
    return parameters


def _check_kind(form: Form, fn: Any, where: str) -> None:
    if form.asynchronous and not inspect.iscoroutinefunction(fn):
        msg = f"{where} is not asynchronous; write it as `async def` without `yield`, as @{form.decorator} needs"
        raise DefinitionError(msg)
    plain = not (inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn) or inspect.isgeneratorfunction(fn))
    if not form.asynchronous and not plain:
        msg = (
            f"{where} is asynchronous or a generator; write it as a plain `def`: a @{form.decorator} waits for nothing"
        )
        raise DefinitionError(msg)


def _is_context(parameter: inspect.Parameter) -> bool:
    # The annotation is only looked at as text: contexts are usually imported for the type checker alone.
    annotation = parameter.annotation
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return parameter.kind in _POSITIONAL and (
        parameter.name in {"ctx", "context"} or parameter.name.startswith("_") or "Context" in text
    )


def _codec(fn: Any, what: str, type_: Any) -> Codec:
    try:
        return codec_for(type_)
    except PayloadError as error:
        msg = f"{site(fn)}: the {what} of {fn.__qualname__}: {error.message}"
        raise DefinitionError(msg) from None


def _input_type(name: str, parameters: list[inspect.Parameter], annotated: dict[str, Any]) -> Any:
    if not parameters:
        return types.NoneType
    if len(parameters) == 1:
        return annotated[parameters[0].name]
    fields: list[Any] = [
        (parameter.name, annotated[parameter.name])
        if parameter.default is inspect.Parameter.empty
        # A default may be any object; it is the signature's to fill in, not the codec's.
        else (parameter.name, annotated[parameter.name], msgspec.UNSET)
        for parameter in parameters
    ]
    return msgspec.defstruct(name, fields, kw_only=True)


def _default(parameters: list[inspect.Parameter], codec: Codec) -> _Default | None:
    """The default of the only parameter, if a payload of ``null`` can only mean that nothing was given."""
    if len(parameters) != 1 or parameters[0].default is inspect.Parameter.empty:
        return None
    try:
        codec.decode(b"null")
    except PayloadError:
        return _Default(parameters[0].default)
    return None
