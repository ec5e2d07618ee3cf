"""Accepts HTTP connections until cancelled, or until told to come to rest."""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import SocketAttribute
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, RawData, Updated
from hypercorn.protocol import ProtocolWrapper
from hypercorn.typing import ConnectionState

from flovyn.server import limits
from flovyn.server.http.worker import Context, SingleTask, Tasks

if TYPE_CHECKING:
    from anyio.abc import ByteStream, Listener, TaskStatus
    from hypercorn.events import Event
    from hypercorn.typing import ASGIFramework

__all__ = ["HttpServer"]

logger: logging.Logger = logging.getLogger(__name__)

_READ_SIZE = 64 * 1024
_PIECE = 256 * 1024
_GONE = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError)
_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_ACCEPT_PAUSE_S = 0.1
_FAREWELL_S = 1.0


class HttpServer:
    """Answers HTTP/1.1, and HTTP/2 to those who ask for it.

    Args:
        app: The application. It is sent no lifespan events.
    """

    def __init__(self, app: ASGIFramework) -> None:
        self._app = ASGIWrapper(app)
        self._config = _config()
        self._context = Context()
        self._accepting = anyio.CancelScope()
        self._served = anyio.Event()
        self._connections: dict[object, None] = {}
        self._requests: dict[object, None] = {}

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    @property
    def requests(self) -> int:
        """How many requests are being answered."""
        return len(self._requests)

    async def serve(
        self, listener: Listener[ByteStream], *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Answer requests until `rest` was called and the last connection is gone, or until cancelled."""
        async with anyio.create_task_group() as tasks:
            with self._accepting:
                async with listener:
                    task_status.started()
                    await self._accept(listener, tasks)
        self._served.set()

    async def rest(self) -> None:
        """Take no more connections, close each as soon as it has nothing to answer, and wait for the last."""
        self._accepting.cancel()
        await self._context.terminated.set()
        await self._served.wait()

    async def _accept(self, listener: Listener[ByteStream], tasks: Any) -> None:
        while True:
            try:
                await listener.serve(self._connection, tasks)
            except OSError as error:
                if error.errno not in _OUT_OF_RESOURCES:
                    raise
                logger.warning("cannot accept connections at the moment: %s", error)
                await anyio.sleep(_ACCEPT_PAUSE_S)

    async def _connection(self, stream: ByteStream) -> None:
        """The whole life of one connection. Raises nothing: one client must not end the server."""
        self._connections[stream] = None
        try:
            async with anyio.create_task_group() as tasks:
                await _Connection(stream, self._app, self._config, self._context, Tasks(tasks, self._requests)).run()
        except _GONE:
            pass
        except Exception:
            logger.exception("an HTTP connection failed")
        finally:
            with anyio.move_on_after(_FAREWELL_S, shield=True):
                await stream.aclose()
            del self._connections[stream]


class _Connection:
    """One connection: bytes between the stream and the protocol, and the clock that closes it when it is idle."""

    def __init__(self, stream: ByteStream, app: ASGIWrapper, config: Config, context: Context, tasks: Tasks) -> None:
        self._stream = stream
        self._context = context
        self._tasks = tasks
        self._sending = anyio.Lock()
        self._idle = SingleTask()
        self._closed = False
        self._protocol = ProtocolWrapper(
            app,
            config,
            context,
            tasks,
            ConnectionState({}),
            ssl=False,
            client=_address(stream, SocketAttribute.remote_address),
            server=_address(stream, SocketAttribute.local_address),
            send=self._send,
            alpn_protocol="http/1.1",
        )

    async def run(self) -> None:
        await self._protocol.initiate()
        await self._idle.restart(self._tasks, self._close_when_idle)
        try:
            while True:
                await self._protocol.handle(RawData(await self._stream.receive(_READ_SIZE)))
        except anyio.EndOfStream:
            await self._protocol.handle(RawData(b""))
        except _GONE:
            pass
        self._closed = True  # for reading; who has sent all may still want an answer
        await self._idle.stop()
        await self._protocol.handle(Closed())

    async def _send(self, event: Event) -> None:
        if isinstance(event, RawData):
            if not await self._sent(event.data):
                await self._close()
        elif isinstance(event, Closed):
            await self._close()
        elif isinstance(event, Updated):
            if event.idle and not self._closed:
                await self._idle.restart(self._tasks, self._close_when_idle)
            else:
                await self._idle.stop()

    async def _sent(self, data: bytes) -> bool:
        async with self._sending:
            for start in range(0, len(data), _PIECE):
                try:
                    with anyio.fail_after(limits.HTTP_STALL_S):
                        await self._stream.send(data[start : start + _PIECE])
                except TimeoutError:
                    logger.info("a client did not read its answer for %g s", limits.HTTP_STALL_S)
                    return False
                except _GONE:
                    return False
        return True

    async def _close(self) -> None:
        self._closed = True
        await self._stream.aclose()
        await self._protocol.handle(Closed())

    async def _close_when_idle(self) -> None:
        with anyio.move_on_after(limits.HTTP_IDLE_S):
            await self._context.terminated.wait()
        await self._close()


def _config() -> Config:
    config = Config()
    config.errorlog = logger
    config.include_server_header = False
    config.h11_max_incomplete_size = limits.HTTP_HEADER_SIZE
    return config


def _address(stream: ByteStream, which: Any) -> tuple[str, int] | None:
    address: tuple[str, int] | str | None = stream.extra(which, None)
    return None if address is None or isinstance(address, str) else (address[0], address[1])
