"""The one small protocol through which the rest of the SDK sees the wire.

It has two implementations: the network, and one in memory that calls the embedded server's engine directly. Nothing
above this module knows which of them it talks to.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager

__all__ = ["NO_METADATA", "Connected", "Method", "Reply", "Shape", "Transport"]

Q = TypeVar("Q")
R = TypeVar("R")

NO_METADATA: Mapping[str, str] = MappingProxyType({})
"""What a call carries beside its message unless told otherwise; read-only, so that it can be a default."""


class Shape(enum.Enum):
    """How many messages go each way. No call of the protocol streams both ways."""

    UNARY = "unary"
    SERVER_STREAM = "server_stream"
    CLIENT_STREAM = "client_stream"


@dataclass(frozen=True, slots=True)
class Method(Generic[Q, R]):
    """One RPC of the protocol; `flovyn.wire.methods` has them all.

    Args:
        path: The HTTP/2 path, ``/flovyn.v1.<Service>/<Rpc>``.
        request: The type of a request message, or ``bytes`` for a message that is already coded.
        reply: The type of a reply message, or ``bytes`` for a message that is to be left undecoded.
        shape: How many messages go each way.
    """

    path: str
    request: type[Q]
    reply: type[R]
    shape: Shape


@dataclass(frozen=True, slots=True)
class Reply(Generic[R]):
    """The answer to a call that is answered once.

    Args:
        message: What the peer answered.
        metadata: The peer's initial metadata, without the headers that HTTP/2 and gRPC reserve for themselves.
    """

    message: R
    metadata: Mapping[str, str]


class Transport(Protocol):
    """Carries calls to a server.

    All three ways of calling raise the same errors: a `ServerError` subclass for a refusal, `ServerUnavailable` when
    the call had no effect, `ConnectionLost` when it may have had one, `MalformedMessage` for an answer that is no
    message, `PayloadTooLarge` for one over a limit. Waiting is limited by the scope around the call: cancelling it
    ends the call on the server too.
    """

    async def unary(self, method: Method[Q, R], request: Q, *, metadata: Mapping[str, str] = NO_METADATA) -> Reply[R]:
        """One message there, one back."""
        ...

    def server_stream(
        self, method: Method[Q, R], request: Q, *, metadata: Mapping[str, str] = NO_METADATA
    ) -> AbstractAsyncContextManager[AsyncIterator[R]]:
        """One message there, any number back; the call is over when the block is left."""
        ...

    async def client_stream(
        self, method: Method[Q, R], requests: AsyncIterable[Q], *, metadata: Mapping[str, str] = NO_METADATA
    ) -> Reply[R]:
        """Any number of messages there, one back."""
        ...


@runtime_checkable
class Connected(Protocol):
    """A transport whose calls go over a connection that can be lost."""

    async def lost(self) -> None:
        """Wait until the connection that new calls take is gone; no wait if there is none."""
        ...

    def hang_up(self, reason: str) -> None:
        """Give the connection up. Calls under way on it are lost, as when it breaks; the next call makes a new one."""
        ...
