"""What a signal or a query is called, and how what goes with it is written: by a typed name, by text, or by its method.

Pure: no I/O, no clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from flovyn.definitions import Query, Signal, checked_name, marked_name
from flovyn.errors import UsageError
from flovyn.serde import codec_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flovyn.definitions import Handler, Workflow
    from flovyn.serde import Codec

__all__ = ["Asked", "written_query", "written_signal"]

_plain: Final = codec_for(Any)

Sort = Literal["signal", "query"]


def written_signal(
    workflow: Workflow[..., Any], signal: object, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[str, bytes]:
    """The name and the payload of a signal.

    Args:
        workflow: Whom it is for.
        signal: A `Signal`, its name as text, or the method of the workflow's class that handles it.
        args: What goes with it.
        kwargs: Likewise, by name.

    Raises:
        UsageError: It is none of these, the class has no such handler, or too much goes with it.
        DefinitionError: The arguments do not fit the method.
        PayloadError: One of them cannot be written.
    """
    if isinstance(signal, Signal):
        return signal.name, signal.codec.encode(_only("signal", signal.name, args, kwargs))
    if isinstance(signal, str):
        return checked_name("signal", signal), _plain.encode(_only("signal", signal, args, kwargs))
    handler = _handler(workflow, "signal", signal)
    return handler.name, handler.signature.encode(args, kwargs)


class Asked(NamedTuple):
    """A query as it is put.

    Attributes:
        name: Its name.
        args: Its arguments, as JSON.
        answer: What the answer is read with.
    """

    name: str
    args: bytes
    answer: Codec


def written_query(workflow: Workflow[..., Any], query: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Asked:
    """A query as it is put; see `written_signal`.

    A class that has a method for it says how the arguments are written, however the query is called. Without one they
    are written as those of any foreign definition: the only one as it is, those by name as one object.
    """
    if isinstance(query, Query):
        name, codec = query.name, None if query.type is Any else query.codec
    elif isinstance(query, str):
        name, codec = checked_name("query", query), None
    else:
        handler = _handler(workflow, "query", query)
        return Asked(handler.name, handler.signature.encode(args, kwargs), handler.signature.output)
    known = None if workflow.parts is None else workflow.parts.queries.get(name)
    if known is None:
        return Asked(name, _plain.encode(_only("query", name, args, kwargs)), codec or _plain)
    return Asked(name, known.signature.encode(args, kwargs), codec or known.signature.output)


def _only(sort: Sort, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if len(args) + bool(kwargs) > 1:
        raise UsageError(
            f"the {sort} {name!r} takes one payload: give one positional argument, which is written as it is, "
            "or arguments by name, which are written as one object"
        )
    return args[0] if args else kwargs or None


def _handler(workflow: Workflow[..., Any], sort: Sort, method: object) -> Handler:
    name = marked_name(sort, method)
    if name is None:
        raise UsageError(f"{method!r} is no {sort}: give the name of one, as text or typed, or a @{sort} of a class")
    parts = workflow.parts
    handlers: Mapping[str, Handler] = {}
    if parts is not None:
        handlers = parts.signals if sort == "signal" else parts.queries
    if name not in handlers:
        raise UsageError(f"workflow {workflow.kind!r} has no @{sort} {name!r}; it has: {', '.join(handlers) or 'none'}")
    return handlers[name]
