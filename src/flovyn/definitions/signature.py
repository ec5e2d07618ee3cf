"""From a function's signature to its payloads."""

from __future__ import annotations

import inspect
import types
from typing import TYPE_CHECKING, Any

import msgspec

from flovyn.definitions.annotations import read_annotation
from flovyn.errors import DefinitionError, PayloadError
from flovyn.serde import codec_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flovyn.serde import Codec

__all__ = ["Signature", "site"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def site(fn: Callable[..., Any]) -> str:
    """Where a function stands, as ``file:line``."""
    code = inspect.unwrap(fn).__code__
    return f"{code.co_filename}:{code.co_firstlineno}"


class Signature:
    """The parameters after the context and the result of one function, and how each is read.

    Args:
        decorator: The decorator's name, for messages.
        fn: What was decorated.
        names: The names that are known where the decorator stands, beyond the module's own.

    Raises:
        DefinitionError: The function cannot be a definition; the message says where it stands and what to change.
    """

    __slots__ = ("_default", "_fields", "_fn", "_input", "_parameters", "output")

    def __init__(self, decorator: str, fn: Any, names: Mapping[str, Any]) -> None:
        self._fn = fn
        parameters = _parameters(decorator, fn)[1:]
        self._parameters = inspect.Signature(parameters)
        annotated = {parameter.name: read_annotation(fn, parameter.name, names, site(fn)) for parameter in parameters}
        for name, type_ in annotated.items():
            _codec(fn, f"parameter `{name}`", type_)
        self.output: Codec = _codec(fn, "result", read_annotation(fn, "return", names, site(fn)))
        self._fields = tuple(annotated)
        self._input = _codec(fn, "input", _input_type(fn.__name__, parameters, annotated))
        self._default = _default(parameters, self._input)

    def input_schema(self) -> bytes:
        return self._input.schema()

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        try:
            bound = self._parameters.bind(*args, **kwargs)
        except TypeError as error:
            msg = f"{self._fn.__qualname__}{self._parameters} cannot be called like that: {error}"
            raise DefinitionError(msg) from None
        bound.apply_defaults()
        if len(self._fields) == 1:
            return self._input.encode(bound.arguments[self._fields[0]])
        return _PLAIN.encode(bound.arguments or None)

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


class _Default(msgspec.Struct, frozen=True):
    value: Any


def _parameters(decorator: str, fn: Any) -> list[inspect.Parameter]:
    if not isinstance(fn, types.FunctionType):
        what = "a class" if isinstance(fn, type) else f"a {type(fn).__qualname__}"
        msg = f"@{decorator} decorates an `async def` function, not {what}: {fn!r}"
        raise DefinitionError(msg)
    where = f"{site(fn)}: {fn.__qualname__}"
    if not inspect.iscoroutinefunction(fn):
        msg = f"{where} is not asynchronous; write it as `async def` without `yield`, as @{decorator} needs"
        raise DefinitionError(msg)
    parameters = list(inspect.signature(fn, follow_wrapped=False).parameters.values())
    if not parameters or not _is_context(parameters[0]):
        got = f"`{parameters[0]}`" if parameters else "none"
        msg = f"{where} needs the context as its first parameter, named `ctx`; its first parameter is {got}"
        raise DefinitionError(msg)
    for parameter in parameters:
        if parameter.kind in _VARIADIC:
            msg = f"{where}: `{parameter}` has no place in a payload; name each parameter, or take one list or dict"
            raise DefinitionError(msg)
    return parameters


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
