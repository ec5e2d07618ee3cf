"""What workflows and tasks have in common."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

from flovyn.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from flovyn.serde import Codec

__all__ = ["Definition", "Identity", "Payloads", "attach", "attached", "identify"]

P = ParamSpec("P")
# Covariant, so that a task of a str fits where a task of an object is asked for.
R_co = TypeVar("R_co", covariant=True)


class Payloads(Protocol):
    """How the payloads of a definition are written and read."""

    @property
    def output(self) -> Codec:
        """The codec of the result."""
        ...

    @property
    def where(self) -> str:
        """What to call the definition in messages: where its code stands, if it has any."""
        ...

    @property
    def has_code(self) -> bool:
        """Whether there is a function to run."""
        ...

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Write the arguments of a call."""
        ...

    def decode(self, data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Read the arguments of a call."""
        ...

    def input_schema(self) -> bytes:
        """The JSON Schema of the arguments."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Definition(Generic[P, R_co]):
    """A function that runs durably, and what the wire knows of it.

    Calling a definition calls the plain function with a context of the caller's choice, as unit tests do.

    Attributes:
        fn: The function that was decorated.
        kind: What the server knows it by; the default is the name.
        name: What people know it by; the default is the function's name.
        description: The default is the docstring.
        tags: Words to find it by in the platform's tools.
        signature: How its payloads are written and read.
    """

    fn: Callable[Concatenate[Any, P], Coroutine[Any, Any, R_co]]
    kind: str
    name: str
    description: str
    tags: tuple[str, ...]
    signature: Payloads

    def __call__(self, ctx: Any, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        return self.fn(ctx, *args, **kwargs)

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} {self.kind!r} at {self.signature.where}>"

    @property
    def has_code(self) -> bool:
        """Whether there is a function to run; definitions by kind have none."""
        return self.signature.has_code

    @property
    def input_schema(self) -> bytes:
        """The JSON Schema of the input, as JSON."""
        return self.signature.input_schema()

    @property
    def output_schema(self) -> bytes:
        """The JSON Schema of the result, as JSON."""
        return self.signature.output.schema()

    def encode_input(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Write the arguments of a call, without the context, as one payload.

        No parameter gives ``null``, one gives its value, several give an object by name; defaults are written out, so
        that the call means the same after a redeployment that changes them.

        Raises:
            DefinitionError: The arguments do not match the signature.
            PayloadError: One of them cannot be written.
        """
        return self.signature.encode(args, kwargs)

    def decode_input(self, data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Read the arguments of a call, without the context; raises `PayloadError` for what does not fit."""
        return self.signature.decode(data)

    def encode_output(self, value: object) -> bytes:
        """Write a result; raises `PayloadError`."""
        return self.signature.output.encode(value)

    def decode_output(self, data: bytes) -> R_co:
        """Read a result as the declared type; raises `PayloadError`."""
        result: R_co = self.signature.output.decode(data)
        return result

    def invoke(self, ctx: Any, data: bytes) -> Coroutine[Any, Any, R_co]:
        """Call the function with a context and an input payload.

        Returns:
            The coroutine, not yet begun. The input has been read by then.

        Raises:
            PayloadError: The payload does not fit the signature.
        """
        args, kwargs = self.signature.decode(data)
        return self.fn(ctx, *args, **kwargs)


@dataclass(frozen=True, slots=True)
class Identity:
    """The options that every definition has, with their defaults filled in."""

    kind: str
    name: str
    description: str
    tags: tuple[str, ...]


def identify(
    target: Any, where: str, *, name: str | None, kind: str | None, description: str | None, tags: Iterable[str]
) -> Identity:
    """Fill in the defaults of a definition's names.

    Args:
        target: The function or class that was decorated.
        where: Where it stands.
        name: What people know it by, if that was said.
        kind: What the server knows it by, if that was said.
        description: What it does, if that was said.
        tags: Words to find it by.

    Raises:
        DefinitionError: A name is empty, or the tags are one string.
    """
    own: str = target.__name__
    name = own if name is None else name
    kind = name if kind is None else kind
    for option, value in (("name", name), ("kind", kind)):
        if not value.strip():
            msg = f"{where}: the {option} of {target.__qualname__} is empty; leave it out to use the function's name"
            raise DefinitionError(msg)
    if isinstance(tags, str):
        msg = f"{where}: tags={tags!r} is one string; write tags=[{tags!r}]"
        raise DefinitionError(msg)
    description = inspect.getdoc(target) or "" if description is None else description
    return Identity(kind, name, description, tuple(tags))


def attach(target: Any, attribute: str, definition: Definition[..., Any]) -> Any:
    """What a decorator returns: a class stays itself, its definition with it; a function becomes its definition."""
    if not isinstance(target, type):
        return definition
    setattr(target, attribute, definition)
    return target


def attached(target: object, attribute: str) -> object:
    """The definition that a class has with it, if it has one; whatever is no class is returned as it is."""
    # Not by getattr: a class does not become a definition by having one for a base.
    return vars(target).get(attribute) if isinstance(target, type) else target
