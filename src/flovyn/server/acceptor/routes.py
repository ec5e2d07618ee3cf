"""What a server answers, and to whom."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from flovyn.errors import UsageError
from flovyn.wire.transport import Shape

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from flovyn.wire.transport import Method

__all__ = ["Call", "Peer", "Route", "Routes"]

Q = TypeVar("Q")
R = TypeVar("R")

_ids = itertools.count(1)


class Peer:
    """One client connection. Two peers are never equal, though they may come from one address.

    Args:
        address: Where it comes from, for people.
    """

    __slots__ = ("__weakref__", "address", "id")

    def __init__(self, address: str) -> None:
        self.address: str = address
        self.id: int = next(_ids)
        """Unique in this process."""

    def __repr__(self) -> str:
        return f"Peer({self.id}, {self.address!r})"


@dataclass(slots=True, eq=False)
class Call:
    """What a handler knows about a call beside its messages.

    Args:
        peer: The connection it came on.
        method: What is called.
        metadata: The client's metadata, without the headers that HTTP/2 and gRPC reserve for themselves.
        reply_metadata: Goes out before the first message of the answer; set it before returning or yielding one.
        undelivered: Called if the one message of the answer does not reach the client, as far as that can be known: it
            has gone, or gave up while the answer was on its way. Set it before returning.
    """

    peer: Peer
    method: Method[Any, Any]
    metadata: Mapping[str, str]
    reply_metadata: dict[str, str] = field(default_factory=dict[str, str])
    undelivered: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A method and what answers it."""

    method: Method[Any, Any]
    handler: Callable[[Call, Any], Any]


class Routes:
    """The methods that a server offers.

    A handler refuses by raising a `ServerError` subclass. Any other exception is logged, and the client gets INTERNAL
    without its text. When the client resets the call, disconnects, or its deadline passes, the handler is cancelled
    where it waits.

    Example:
        >>> from flovyn.wire.transport import Method
        >>> echo = Method("/example.Echo/Say", bytes, bytes, Shape.UNARY)
        >>> async def say(call: Call, request: bytes) -> bytes:
        ...     return request
        >>> routes = Routes()
        >>> routes.unary(echo, say)
        >>> routes.find("/example.Echo/Say").method is echo
        True
    """

    def __init__(self) -> None:
        self._routes: dict[str, Route] = {}

    def unary(self, method: Method[Q, R], handler: Callable[[Call, Q], Awaitable[R]]) -> None:
        """Answers one message with one."""
        self._add(method, handler, Shape.UNARY)

    def server_stream(self, method: Method[Q, R], handler: Callable[[Call, Q], AsyncIterator[R]]) -> None:
        """Answers one message with any number; a generator is closed when the client goes."""
        self._add(method, handler, Shape.SERVER_STREAM)

    def client_stream(self, method: Method[Q, R], handler: Callable[[Call, AsyncIterator[Q]], Awaitable[R]]) -> None:
        """Answers any number of messages with one."""
        self._add(method, handler, Shape.CLIENT_STREAM)

    def find(self, path: str) -> Route | None:
        return self._routes.get(path)

    def _add(self, method: Method[Any, Any], handler: Callable[[Call, Any], Any], shape: Shape) -> None:
        if method.shape is not shape:
            raise UsageError(f"{method.path} is {method.shape.value}, not {shape.value}")
        if method.path in self._routes:
            raise UsageError(f"{method.path} has a handler already")
        self._routes[method.path] = Route(method, handler)
