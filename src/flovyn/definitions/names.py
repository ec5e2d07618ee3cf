"""Typed names: what a promise, a signal, an entry of the state or a query is called, and what it carries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, final, get_args

from flovyn.errors import UsageError
from flovyn.serde import codec_for

if TYPE_CHECKING:
    from flovyn.serde import Codec

__all__ = ["Name", "Promise", "Query", "Signal", "StateKey"]

T = TypeVar("T")


class Name(Generic[T]):
    """A name with a type. Both sides use the same object, so neither can get the other's payload wrong.

    Names are equal if they are of one sort and have the same text, whatever their types.

    Args:
        name: The name on the wire.

    Raises:
        UsageError: The name is empty, begins with a dollar sign (such names are the SDK's own), or is no text.
    """

    __slots__ = ("__orig_class__", "name")

    name: str

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "name", checked_name(type(self).__name__, name))

    def __setattr__(self, attribute: str, value: object) -> None:
        # What `Promise[bool](...)` stores the type by, once the object is made; everything else is frozen.
        if attribute != "__orig_class__":
            raise AttributeError(f"{self!r} cannot be changed: make another one")
        object.__setattr__(self, attribute, value)

    def __delattr__(self, attribute: str) -> None:
        raise AttributeError(f"{self!r} cannot be changed: make another one")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.name == self.name

    def __hash__(self) -> int:
        return hash((type(self), self.name))

    def __repr__(self) -> str:
        type_ = self.type
        written = "" if type_ is Any else f"[{type_.__name__ if isinstance(type_, type) else type_}]"
        return f"{type(self).__name__}{written}({self.name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        alias = getattr(self, "__orig_class__", type(self))
        return alias, (self.name,)

    @property
    def type(self) -> Any:
        """What it carries: the type between the brackets, `Any` without one."""
        arguments = get_args(getattr(self, "__orig_class__", None))
        return arguments[0] if arguments and not isinstance(arguments[0], TypeVar) else Any

    @property
    def codec(self) -> Codec:
        """Writes and reads what it carries; raises `PayloadError` if the type cannot be a payload."""
        return codec_for(self.type)


@final
class Promise(Name[T]):
    """The name of a promise: a value that somebody outside gives a workflow, once.

    Example:
        >>> Promise[bool]("approval")
        Promise[bool]('approval')
    """

    __slots__ = ()


@final
class Signal(Name[T]):
    """The name of a signal: messages that somebody outside sends a workflow, kept in order until they are taken.

    Example:
        >>> Signal[int | None]("add").codec.decode(b"null")
    """

    __slots__ = ()


@final
class StateKey(Name[T]):
    """The name of an entry in a workflow's state, which stands in its history for the platform's tools to see.

    Example:
        >>> StateKey[list[str]]("seen").name
        'seen'
    """

    __slots__ = ()


@final
class Query(Name[T]):
    """The name of a question that a workflow answers without being changed by it; the type is the answer's.

    Example:
        >>> Query[int]("count") == Query[int]("count")
        True
    """

    __slots__ = ()


def checked_name(what: str, name: object) -> str:
    """A name that may be used on the wire.

    Args:
        what: What it is the name of, for the message.
        name: The name.

    Raises:
        UsageError: It is no text, is empty, or begins with a dollar sign.
    """
    if not isinstance(name, str):
        raise UsageError(f"{name!r} cannot be used as {what} name: use text")
    if not name or name.startswith("$"):
        raise UsageError(
            f"{name!r} cannot be used as {what} name: use a non-empty name that does not begin with a dollar sign"
        )
    return name
