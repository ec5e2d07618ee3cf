"""Both ends of a connection for tests: a real acceptor, and peers that speak HTTP/2 by hand and badly."""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream, TaskGroup
from hpack import Decoder, Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from flovyn.server.acceptor import AcceptorOptions, Call, Drain, Peer, Routes, serve
from flovyn.wire.transport import Method, Shape

ECHO = Method("/test.Test/Echo", bytes, bytes, Shape.UNARY)
HANG = Method("/test.Test/Hang", bytes, bytes, Shape.UNARY)
COUNT = Method("/test.Test/Count", bytes, bytes, Shape.SERVER_STREAM)
JOIN = Method("/test.Test/Join", bytes, bytes, Shape.CLIENT_STREAM)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GONE = (OSError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


async def until(condition: Callable[[], bool]) -> None:
    """Waits for a state, for 5 seconds at most."""
    with anyio.fail_after(5):
        while not condition():
            await anyio.sleep(0.002)


@asynccontextmanager
async def serving(
    routes: Routes,
    options: AcceptorOptions | None = None,
    on_disconnect: Callable[[Peer], None] = lambda _: None,
    drain: Drain | None = None,
) -> AsyncGenerator[str]:
    """An acceptor on a free port; gives its URL."""
    async with anyio.create_task_group() as tasks:
        start: Any = partial(serve, routes, ("127.0.0.1", 0), options=options, on_disconnect=on_disconnect, drain=drain)
        host, port = await tasks.start(start)
        yield f"http://{host}:{port}"
        tasks.cancel_scope.cancel()


class Service:
    """Handlers that remember what happened to them."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.requests: list[bytes] = []
        self.hanging = 0
        self.cancelled = 0
        self.closed = 0
        self.release = anyio.Event()
        self.routes = Routes()
        self.routes.unary(ECHO, self.echo)
        self.routes.unary(HANG, self.hang)
        self.routes.server_stream(COUNT, self.count)
        self.routes.client_stream(JOIN, self.join)

    async def echo(self, call: Call, request: bytes) -> bytes:
        self.calls.append(call)
        self.requests.append(request)
        return request

    async def hang(self, call: Call, request: bytes) -> bytes:
        self.calls.append(call)
        self.hanging += 1
        try:
            await self.release.wait()
        except BaseException:
            self.cancelled += 1
            raise
        finally:
            self.hanging -= 1
        return request

    async def count(self, call: Call, request: bytes) -> AsyncIterator[bytes]:
        """As many messages as asked for, of the size asked for; then it hangs, if asked to."""
        number, size, *hang = (int(each) for each in request.split(b" "))
        try:
            for index in range(number):
                yield b"%d" % index + b"." * size
            if hang:
                await self.release.wait()
        except BaseException:
            self.cancelled += 1
            raise
        finally:
            self.closed += 1

    async def join(self, call: Call, requests: AsyncIterator[bytes]) -> bytes:
        parts = [part async for part in requests]
        return b"".join(parts)


def prefixed(data: bytes) -> bytes:
    return struct.pack(">BI", 0, len(data)) + data


class RawPeer:
    """One end of an HTTP/2 connection, frame by frame."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self.encoder = Encoder()
        self.decoder = Decoder()
        self._buffer = bytearray()

    async def read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._buffer += await self.stream.receive()
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    async def handshake(self, settings: dict[int, int] | None = None) -> None:
        """As a server: hears the preface and announces its settings."""
        assert await self.read(len(PREFACE)) == PREFACE
        await self.send(SettingsFrame(0, settings=settings or {}))

    async def send(self, *frames: Frame | bytes) -> None:
        await self.stream.send(b"".join(each if isinstance(each, bytes) else each.serialize() for each in frames))

    async def frame(self) -> Frame:
        header = memoryview(await self.read(9))
        frame, length = Frame.parse_frame_header(header)
        frame.parse_body(memoryview(await self.read(length)))
        return frame

    async def next(self, *kinds: type[Frame]) -> Any:
        """The next frame of one of these kinds; others are read over, header blocks are decoded."""
        while True:
            frame = await self.frame()
            if isinstance(frame, HeadersFrame):
                frame.headers = self.decoder.decode(frame.data)  # type: ignore[attr-defined]
            if isinstance(frame, kinds):
                return frame

    async def request(self) -> int:
        """Reads over one whole request and gives its stream."""
        while True:
            frame = await self.next(DataFrame, HeadersFrame)
            if "END_STREAM" in frame.flags:
                return int(frame.stream_id)

    def headers(self, stream_id: int, *headers: tuple[str, str], end: bool = False) -> Frame:
        flags = ["END_HEADERS", "END_STREAM"] if end else ["END_HEADERS"]
        return HeadersFrame(stream_id, self.encoder.encode(headers), flags=flags)

    def begin(self, stream_id: int) -> Frame:
        return self.headers(stream_id, (":status", "200"), ("content-type", "application/grpc"))

    def data(self, stream_id: int, data: bytes, *, end: bool = False) -> Frame:
        return DataFrame(stream_id, data, flags=["END_STREAM"] if end else [])

    def trailers(self, stream_id: int, status: str = "0") -> Frame:
        return self.headers(stream_id, ("grpc-status", status), end=True)

    def answer(self, stream_id: int, data: bytes = b"ok") -> list[Frame]:
        """The frames of a whole answer."""
        return [self.begin(stream_id), self.data(stream_id, prefixed(data)), self.trailers(stream_id)]

    def call(self, stream_id: int, path: str, data: bytes | None = None, *extra: tuple[str, str]) -> list[Frame]:
        """The frames of a whole request."""
        headers = self.headers(
            stream_id,
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "test"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *extra,
        )
        return [headers] if data is None else [headers, self.data(stream_id, prefixed(data), end=True)]


def goaway(last_stream_id: int, code: int = 0, text: bytes = b"") -> Frame:
    return GoAwayFrame(0, last_stream_id=last_stream_id, error_code=code, additional_data=text)


def reset(stream_id: int, code: int) -> Frame:
    return RstStreamFrame(stream_id, error_code=code)


def ping(number: int = 0) -> Frame:
    return PingFrame(0, struct.pack("!Q", number))


def window_update(stream_id: int, increment: int) -> Frame:
    return WindowUpdateFrame(stream_id, window_increment=increment)


Script = Callable[[RawPeer], Awaitable[None]]


class RawServer:
    """Runs a script for each connection: the first for the first, the last for all that follow."""

    def __init__(self, url: str, tasks: TaskGroup) -> None:
        self.url = url
        self.tasks = tasks
        self.connections = 0


@asynccontextmanager
async def raw_server(*scripts: Script) -> AsyncGenerator[RawServer]:
    listener: Any = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    async with listener, anyio.create_task_group() as tasks:
        port = listener.extra(SocketAttribute.local_port)
        server = RawServer(f"http://127.0.0.1:{port}", tasks)

        async def accept(stream: SocketStream) -> None:
            script = scripts[min(server.connections, len(scripts) - 1)]
            server.connections += 1
            async with stream:
                try:
                    await script(RawPeer(stream))
                except GONE:
                    pass  # the client has had enough, which is what most scripts provoke

        tasks.start_soon(listener.serve, accept)
        yield server
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def raw_client(url: str, *, handshake: bool = True) -> AsyncGenerator[RawPeer]:
    """A connection to a server, with the preface sent."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    async with await anyio.connect_tcp(host, int(port)) as stream:
        peer = RawPeer(stream)
        if handshake:
            await peer.send(PREFACE, SettingsFrame(0))
        yield peer
