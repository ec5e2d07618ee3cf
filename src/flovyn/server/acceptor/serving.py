"""Accepts connections until cancelled."""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Any, Never

import anyio
from anyio.abc import Listener, SocketAttribute

from flovyn.server.acceptor.connection import ServerConnection
from flovyn.server.acceptor.drain import Drain
from flovyn.server.acceptor.options import AcceptorOptions
from flovyn.server.acceptor.routes import Peer
from flovyn.wire.codec import Codec
from flovyn.wire.http2.session import Session, SessionLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import ByteStream, TaskGroup, TaskStatus

    from flovyn.server.acceptor.routes import Routes

__all__ = ["serve"]

logger: logging.Logger = logging.getLogger(__name__)

_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_ACCEPT_PAUSE = 0.1


def _ignore(peer: Peer) -> None: ...


async def serve(
    routes: Routes,
    where: Listener[ByteStream] | tuple[str, int],
    *,
    options: AcceptorOptions | None = None,
    on_disconnect: Callable[[Peer], None] = _ignore,
    drain: Drain | None = None,
    task_status: TaskStatus[Any] = anyio.TASK_STATUS_IGNORED,
) -> Never:
    """Answers calls until cancelled; everything it does happens inside this call.

    When cancelled it sends GOAWAY on every connection and closes them, within about two seconds, beside the time that
    handlers shield themselves for.

    Args:
        routes: What can be called.
        where: Host and port to listen at (port 0 for any free one), or a listener, which is closed at the end.
        options: Limits of each connection.
        on_disconnect: Called once for each client that has connected and spoken HTTP/2, when it is gone and all its
            handlers have ended.
        drain: Brings the server to rest before it is cancelled, for a quiet end.
        task_status: Told the local address, such as ``("127.0.0.1", 9090)``, once clients can connect; None if a
            listener does not know it.

    Raises:
        OSError: The address cannot be listened at.

    Example:
        >>> from flovyn.server.acceptor import Routes
        >>> async def main() -> int:
        ...     async with anyio.create_task_group() as tasks:
        ...         host, port = await tasks.start(serve, Routes(), ("127.0.0.1", 0))
        ...         tasks.cancel_scope.cancel()
        ...     return port
        >>> anyio.run(main) > 0
        True
    """
    listener: Any
    if isinstance(where, tuple):
        host, port = where
        listener = await anyio.create_tcp_listener(local_host=host, local_port=port)
    else:
        listener = where
    drain = drain or Drain()
    acceptor = _Acceptor(routes, options or AcceptorOptions(), on_disconnect, drain)
    async with anyio.create_task_group() as tasks:
        with drain.accepting:
            async with listener:
                task_status.started(listener.extra(SocketAttribute.local_address, None))
                await _accept(listener, acceptor, tasks)
        await anyio.sleep_forever()
    raise AssertionError("unreachable: serving ends by an exception")


async def _accept(listener: Any, acceptor: _Acceptor, tasks: TaskGroup) -> Never:
    while True:
        try:
            await listener.serve(acceptor.connection, tasks)
        except OSError as error:
            if error.errno not in _OUT_OF_RESOURCES:
                raise
            logger.warning("cannot accept connections at the moment: %s", error)
            await anyio.sleep(_ACCEPT_PAUSE)


class _Acceptor:
    def __init__(
        self, routes: Routes, options: AcceptorOptions, on_disconnect: Callable[[Peer], None], drain: Drain
    ) -> None:
        self._drain = drain
        self._routes = routes
        self._options = options
        self._on_disconnect = on_disconnect
        self._codec = Codec()
        self._limits = SessionLimits(
            stream_window=options.stream_window,
            max_streams=options.max_streams,
            handshake_within=options.handshake_within,
            keepalive_interval=options.keepalive_interval,
            keepalive_timeout=options.keepalive_timeout,
        )

    async def connection(self, byte_stream: ByteStream) -> None:
        """The whole life of one connection. Raises nothing: one client must not end the server."""
        peer = Peer(_address(byte_stream))
        spoke = False

        def ready(session: Session) -> None:
            nonlocal spoke
            spoke = session.processor.settings_received

        try:
            async with anyio.create_task_group() as handlers:
                handler = ServerConnection(peer, self._routes, self._codec, self._options, handlers, self._drain)
                session = Session(byte_stream, handler, self._limits, client_side=False, on_ready=ready)
                session.processor.on_late_reset = handler.reset_late
                await session.run()
                handlers.cancel_scope.cancel()
        except Exception:
            logger.exception("the connection of %r failed", peer)
        finally:
            if spoke:
                self._tell(peer)

    def _tell(self, peer: Peer) -> None:
        try:
            self._on_disconnect(peer)
        except Exception:
            logger.exception("on_disconnect failed for %r", peer)


def _address(byte_stream: ByteStream) -> str:
    address: Any = byte_stream.extra(SocketAttribute.remote_address, None)
    if isinstance(address, str | None):
        return address or "unknown"
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
