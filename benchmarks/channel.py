"""RPCs per second of the channel, beside stock grpclib on asyncio and grpcio, in one run.

    python benchmarks/channel.py [seconds per figure]

Each client talks to the same server in a process of its own (this project's acceptor on asyncio with uvloop where
there is one), with a unary echo of 200 bytes, at 1, 16 and 64 concurrent calls. The servers are then compared with one
client. Single figures vary by some ten per cent on a shared machine; the ratios within one run are what to look at.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import anyio

from flovyn.server.acceptor import Call, Routes, serve
from flovyn.wire.channel import Channel
from flovyn.wire.codec import Codec
from flovyn.wire.transport import Method, Shape

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ECHO = Method("/bench.Bench/Echo", bytes, bytes, Shape.UNARY)
PAYLOAD = b"x" * 200
CONCURRENCY = (1, 16, 64)
UVLOOP = importlib.util.find_spec("uvloop") is not None
BACKENDS: dict[str, dict[str, Any]] = {
    "asyncio": {"backend": "asyncio"},
    **({"uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}}} if UVLOOP else {}),
    "trio": {"backend": "trio"},
}


# --- servers, each in a process of its own ---------------------------------------------------


def announce(port: int) -> None:
    print(port, flush=True)


def serve_acceptor(backend: str) -> None:
    async def echo(_call: Call, request: bytes) -> bytes:
        return request

    async def main() -> None:
        routes = Routes()
        routes.unary(ECHO, echo)
        async with anyio.create_task_group() as tasks:
            start: Any = partial(serve, routes, ("127.0.0.1", 0))
            _, port = await tasks.start(start)
            announce(port)

    anyio.run(main, **BACKENDS[backend])


def serve_grpclib() -> None:
    from grpclib.const import Cardinality, Handler
    from grpclib.server import Server

    class Echo:
        async def echo(self, stream: Any) -> None:
            await stream.send_message(await stream.recv_message())

        def __mapping__(self) -> dict[str, Handler]:
            return {ECHO.path: Handler(self.echo, Cardinality.UNARY_UNARY, bytes, bytes)}

    async def main() -> None:
        server = Server([Echo()], codec=Codec())
        await server.start("127.0.0.1", 0)
        announce(server._server.sockets[0].getsockname()[1])  # type: ignore[union-attr]
        await server.wait_closed()

    asyncio.run(main())


def serve_grpcio() -> None:
    import grpc

    async def echo(request: bytes, _context: Any) -> bytes:
        return request

    async def main() -> None:
        server = grpc.aio.server()
        handlers: dict[str, Any] = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Bench", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        announce(port)
        await server.wait_for_termination()

    asyncio.run(main())


SERVERS: dict[str, Callable[[], None]] = {
    **{f"acceptor, {backend}": partial(serve_acceptor, backend) for backend in BACKENDS},
    "grpclib, asyncio": serve_grpclib,
    "grpcio, asyncio": serve_grpcio,
}


class ServerProcess:
    def __init__(self, name: str) -> None:
        self._process = subprocess.Popen([sys.executable, __file__, "--serve", name], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def __enter__(self) -> int:
        return self.port

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


# --- clients ----------------------------------------------------------------------------------


class Figure(NamedTuple):
    """Calls per second, and microseconds of this process's processor time for each."""

    rate: float
    cpu: float


async def rate(call: Callable[[], Awaitable[Any]], concurrency: int, seconds: float) -> Figure:
    """Calls per second, by as many tasks as are asked for."""
    await call()
    count = 0
    cpu = time.process_time()
    end = time.perf_counter() + seconds

    async def loop() -> None:
        nonlocal count
        while time.perf_counter() < end:
            await call()
            count += 1

    began = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(concurrency):
            tasks.start_soon(loop)
    return Figure(count / (time.perf_counter() - began), (time.process_time() - cpu) / count * 1e6)


async def channel(port: int, concurrency: int, seconds: float) -> Figure:
    async with Channel(f"http://127.0.0.1:{port}") as channel:
        return await rate(lambda: channel.unary(ECHO, PAYLOAD), concurrency, seconds)


async def grpclib_channel(port: int, concurrency: int, seconds: float) -> Figure:
    from grpclib.client import Channel as StockChannel
    from grpclib.client import UnaryUnaryMethod

    async with StockChannel("127.0.0.1", port, codec=Codec()) as stock:
        method: Any = UnaryUnaryMethod(stock, ECHO.path, bytes, bytes)
        return await rate(lambda: method(PAYLOAD), concurrency, seconds)


async def grpcio_channel(port: int, concurrency: int, seconds: float) -> Figure:
    import grpc

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as stock:
        method = cast("Callable[[bytes], Awaitable[bytes]]", stock.unary_unary(ECHO.path))
        return await rate(lambda: method(PAYLOAD), concurrency, seconds)


CLIENTS: dict[str, tuple[Callable[[int, int, float], Awaitable[Figure]], str]] = {
    "grpclib, asyncio": (grpclib_channel, "asyncio"),
    "grpcio, asyncio": (grpcio_channel, "asyncio"),
    **{f"channel, {backend}": (channel, backend) for backend in BACKENDS},
}


def row(name: str, found: list[Figure], reference: list[Figure]) -> None:
    rates = "".join(f"{figure.rate:8.0f}" for figure in found)
    ratios = "".join(f"{figure.rate / other.rate:8.2f}" for figure, other in zip(found, reference, strict=True))
    costs = "".join(f"{figure.cpu:8.0f}" for figure in found)
    print(f"{name:20}{rates} |{ratios} |{costs}", flush=True)


def head(title: str) -> None:
    columns = "".join(f"{n:8}" for n in CONCURRENCY)
    print(f"\n{title:20}{columns} |{columns} |{columns}")


def figures(client: str, port: int, seconds: float) -> list[Figure]:
    measure, backend = CLIENTS[client]
    return [anyio.run(measure, port, concurrency, seconds, **BACKENDS[backend]) for concurrency in CONCURRENCY]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", type=float, nargs="?", default=1.0)
    parser.add_argument("--serve", choices=list(SERVERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        SERVERS[options.serve]()
        return
    print("unary echo of 200 bytes: calls a second | ratio to the first line | the client's CPU microseconds a call")
    for server in (f"acceptor, {'uvloop' if UVLOOP else 'asyncio'}", "grpcio, asyncio"):
        with ServerProcess(server) as port:
            head(f"-> {server}")
            reference: list[Figure] = []
            for client in CLIENTS:
                found = figures(client, port, options.seconds)
                reference = reference or found
                row(client, found, reference)
    head("<- grpcio, asyncio")
    reference = []
    for server in ("grpclib, asyncio", *(name for name in SERVERS if name != "grpclib, asyncio")):
        with ServerProcess(server) as port:
            found = figures("grpcio, asyncio", port, options.seconds)
            reference = reference or found
            row(server, found, reference)


if __name__ == "__main__":
    main()
