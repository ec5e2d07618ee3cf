"""A route answers a call, whatever carries it; and what a handler raises, as the client is told."""

from __future__ import annotations

import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Protocol

from grpclib.const import Status

from flovyn.errors import FlovynError, Unimplemented
from flovyn.wire.status import status_for_error
from flovyn.wire.transport import Shape

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from flovyn.server.acceptor.routes import Call, Route

__all__ = ["Exchange", "handle", "no_route", "refusal", "tell_undelivered"]

logger: logging.Logger = logging.getLogger(__name__)

# A status text travels as a header, percent-encoded. Peers limit those (gRPC's C core to 16 KiB for all together), and
# one over the limit costs the whole connection.
_LONGEST_TEXT = 1_000


class Exchange(Protocol):
    """The messages of one call, at the server's end."""

    async def only_request(self) -> Any:
        """The request of a call that has just one."""
        ...

    def requests(self) -> AsyncGenerator[Any]:
        """The requests of a call that has any number."""
        ...

    async def send_message(self, message: Any) -> None:
        """Send one message of the answer."""
        ...


def no_route(path: str) -> Unimplemented:
    """The refusal of a call that nothing answers."""
    return Unimplemented(f"no such method: {path}")


async def handle(route: Route, call: Call, exchange: Exchange) -> None:
    """Run the handler and send what it answers; what it raises is raised."""
    shape = route.method.shape
    if shape is Shape.UNARY:
        reply = await route.handler(call, await exchange.only_request())
        try:
            await exchange.send_message(reply)
        except BaseException:
            tell_undelivered(call)
            raise
    elif shape is Shape.SERVER_STREAM:
        replies = route.handler(call, await exchange.only_request())
        try:
            async for reply in replies:
                await exchange.send_message(reply)
        finally:
            await _aclose(replies)  # noqa: ASYNC102 - not shielded, see there
    else:
        async with aclosing(exchange.requests()) as requests:
            reply = await route.handler(call, requests)
        await exchange.send_message(reply)


def tell_undelivered(call: Call) -> None:
    """The answer of a call has not reached the client."""
    undelivered, call.undelivered = call.undelivered, None
    if undelivered is not None:
        try:
            undelivered()
        except Exception:
            logger.exception("taking back an answer of %s failed", call.method.path)


async def _aclose(iterator: AsyncIterator[Any]) -> None:
    """Closes a generator that was left early; its clean-up sees the cancellation, if there is one, like any other."""
    close = getattr(iterator, "aclose", None)
    if close is not None:
        await close()


def refusal(error: Exception, path: str) -> tuple[Status, str]:
    """The status and text for what a handler raised; what it did not mean for the client goes to the log."""
    error = _innermost(error)
    if isinstance(error, FlovynError):
        status, text = status_for_error(error)
    else:
        status, text = Status.INTERNAL, "Internal server error"
    if status is Status.INTERNAL:
        logger.error("the handler of %s failed", path, exc_info=error)
    return status, text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"


def _innermost(error: Exception) -> Exception:
    """What a group holds, if it holds just one: handlers may have nurseries of their own."""
    inner: tuple[Exception, ...] = getattr(error, "exceptions", ())
    return _innermost(inner[0]) if len(inner) == 1 else error
