"""The calls of a client over gRPC: those that are repeated when they fail, and those that never are."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from flovyn.client.retries import repeat
from flovyn.wire.transport import NO_METADATA

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flovyn.definitions import RetryPolicy
    from flovyn.wire.transport import Method, Reply, Transport

__all__ = ["Calls"]

Q = TypeVar("Q")
R = TypeVar("R")


class Calls:
    """Makes calls.

    Args:
        transport: What carries them.
        policy: How often a call is made that may be made again.
    """

    __slots__ = ("_policy", "_transport")

    def __init__(self, transport: Transport, policy: RetryPolicy) -> None:
        self._transport = transport
        self._policy = policy

    async def reply(self, method: Method[Q, R], request: Q, *, metadata: Mapping[str, str] = NO_METADATA) -> Reply[R]:
        """A call that is made once, with what stands beside its message and that of its answer."""
        return await self._transport.unary(method, request, metadata=metadata)

    async def once(self, method: Method[Q, R], request: Q) -> R:
        """A call that would act twice if it were made twice."""
        return (await self.reply(method, request)).message

    async def repeatedly(self, method: Method[Q, R], request: Q) -> R:
        """A call that acts once, however often it is made."""
        return await repeat(lambda: self.once(method, request), self._policy)
